"""A learned metric at the end of a method: its settings, and its projection as a part of the variables."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jax_mspac.classical import METRICS
from jax_mspac.classical.projections import Projection, project
from jax_mspac.settings import at_least, check, one_of, setting

# Names of features: what the metric is fitted to, and what comes out of it.
SOURCE = "source"
FEATURE = "metric"

__all__ = ["FEATURE", "SOURCE", "Metric", "is_fitted", "project"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """What is fitted to features; a section of the config.

    Attributes:
      seed: of PCA; not a setting of its own.
    """

    learner: str = setting("kissme", one_of(METRICS))
    dims: int = setting(100, at_least(1), "of the features that come out of it")
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def init(self, dim: int) -> Projection:
        """The projection of features [N, dim] before it is fitted: zeros."""
        return Projection(jnp.zeros((2, dim)), jnp.zeros((2, dim, self.dims)))

    def fit(self, features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> Projection:
        """Fits features [N, D] of identities int [N] and modalities int [N].

        Raises:
          UserError: too few identities have images of both modalities, or the features are not finite.
        """
        fit = METRICS[self.learner].fit
        return fit(features, ids, modalities, dims=self.dims, max_images=len(ids), seed=self.seed)


def is_fitted(projection: Projection) -> bool:
    """Whether a projection is more than its beginning."""
    return bool(np.any(np.asarray(projection.matrices)))
