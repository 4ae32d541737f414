"""A learned system with a metric fitted to its features once it is trained."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jax_mspac.methods import learned, metric
from jax_mspac.methods.base import Batch, Metrics, State
from jax_mspac.modalities import MODALITIES

PyTree = Any


@dataclasses.dataclass(frozen=True)
class LearnedMetric:
    """Implements `methods.base.Method` and `methods.base.Fitted`.

    The metric is fitted to the feature before the neck. Its projection lies beside the network's variables.

    Attributes:
      network: what is trained.
      metric: what is fitted afterwards.
    """

    network: learned.Learned
    metric: metric.Metric
    learns = True
    on_host = False

    def init(self, key: jax.Array) -> State:
        state = self.network.init(key)
        images = jax.ShapeDtypeStruct((1, *self.network.image_size, 3), np.uint8)
        source = jax.eval_shape(lambda images: self.extract(state.variables, images, MODALITIES[0]), images)
        return _with(state, self.metric.init(source[metric.SOURCE].shape[1]))

    def load_pretrained(self, state: State, tensors: Mapping[str, np.ndarray], *, source: str) -> State:
        network = self.network.load_pretrained(_without(state), tensors, source=source)
        return _with(network, state.variables["metric"])

    def update(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        network, metrics = self.network.update(_without(state), batch)
        return _with(network, state.variables["metric"]), metrics

    def extract(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        return {metric.SOURCE: self.network.embed(_network(variables), images, modality)["before_neck"]}

    def fit(self, state: State, features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> State:
        return _with(_without(state), self.metric.fit(features, ids, modalities))

    def is_fitted(self, state: State) -> bool:
        return metric.is_fitted(state.variables["metric"])

    def embed(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        features = self.network.embed(_network(variables), images, modality)
        projected = metric.project(variables["metric"], features["before_neck"], MODALITIES.index(modality))
        return {**features, metric.FEATURE: projected}


def build(config: ConfigDict, *, num_identities: int) -> LearnedMetric:
    """The network and the metric of a validated config."""
    return LearnedMetric(learned.build(config, num_identities=num_identities), metric.build(config))


def _network(variables: PyTree) -> PyTree:
    return {name: part for name, part in variables.items() if name != "metric"}


def _without(state: State) -> State:
    return state.replace(variables=_network(state.variables))


def _with(state: State, projection: metric.Projection) -> State:
    return state.replace(variables={**state.variables, "metric": projection})
