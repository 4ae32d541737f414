"""Hand-crafted descriptors with a learned metric: HOG or LOMO with KISSME, LFDA, CCA or CRAFT. Nothing is trained.

All are compared by cosine, as everything here is; the originals of KISSME, LFDA and CRAFT by Euclidean distance.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.classical import FEATURES
from jax_mspac.methods import metric
from jax_mspac.methods.base import State, System
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector, check, one_of, setting

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descriptor:
    """Which descriptor, and at which images; a section of the config."""

    name: str = setting("hog", one_of(FEATURES))

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class Handcrafted:
    """A descriptor and a metric. Implements `methods.base.Fitted`; everything is numpy.

    Attributes:
      descriptor: a name of `classical.FEATURES`.
      metric: what is fitted.
      image_size: (height, width) in pixels.
      steps: what the step counter says once it is fitted.
    """

    features = (metric.FEATURE,)
    descriptor: str
    metric: metric.Metric
    image_size: tuple[int, int]
    steps: int

    def init(self, key: jax.Array) -> State:
        dim = FEATURES[self.descriptor].dim(*self.image_size)
        return State(jnp.int32(0), {"metric": self.metric.init(dim)}, {})

    def extract(self, variables: PyTree, images: np.ndarray, modality: str) -> dict[str, np.ndarray]:
        return {metric.SOURCE: FEATURES[self.descriptor].extract(images)}

    def fit(self, state: State, features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> State:
        projection = self.metric.fit(features, ids, modalities)
        return State(jnp.int32(self.steps), {"metric": projection}, {})

    def is_fitted(self, state: State) -> bool:
        return metric.is_fitted(state.variables["metric"])

    def embed(self, variables: PyTree, images: np.ndarray, modality: str) -> dict[str, np.ndarray]:
        features = self.extract(variables, images, modality)[metric.SOURCE]
        projected = metric.project(variables["metric"], features, MODALITIES.index(modality))
        return {metric.FEATURE: np.asarray(projected)}


def build(config: ConfigDict, *, num_identities: int) -> Handcrafted:
    """The descriptor and the metric of a config; `num_identities` plays no part.

    Raises:
      SettingsError: lists the settings that are out of their ranges.
    """
    made = Collector()
    descriptor = made.of(Descriptor, "descriptor", config.descriptor)
    fitted = made.of(metric.Metric, "metric", config.metric, seed=config.seed)
    made.raise_problems()
    return Handcrafted(descriptor.name, fitted, (config.data.height, config.data.width), config.train.steps)


def _system(descriptor: str, learner: str, dims: int) -> System:
    return System(
        title=f"{descriptor.upper()} + {learner.upper()}",
        build=build,
        settings={
            "descriptor.name": descriptor,
            "metric.learner": learner,
            "metric.dims": dims,
            "model.pretrained": "none",
            "data.height": 128,
            "data.width": 48,
            "train.steps": 1,
            "eval.feature": metric.FEATURE,
            "eval.every": 0,
            "eval.flip": False,
        },
        sections={"descriptor": Descriptor, "metric": metric.Metric},
    )


# The columns of CCA all weigh the same, so that further ones add noise.
SYSTEMS = {
    f"{descriptor}_{learner}": _system(descriptor, learner, dims)
    for descriptor in ("hog", "lomo")
    for learner, dims in (("kissme", 100), ("lfda", 100), ("cca", 30), ("craft", 100))
}
