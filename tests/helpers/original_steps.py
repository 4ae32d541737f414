"""Learned systems with the weights and pixels of `originals`: their features, and what steps of training see."""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from helpers import originals
from jax_mspac import methods
from jax_mspac.config import full_size_config
from jax_mspac.methods.base import State
from jax_mspac.methods.learned import Learned
from jax_mspac.models import layouts
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runtime import parallel

LABELS = np.repeat(np.arange(2, dtype=np.int32), 2)


def agw() -> tuple[Learned, State]:
    """AGW as its recipe makes it, with the switches and the rate of the numbers, and its state of step 0."""
    config = full_size_config("sysu_mm01")
    config.method = "agw"
    config = methods.configured(config)
    config.loss.weighted_regularized.epsilon = 1e-6
    config.augment.pad, config.augment.flip = 0, 0.0
    config.optimizer.learning_rate, config.optimizer.schedule, config.optimizer.warmup = 1e-4, "constant", 0.0
    method = methods.build(config, num_identities=10)
    state = jax.eval_shape(method.init, jax.random.key(0))
    networks = {"embedder": state.variables["embedder"], "heads": state.training["networks"]["heads"]}
    embedder, heads = (originals.agw(networks[name]) for name in ("embedder", "heads"))
    optimizer = method.players["embedder"].optimizer
    optimizers = {"embedder": optimizer.init({"embedder": embedder["params"], "heads": heads["params"]})}
    training = {"networks": {"heads": heads}, "optimizers": optimizers}
    return method, State(np.int32(0), {"embedder": embedder}, training)


class Step(NamedTuple):
    """Of the eight images, visible before infrared.

    Attributes:
      features: "before_neck" and "after_neck", [8, P, D] each.
      logits: [8, P, C].
      metrics: name of a loss -> value.
      gradients: name of a tensor in the public code -> norm of its gradient.
      statistics: likewise, norm of a running statistic after the step.
    """

    features: dict[str, np.ndarray]
    logits: np.ndarray
    metrics: dict[str, float]
    gradients: dict[str, float]
    statistics: dict[str, float]


class Original:
    """The method of a config whose networks hold the tensors of `originals`.

    Attributes:
      names: of the tensors, as the public code has them.
    """

    def __init__(self, config: ConfigDict, *, num_identities: int, small: str = "$^", zeros: str):
        """Tensors whose names match `small` are a tenth of the rule's; one-dimensional weights only."""
        self._config, self._method = config, methods.build(config, num_identities=num_identities)
        self._layout = methods.named(config.method).layout
        self._names = BACKBONES[config.model.backbone].torch_names
        state = jax.eval_shape(self._method.init, jax.random.key(0))
        shapes = {**state.variables, **state.training["networks"]}
        empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        tensors = layouts.tensors_of(empty, self._layout, self._names, source="zeros")
        self.names = set(tensors)
        for name, value in tensors.items():
            if value.ndim and not re.fullmatch(zeros, name):
                tensors[name] = originals.tensor(name, value.shape)
                if re.fullmatch(small, name):
                    tensors[name] *= 0.1
        self._networks = layouts.load(empty, tensors, self._layout, self._names, source="rule")
        self._images = originals.pixels(config.data.height, config.data.width)
        self._device = jax.local_devices()[:1]

    def embedded(self) -> dict[str, dict[str, np.ndarray]]:
        """Modality -> features in inference."""
        variables = {"embedder": self._networks["embedder"]}
        embed = jax.jit(self._method.embed_normalized, static_argnums=2)
        return {modality: jax.device_get(embed(variables, x, modality)) for modality, x in self._images.items()}

    def step(self, *more: Any) -> Step:
        """What the first step of training computes; `more`, arrays, is of the view beside images and labels."""
        batch = parallel.shard(jax.tree.map(lambda x: x[None], self._images), self._device)
        seen = self._observed((self._networks, more), batch)
        (metrics, gradients, statistics), (features, logits) = jax.device_get(seen)
        with_gradients = {name: {**self._networks[name], "params": gradients[name]} for name in gradients}
        after = {name: {**self._networks[name], "batch_stats": stats} for name, stats in statistics.items()}
        metrics = {name: float(value) for name, value in metrics.items()}
        return Step(features, logits, metrics, self._norms(with_gradients), self._norms({**self._networks, **after}))

    @functools.cached_property
    def _observed(self) -> Callable[[Any, Any], Any]:
        """Of networks and `more`, and of images; compiled once for all steps."""
        method = self._method

        def observed(given: Any, images: Any) -> tuple[Any, Any]:
            networks, more = given

            def loss(params: Any) -> Any:
                own = {name: {**networks[name], "params": params[name]} for name in params}
                total, outcome = method.loss(own, (images, np.tile(LABELS, 2), *more), jax.random.key(0))
                return total, outcome

            params = {name: network["params"] for name, network in networks.items()}
            gradients, outcome = jax.grad(loss, has_aux=True)(params)
            features, _ = method.embedder.apply(networks["embedder"], images, train=True, mutable=["batch_stats"])
            logits = method.heads.apply(networks["heads"], features["after_neck"])
            return (outcome.metrics, gradients, outcome.statistics), (features, logits)

        return parallel.data_parallel(observed, self._device)

    def _norms(self, networks: Any) -> dict[str, float]:
        tensors = layouts.tensors_of(networks, self._layout, self._names, source="step")
        return {name: float(np.linalg.norm(np.float64(value))) for name, value in tensors.items() if value.ndim}
