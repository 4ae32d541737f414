"""Systems as the benchmark of their costs runs them: the library's own compiled functions."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import reporting
from benchmarks.system_costs import Work
from benchmarks.workload import NUM_IDENTITIES
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.evaluation.evaluator import compiled_embed
from jax_mspac.methods.base import Batch
from jax_mspac.modalities import MODALITIES, VISIBLE
from jax_mspac.runtime import memory, parallel
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.training.nonfinite import guarded

# All players of a system in phases play.
_LAST_PHASE = {"aligngan.feature_warmup": 0.0, "aligngan.pixel_warmup": 0.0}


def config_of(work: Work, *, kernels: str = "auto") -> ConfigDict:
    """The config of a system at a size, with its own recipe; the batch has the images that are asked for.

    A backbone of the system's own has no choice of kernels.
    """
    config = config_lib.full_size_config("sysu_mm01")
    config.method = work.method
    config = methods.configured(config)
    own = methods.named(work.method).settings
    config.data.height, config.data.width = work.height, work.width
    if "model.backbone" not in own:
        config.model.backbone, config.model.width = work.backbone, work.model_width
        config.model.kernels = kernels
    config.model.pretrained = "none"
    # Of two people at least.
    for modality in MODALITIES:
        config.batch[modality] = min(config.batch[modality], work.images // (2 * len(MODALITIES)))
    config.batch.identities = work.images // (config.batch.visible + config.batch.infrared)
    config.aligngan.identities = min(config.aligngan.identities, config.batch.identities)
    config.update_from_flattened_dict(_LAST_PHASE)
    config_lib.validate(config)
    return config


def batch_of(config: ConfigDict) -> Batch:
    """Noise, always the same, in one device's share: uint8 images and what else a step reads."""
    rng = np.random.default_rng(0)
    batch: Batch = {}
    for number, modality in enumerate(MODALITIES):
        label = np.repeat(np.arange(config.batch.identities, dtype=np.int32), config.batch[modality])
        samples = {
            "image": rng.integers(0, 256, (len(label), config.data.height, config.data.width, 3), np.uint8),
            "label": label,
            "slot": np.arange(len(label), dtype=np.int32) + number * len(label),
        }
        batch[modality] = {name: value[None] for name, value in samples.items()}
    return batch


class Counter:
    """Counts what systems cost; nothing is compiled."""

    def systems(self) -> list[str]:
        """The names of all that are learned; the step of one with a metric on top is that of another."""
        learned = [name for name, system in methods.METHODS.items() if "descriptor.name" not in system.settings]
        return [name for name in learned if name != "tone_hcml"]

    def counts(self, work: Work) -> dict[str, Any]:
        """Parameters of what embeds and of all that is trained, and FLOPs of an image: at test, and in a step."""
        config = config_of(work, kernels="native")
        method = methods.build(config, num_identities=NUM_IDENTITIES)
        state = jax.eval_shape(method.init, jax.random.key(0))
        image = jax.ShapeDtypeStruct((1, work.height, work.width, 3), jnp.uint8)
        embed = jax.jit(lambda variables, images: method.embed(variables, images, VISIBLE))
        batch = batch_of(config)
        images = sum(samples["label"].size for samples in batch.values())
        update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], jax.local_devices()[:1])
        networks = {**state.training["networks"], **state.variables}
        owned = {name for player in method.players.values() for name in player.networks}
        return {
            "backbone": config.model.backbone,
            "embedding_parameters": _size(state.variables),
            "trained_parameters": _size({name: networks[name] for name in owned}),
            "embed_flops": embed.lower(state.variables, image).cost_analysis()["flops"],
            "step_flops": update.lower(state, batch).cost_analysis()["flops"] / images,
        }


def _size(networks: Mapping[str, Any]) -> int:
    """Parameters; what is no network, a fitted metric, is left out."""
    params = [network["params"] for network in networks.values() if isinstance(network, Mapping)]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


class Program:
    """A system's step and its embedding, compiled when they are first asked for."""

    def __init__(self, work: Work):
        memory.keep()
        config = config_of(work)
        self._method = methods.build(config, num_identities=NUM_IDENTITIES)
        self._devices = jax.local_devices()[:1]
        self._batch = batch_of(config)
        images = [samples["image"][0] for samples in self._batch.values()]
        self._images = np.concatenate(images)
        state = jax.device_get(jax.jit(self._method.init)(jax.random.key(0, impl="rbg")))
        self._state = parallel.replicate(state, self._devices)
        self._variables = parallel.replicate(state.variables, self._devices)
        self._update = parallel.data_parallel(guarded(self._method.update, skip=False), self._devices)
        self._embed = compiled_embed(self._method)
        self._compiled: set[str] = set()

    def seconds(self, part: str, runs: int) -> float:
        """Of some runs of "step" or "embed", from uint8 images on the host; the first time it is compiled before."""
        run = {"step": self._step, "embed": lambda: self._embed(self._variables, self._images, VISIBLE)}[part]
        if part not in self._compiled:
            run()
            memory.give_back()
            self._compiled.add(part)
        return reporting.timed(lambda: [run() for _ in range(runs)])[0]

    def _step(self) -> None:
        self._state, metrics = self._update(self._state, parallel.shard(self._batch, self._devices))
        jax.block_until_ready(metrics)
