"""A learned system with a metric fitted to its features once it is trained."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jax_mspac.methods import augmentation, learned, metric
from jax_mspac.methods.base import State
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedMetric(learned.Learned):
    """Implements `methods.base.Fitted` as well.

    The metric is fitted to the feature before the neck. Its projection lies beside the networks' variables.

    Attributes:
      metric: what is fitted afterwards.
    """

    features = (*learned.Learned.features, metric.FEATURE)
    metric: metric.Metric

    def init(self, key: jax.Array) -> State:
        state = super().init(key)
        images = jax.ShapeDtypeStruct((1, *self.image_size, 3), np.uint8)
        source = jax.eval_shape(lambda images: self.extract(state.variables, images, MODALITIES[0]), images)
        return _with(state, self.metric.init(source[metric.SOURCE].shape[1]))

    def extract(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        features = super().embed_normalized(variables, augmentation.normalize(images), modality)
        return {metric.SOURCE: features["before_neck"]}

    def fit(self, state: State, features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> State:
        return _with(state, self.metric.fit(features, ids, modalities))

    def is_fitted(self, state: State) -> bool:
        return metric.is_fitted(state.variables["metric"])

    def embed_normalized(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        features = super().embed_normalized(variables, images, modality)
        projected = metric.project(variables["metric"], features["before_neck"], MODALITIES.index(modality))
        return {**features, metric.FEATURE: projected}


def build(config: ConfigDict, *, num_identities: int, kind: type[LearnedMetric] = LearnedMetric, **more: Any) -> Any:
    """The network and the metric of a config, as a `kind` of `LearnedMetric` whose further fields are `more`.

    Raises:
      SettingsError: see `learned.build`.
    """
    made = Collector()
    fitted = made.of(metric.Metric, "metric", config.metric, seed=config.seed)
    made.raise_problems()
    return learned.build(config, num_identities=num_identities, kind=kind, metric=fitted, **more)


def _with(state: State, projection: metric.Projection) -> State:
    return state.replace(variables={**state.variables, "metric": projection})
