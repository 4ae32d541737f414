"""Hand-crafted descriptors with a learned metric: HOG or LOMO with KISSME, LFDA, CCA or CRAFT. Nothing is trained.

All are compared by cosine, as everything here is; the originals of KISSME, LFDA and CRAFT by Euclidean distance.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jax_mspac.classical import FEATURES
from jax_mspac.methods import metric
from jax_mspac.methods.base import Batch, Metrics, State, System
from jax_mspac.modalities import MODALITIES

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Handcrafted:
    """A descriptor and a metric. Implements `methods.base.Method` and `methods.base.Fitted`.

    Attributes:
      descriptor: a name of `handcrafted.FEATURES`.
      metric: what is fitted.
      image_size: (height, width) in pixels.
      steps: what the step counter says once it is fitted.
    """

    descriptor: str
    metric: metric.Metric
    image_size: tuple[int, int]
    steps: int
    learns = False
    on_host = True

    def init(self, key: jax.Array) -> State:
        dim = FEATURES[self.descriptor].dim(*self.image_size)
        return State(jnp.int32(0), {"metric": self.metric.init(dim)}, {})

    def load_pretrained(self, state: State, tensors: Mapping[str, np.ndarray], *, source: str) -> State:
        return state

    def update(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        raise NotImplementedError(f"{self.descriptor} has no parameters to train")

    def extract(self, variables: PyTree, images: np.ndarray, modality: str) -> dict[str, np.ndarray]:
        return {metric.SOURCE: FEATURES[self.descriptor].extract(images)}

    def fit(self, state: State, features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> State:
        projection = self.metric.fit(features, ids, modalities)
        return State(np.int32(self.steps), {"metric": projection}, {})

    def is_fitted(self, state: State) -> bool:
        return metric.is_fitted(state.variables["metric"])

    def embed(self, variables: PyTree, images: np.ndarray, modality: str) -> dict[str, np.ndarray]:
        features = self.extract(variables, images, modality)[metric.SOURCE]
        projected = metric.project(variables["metric"], features, MODALITIES.index(modality))
        return {metric.FEATURE: np.asarray(projected)}


def build(config: ConfigDict, *, num_identities: int) -> Handcrafted:
    """The descriptor and the metric of a validated config; `num_identities` plays no part."""
    return Handcrafted(
        descriptor=config.model.descriptor,
        metric=metric.build(config),
        image_size=(config.data.height, config.data.width),
        steps=config.train.steps,
    )


def _system(descriptor: str, learner: str, dims: int) -> System:
    return System(
        title=f"{descriptor.upper()} + {learner.upper()}",
        build=build,
        settings={
            "model.descriptor": descriptor,
            "model.metric": learner,
            "model.metric_dims": dims,
            "model.pretrained": "none",
            "model.parts": (),
            "loss.identity": "global",
            "data.height": 128,
            "data.width": 48,
            "train.steps": 1,
            "eval.feature": metric.FEATURE,
            "eval.every": 0,
            "eval.flip": False,
        },
    )


# The columns of CCA all weigh the same, so that further ones add noise.
SYSTEMS = {
    f"{descriptor}_{learner}": _system(descriptor, learner, dims)
    for descriptor in ("hog", "lomo")
    for learner, dims in (("kissme", 100), ("lfda", 100), ("cca", 30), ("craft", 100))
}
