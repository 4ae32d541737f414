"""The peer's side of the benchmarks of the training step and of the embedding: PyTorch, eager or compiled."""

import gc
import os
import time
from typing import Any

import numpy as np
import torch

from benchmarks import peers, reporting
from benchmarks.workload import FORMATS, NUM_IDENTITIES, Workload
from jax_mspac.modalities import VISIBLE

_FORMATS = dict(zip(FORMATS, (torch.contiguous_format, torch.channels_last), strict=True))


class _Program:
    """A network with our weights.

    Args:
      workload: what to run.
      weights: see `peers.load`.
      memory_format: a name of `workload.FORMATS`.
      compiled: whether under `torch.compile`.
    """

    def __init__(self, workload: Workload, weights: dict[str, Any], memory_format: str, compiled: bool):
        # What an earlier run compiled would make the first steps of this one look fast.
        os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        # As many as XLA takes; by default torch takes half of the hardware threads.
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            # XLA's default there: float32 products in TF32.
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        self._resident = reporting.resident_memory()
        self._config = workload.config()
        self._name = f"torch{'.compile' if compiled else ''}, {memory_format}"
        network = peers.Network(self._config, num_identities=NUM_IDENTITIES)
        peers.load(network, weights)
        self._network = network.to(self._device, memory_format=_FORMATS[memory_format])

    def program(self) -> str:
        return self._name

    def device(self) -> dict[str, str]:
        """What the program runs on, with JAX's names of platforms."""
        if self._device.type == "cpu":
            return {"platform": "cpu", "kind": "cpu"}
        return {"platform": "gpu", "kind": torch.cuda.get_device_name()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.model.dtype == "bfloat16")

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


class TrainStep(_Program):
    """Forward pass, backward pass and SGD step."""

    def __init__(self, workload: Workload, weights: dict[str, Any], memory_format: str, compiled: bool):
        super().__init__(workload, weights, memory_format, compiled)
        self._loss = torch.compile(self._network, dynamic=False) if compiled else self._network
        self._optimizer = peers.sgd(self._network, self._config)
        batches = workload.batches()
        self._images = {modality: self._on_host(samples["image"]) for modality, samples in batches.items()}
        self._labels = self._on_host(
            np.concatenate([samples["label"] for samples in batches.values()]).astype(np.int64)
        )

    def losses(self, steps: int) -> list[float]:
        """The losses of the next steps."""
        return [float(self._run("step")) for _ in range(steps)]

    def seconds(self, part: str, steps: int) -> float:
        """Of some runs of a part, a name of `train_step.PARTS`, from uint8 images on the host."""
        start = time.perf_counter()
        for _ in range(steps):
            if part == "optimizer":
                self._optimizer.step()
            else:
                self._run(part)
        self._synchronize()
        return time.perf_counter() - start

    def reset_peak(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            reporting.reset_peak_memory()

    def peak(self) -> float:
        """GB that stepping took at most: of a GPU's memory, or of the host's beyond the libraries."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 1e9
        return reporting.peak_memory() - self._resident

    def _run(self, part: str) -> torch.Tensor:
        images = {modality: x.to(self._device, non_blocking=True) for modality, x in self._images.items()}
        labels = self._labels.to(self._device, non_blocking=True)
        with torch.set_grad_enabled(part != "forward"), self._autocast():
            loss = self._loss(images, labels)
        if part != "forward":
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if part == "step":
            self._optimizer.step()
        return loss.detach()

    def _on_host(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._device.type == "cuda" else tensor


class Several:
    """Programs of several workloads in one process: importing torch takes longer than most measurements."""

    def __init__(self):
        self._program: Any = None

    def platform(self) -> str:
        """What torch finds here, "gpu" or "cpu"."""
        return "gpu" if torch.cuda.is_available() else "cpu"

    def make(self, kind: str, *arguments: Any) -> None:
        """Puts another program, "TrainStep" or "Embed", in the place of the present one."""
        self.drop()
        self._program = {"TrainStep": TrainStep, "Embed": Embed}[kind](*arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method of the present program returns."""
        return getattr(self._program, method)(*arguments)

    def drop(self) -> None:
        """Gives the program's memory back."""
        self._program = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Embed(_Program):
    """The embedding of uint8 images, host to host."""

    def __init__(self, workload: Workload, weights: dict[str, Any], memory_format: str, compiled: bool):
        super().__init__(workload, weights, memory_format, compiled)
        self._network.eval()
        self._embed = torch.compile(self._network.embed, dynamic=False) if compiled else self._network.embed

    def features(self, workload: Workload) -> dict[str, np.ndarray]:
        """ "before_neck" and "after_neck", float32 [batch, D]."""
        return self._features(workload.images())

    def seconds(self, workload: Workload, calls: int) -> list[float]:
        """Of each of some calls."""
        images = workload.images()
        return [reporting.timed(lambda: self._features(images))[0] for _ in range(calls)]

    def _features(self, images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode(), self._autocast():
            features = self._embed({VISIBLE: torch.from_numpy(images).to(self._device)})
            # The copies to the host wait for the device.
            host = [feature.float().cpu().numpy() for feature in features]
        return dict(zip(("before_neck", "after_neck"), host, strict=True))
