"""Hetero-center triplet loss: batch-hard triplets of the centers of each identity and modality."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.kernels.maximum import largest
from jax_mspac.losses import centers, distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average
from jax_mspac.settings import NOT_NEGATIVE, setting


def hetero_center_triplet(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.3,
    gather: Gather = alone,
) -> jax.Array:
    """Hetero-center triplet loss (Liu et al., arXiv 2008.06223).

    mean_c max(margin + d(c, p) - min_n d(c, n), 0) over the centers c of all identities in both modalities, d the
    Euclidean distance. p is the center of the same identity in the other modality, n a center of another identity in
    either modality. A center without p still pushes the others away; without n, it contributes 0 to the mean.

    Several devices give their own examples and `gather`, all examples of an identity on one device: each compares its
    own centers with those of all.
    """
    own = [labels[:, None] == labels[None, :] for labels in (visible_labels, infrared_labels)]
    # One row per example, so that shapes are static: all examples of an identity and modality have the same center.
    center = jnp.concatenate(
        [centers.means(own[0], distances.bounded(visible)), centers.means(own[1], distances.bounded(infrared))]
    )
    labels = jnp.concatenate([visible_labels, infrared_labels])
    distance = distances.euclidean(center, gather(center))
    same = labels[:, None] == gather(labels)[None, :]
    positive = largest(jnp.where(same, distance, 0.0), axis=1)
    negative = -largest(jnp.where(same, -jnp.inf, -distance), axis=1)
    has_negative = jnp.any(~same, axis=1)
    loss = jnp.maximum(margin + positive - jnp.where(has_negative, negative, 0.0), 0.0)
    # Each center counts once, however many examples it has.
    weight = 1.0 / jnp.concatenate([jnp.sum(member, axis=1) for member in own])
    return jnp.sum(weight * jnp.where(has_negative, loss, 0.0)) / average(jnp.sum(weight), gather)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeteroCenterTriplet(Loss):
    """The loss of the whole feature, and of its parts."""

    margin: float = setting(0.3, NOT_NEGATIVE, "of the distances")
    stripes: float = setting(0.0, NOT_NEGATIVE, "weight of the mean of the parts' own losses, beside the whole")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        loss = functools.partial(hetero_center_triplet, margin=self.margin, gather=examples.gather)
        total = loss(*examples.own_sides(self.feature))
        if self.stripes:
            total += self.stripes * examples.mean_of_parts(self.feature, loss)
        return total
