"""Our side of the benchmarks of the training step and of the embedding: the library's own compiled functions."""

import time
from typing import Any

import jax
import numpy as np

from benchmarks import reporting
from benchmarks.workload import NUM_IDENTITIES, Workload
from jax_mspac import methods
from jax_mspac.evaluation.evaluator import compiled_embed
from jax_mspac.methods.base import Batch, Metrics, State
from jax_mspac.methods.players import descend
from jax_mspac.modalities import MODALITIES, VISIBLE
from jax_mspac.runtime import memory, parallel
from jax_mspac.training.nonfinite import guarded

# Scale of a residual branch in the networks compared.
_BRANCH_SCALE = 0.3
_CLASSIFIER_GAIN = 100.0


class TrainStep:
    """The step of `jax_mspac.training.loop`, and the parts of it.

    Args:
      workload: what to train.
      cache: folder of compiled programs; None for none.
      state: on the host, to start from; None for a new one, which takes a compilation.
    """

    def __init__(self, workload: Workload, cache: str | None = None, state: State | None = None):
        _use_cache(cache)
        memory.keep()
        self._devices = jax.local_devices()[:1]
        self._resident = reporting.resident_memory()
        self._method = methods.build(workload.config(), num_identities=NUM_IDENTITIES)
        self._batch = _with_device_axis(workload)
        self._state = parallel.replicate(state or initial_state(self._method), self._devices)
        self._programs: dict[str, Any] = {}
        self._flops: dict[str, float] = {}

    def device(self) -> dict[str, str]:
        return device()

    def weights(self) -> dict[str, Any]:
        """Before the first step: "params", "batch_stats" and "heads", trees of arrays on the host."""
        return weights(self._state)

    def compile(self, part: str) -> float:
        """Seconds until a part is ready to run: a name of `train_step.PARTS`."""
        program = parallel.data_parallel(self._part(part), self._devices)
        start = time.perf_counter()
        lowered = program.lower(self._state, self._put())
        self._programs[part] = lowered.compile()
        seconds = time.perf_counter() - start
        self._flops[part] = lowered.cost_analysis()["flops"]
        return seconds

    def costs(self, part: str) -> dict[str, float]:
        """Of one run of a compiled part: bytes that its operations read and write, and GB of memory that it needs."""
        compiled = self._programs[part]
        memory = compiled.memory_analysis()
        return {
            "bytes": compiled.cost_analysis()["bytes accessed"],
            "memory_GB": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e9,
        }

    def flops(self, part: str) -> float:
        """Of one run of a compiled part, as XLA counts those of the program before optimization."""
        return self._flops[part]

    def losses(self, steps: int) -> list[float]:
        """The losses of the next steps."""
        losses = []
        for _ in range(steps):
            self._state, metrics = self._programs["step"](self._state, self._put())
            losses.append(float(metrics["loss"]))
            # As `jax_mspac.training.loop` does after its first step.
            memory.give_back()
        return losses

    def seconds(self, part: str, steps: int) -> float:
        """Of some runs of a part, from uint8 images on the host; the first time it is compiled before."""
        if part not in self._programs:
            self.compile(part)
            memory.give_back()
        program = self._programs[part]
        start = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = program(self._state, self._put())
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start

    def reset_peak(self) -> None:
        """Has `peak` forget compilation; JAX cannot forget a GPU's, where kernels are tried out."""
        if self._devices[0].platform == "cpu":
            reporting.reset_peak_memory()

    def peak(self) -> float:
        """GB that stepping took at most: of a GPU's memory, or of the host's beyond the libraries."""
        if self._devices[0].platform == "cpu":
            return reporting.peak_memory() - self._resident
        return self._devices[0].memory_stats()["peak_bytes_in_use"] / 1e9

    def _put(self) -> Batch:
        return parallel.shard(self._batch, self._devices)

    def _part(self, part: str) -> Any:
        """The library's update with fewer results: the compiler leaves out what they do not depend on."""
        # As `jax_mspac.training.loop` has it.
        update = guarded(self._method.update, skip=False)
        if part == "step":
            return update
        if part == "optimizer":
            return self._descent
        kept = {"forward": ("loss",), "backward": ("loss", "gradient_norm")}[part]

        def partial_update(state: State, batch: Batch) -> tuple[State, Metrics]:
            updated, metrics = update(state, batch)
            return state, {name: metrics[name] for name in kept} | {
                "statistics": updated.variables["embedder"]["batch_stats"]
            }

        return partial_update

    def _descent(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """The optimizer's step, with the parameters in place of their gradients."""
        ((name, player),) = self._method.players.items()
        networks = {**state.variables, **state.training["networks"]}
        gradients = {network: networks[network]["params"] for network in player.networks}
        moved, optimizer = descend(player, networks, state.training["optimizers"][name], gradients)
        training = {"networks": {"heads": moved["heads"]}, "optimizers": {name: optimizer}}
        return State(state.step + 1, {"embedder": moved["embedder"]}, training), {}


class Embed:
    """The embedding as `jax_mspac.runs.evaluate` and `jax_mspac.load` run it, host to host."""

    def __init__(self, workload: Workload, state: State | None = None):
        memory.keep()
        self._method = methods.build(workload.config(), num_identities=NUM_IDENTITIES)
        self._state = state or initial_state(self._method)
        self._variables = parallel.replicate(self._state.variables)
        self._embed = compiled_embed(self._method)

    def device(self) -> dict[str, str]:
        return device()

    def weights(self) -> dict[str, Any]:
        return weights(self._state)

    def features(self, workload: Workload) -> dict[str, np.ndarray]:
        """ "before_neck" and "after_neck", float32 [batch, D]. Larger batches must come later: see `parallel`."""
        return self._embed(self._variables, workload.images(), VISIBLE)

    def seconds(self, workload: Workload, calls: int) -> list[float]:
        """Of each of some calls."""
        images = workload.images()
        return [reporting.timed(lambda: self._embed(self._variables, images, VISIBLE))[0] for _ in range(calls)]


def device() -> dict[str, str]:
    """What the program runs on: "platform", "cpu" or "gpu" or another, and "kind"."""
    first = jax.local_devices()[0]
    return {"platform": first.platform, "kind": first.device_kind}


def initial_state(method: methods.Method) -> State:
    """A state whose loss tells of every layer, on the host.

    At the start of a training run the residual branches are scaled by 0 and the logits are almost 0, so that another
    network could have the same loss.
    """
    state = jax.device_get(jax.jit(method.init)(jax.random.key(0, impl="rbg")))

    def lively(path: tuple, leaf: np.ndarray) -> np.ndarray:
        is_branch = path[-1].key == "scale" and not leaf.any()
        return np.full_like(leaf, _BRANCH_SCALE) if is_branch else leaf

    embedder, heads = state.variables["embedder"], state.training["networks"]["heads"]["params"]
    embedder = {**embedder, "params": jax.tree_util.tree_map_with_path(lively, embedder["params"])}
    heads = {"params": {**heads, "classifier": heads["classifier"] * _CLASSIFIER_GAIN}}
    return state.replace(variables={"embedder": embedder}, training={**state.training, "networks": {"heads": heads}})


def weights(state: State) -> dict[str, Any]:
    """What a peer needs to be the same network, on the host."""
    heads = state.training["networks"]["heads"]["params"]
    return jax.device_get({**state.variables["embedder"], "heads": heads})


def _with_device_axis(workload: Workload) -> Batch:
    batch = {}
    for number, (modality, samples) in enumerate(workload.batches().items()):
        count = workload.batch // len(MODALITIES)
        slots = np.arange(count, dtype=np.int32) + number * count
        batch[modality] = {name: value[None] for name, value in {**samples, "slot": slots}.items()}
    return batch


def _use_cache(folder: str | None) -> None:
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
