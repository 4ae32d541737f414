"""What the benchmarks of the training step and of the embedding share: network, images, flags, comparison.

Imports neither JAX nor torch: each is for a process of its own.
"""

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime.fields import ConfigDict

# Of SYSU-MM01's training set.
NUM_IDENTITIES = 395
# Torch's memory formats.
FORMATS = ("contiguous", "channels_last")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A network at some size, MSPAC-MeCen unless another is named.

    Attributes:
      backbone: "resnet18", "resnet34" or "resnet50".
      batch: images, of both modalities together.
      dtype: "float32" or "bfloat16".
      height, width: of the images, in pixels.
      model_width: channels of the stem; 64 is the published network.
      parts: of the attention.
      method: a name of `jax_mspac.methods.METHODS`.
    """

    backbone: str
    batch: int
    dtype: str = "float32"
    height: int = 288
    width: int = 144
    model_width: int = 64
    parts: tuple[int, ...] = (6, 3, 1)
    method: str = "mspac"

    def config(self) -> ConfigDict:
        """The project's own defaults, without random augmentation and at a constant rate."""
        config = config_lib.full_size_config("sysu_mm01")
        config.model.parts = self.parts
        if self.method != config.method:
            # JAX takes a second to import, and the peers do without.
            from jax_mspac import methods

            config.method = self.method
            config = methods.configured(config)
        config.data.height, config.data.width = self.height, self.width
        config.model.backbone, config.model.width = self.backbone, self.model_width
        config.model.dtype, config.model.pretrained = self.dtype, "none"
        config.augment.pad, config.augment.flip, config.augment.erasing = 0, 0.0, 0.0
        config.optimizer.schedule, config.optimizer.warmup = "constant", 0.0
        # From random weights larger steps are chaotic: rounding alone would part the losses by per cents.
        config.optimizer.learning_rate = 0.001
        return config

    def batches(self) -> dict[str, dict[str, np.ndarray]]:
        """Modality -> "image", uint8 [batch / 2, H, W, 3], and "label", int32 [batch / 2]: noise, always the same."""
        rng = np.random.default_rng(0)
        each = self.batch // len(MODALITIES)
        return {
            modality: {
                "image": rng.integers(0, 256, (each, self.height, self.width, 3), np.uint8),
                "label": rng.integers(0, NUM_IDENTITIES, each, np.int32),
            }
            for modality in MODALITIES
        }

    def images(self) -> np.ndarray:
        """uint8 [batch, H, W, 3] of one modality: noise, always the same."""
        return np.random.default_rng(0).integers(0, 256, (self.batch, self.height, self.width, 3), np.uint8)


def add_flags(parser: argparse.ArgumentParser, *, batch: list[int]) -> None:
    """Adds the flags that `chosen` reads; `batch` is the default of --batch."""
    parser.add_argument("--backbone", nargs="+", default=["resnet50"], metavar="NAME", help="resnet18, resnet50")
    parser.add_argument("--batch", nargs="+", type=int, default=batch, metavar="N", help="images at a time")
    parser.add_argument("--dtype", nargs="+", default=["float32"], metavar="NAME", help="float32, bfloat16")
    parser.add_argument("--height", type=int, default=Workload.height)
    parser.add_argument("--width", type=int, default=Workload.width)
    parser.add_argument("--model-width", type=int, default=Workload.model_width, help="channels of the stem")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each program, of which the median counts")
    parser.add_argument("--no-peer", action="store_true", help="ours alone, where torch is not installed")


def chosen(flags: argparse.Namespace, *, multiple: int = 1) -> list[Workload]:
    """All combinations that the flags name; each is checked before the first is run.

    Args:
      flags: see `add_flags`.
      multiple: of which each batch has to be one.
    """
    for batch in flags.batch:
        if batch < 1 or batch % multiple:
            sys.exit(f"error: --batch is {batch}; expected a positive multiple of {multiple}")
    sizes = {"height": flags.height, "width": flags.width, "model_width": flags.model_width}
    combinations = [
        Workload(backbone=backbone, dtype=dtype, batch=batch, **sizes)
        for backbone, dtype, batch in itertools.product(flags.backbone, flags.dtype, sorted(flags.batch))
    ]
    for workload in combinations:
        try:
            config_lib.validate(workload.config())
        except UserError as error:
            sys.exit(f"error: {error}")
    return combinations


def check_same(workload: Workload, program: str, devices: Sequence[Mapping[str, str]], results: Sequence[Any]) -> None:
    """Ends the benchmark unless both programs run on the same kind of device and compute the same.

    Args:
      workload: what was computed.
      program: name of the peer.
      devices: ours, the peer's.
      results: ours, the peer's: losses, or arrays by name.
    """
    if devices[0]["platform"] != devices[1]["platform"]:
        kinds = [device["kind"] for device in devices]
        sys.exit(f"error: JAX runs on {kinds[0]}, torch on {kinds[1]}; install both for the same device")
    exact = devices[0]["platform"] == "cpu" and workload.dtype == "float32"
    tolerance = 5e-3 if exact else 5e-2
    ours, theirs = (_vector(result) for result in results)
    difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
    # Not a number is no agreement either.
    if not difference <= tolerance:
        sys.exit(f"error: {program} does not compute what we do: {workload}, relative difference {difference:.2g}")


def details(workload: Workload, device: Mapping[str, str], program: str | None) -> dict[str, Any]:
    """What tells apart the rows of both benchmarks."""
    return {
        "backbone": workload.backbone,
        "dtype": workload.dtype,
        "batch": workload.batch,
        "device": device["kind"],
        "peer_program": program,
    }


def pair(values: Sequence[float]) -> tuple[float, float | None]:
    """Ours and the peer's, if there is one."""
    ours, *peers = values
    return ours, peers[0] if peers else None


def _vector(result: Any) -> np.ndarray:
    parts = [result[name] for name in sorted(result)] if isinstance(result, Mapping) else [result]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)
