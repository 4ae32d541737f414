"""MPANet's center cluster loss: images close to the center of their identity, centers apart.

The form is that of the public code of Wu et al. (CVPR 2021), github.com/DoubtedSteam/MPANet.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import centers, distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average
from jax_mspac.settings import NOT_NEGATIVE, setting


def center_cluster(features: jax.Array, labels: jax.Array, *, margin: float = 0.7, gather: Gather = alone) -> jax.Array:
    """mean_i ||f_i - c_y(i)|| + mean_y mean_j max(margin - ||c_y - c_y(j)||, 0), j the examples of other identities.

    c_y is the mean of all features of an identity y, of both modalities. Features are [n, D], labels int [n]. An
    identity without others counts as 0 in the second mean.

    Several devices give their own examples and `gather`, all examples of an identity on one device: each compares its
    own centers with those of all.
    """
    features = distances.bounded(features)
    own = labels[:, None] == labels[None, :]
    # One row per example, so that shapes are static: all examples of an identity have the same center.
    center = centers.means(own, features)
    others = labels[:, None] != gather(labels)[None, :]
    near = jnp.maximum(margin - distances.euclidean(center, gather(center)), 0.0)
    near = jnp.sum(jnp.where(others, near, 0.0), axis=1) / jnp.maximum(jnp.sum(others, axis=1), 1)
    # Each identity counts once, however many examples it has.
    weight = 1.0 / jnp.sum(own, axis=1)
    apart = jnp.sum(weight * near) / average(jnp.sum(weight), gather)
    return jnp.mean(distances.between_rows(features, center)) + apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class CenterCluster(Loss):
    """The loss on features that are not normalized."""

    margin: float = setting(0.7, NOT_NEGATIVE, "distance between two centers from which on they are apart")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return center_cluster(*examples.own(self.feature), margin=self.margin, gather=examples.gather)
