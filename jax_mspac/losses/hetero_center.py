"""Hetero-center loss: the two modality centers of an identity, a rival of MeCen."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import centers, distances
from jax_mspac.losses.base import FEATURES, Examples, Gather, Loss, alone, average
from jax_mspac.settings import NOT_NEGATIVE, one_of, setting


def hetero_center(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.1,
    gather: Gather = alone,
) -> jax.Array:
    """Hetero-center loss (Zhu et al., arXiv 1910.09830).

    mean_y max(||c_visible,y - c_infrared,y||^2 - margin, 0) over the identities y of the batch, c the mean of an
    identity's features in one modality. An identity without infrared examples does not count. The paper sums over the
    identities; the mean does not grow with the batch. Unit features are a reading of ours, as for MeCen.

    Several devices give their own examples and `gather`, all examples of an identity on one device: they tell each
    other only how many identities count.
    """
    own = visible_labels[:, None] == visible_labels[None, :]
    other = visible_labels[:, None] == infrared_labels[None, :]
    between = centers.means(own, distances.unit(visible)) - centers.means(other, distances.unit(infrared))
    hinge = jnp.maximum(jnp.sum(jnp.square(between), axis=1) - margin, 0.0)
    # One row per visible example: each identity counts once, however many examples it has.
    weight = jnp.any(other, axis=1) / jnp.sum(own, axis=1)
    return jnp.sum(weight * hinge) / jnp.maximum(average(jnp.sum(weight), gather), 1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeteroCenter(Loss):
    """The loss on the feature after the neck; of several parts, each of unit length, their mean."""

    feature: str = setting("after_neck", one_of(FEATURES), "which feature it sees")
    margin: float = setting(0.1, NOT_NEGATIVE, "squared distance between two centers that is free")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        loss = functools.partial(hetero_center, margin=self.margin, gather=examples.gather)
        return examples.mean_of_parts(self.feature, loss)
