"""Cross-modality triplet loss: an image, one of the same person and one of another, both of the other modality."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average
from jax_mspac.settings import NOT_NEGATIVE, setting


def cross_modality_triplet(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 1.4,
    gather: Gather = alone,
) -> jax.Array:
    """Cross-modality triplet loss of cmGAN (Dai et al., IJCAI 2018): the sum over both directions of

        mean_a mean_p mean_n max(margin + d(a, p) - d(a, n), 0)

    where a is of one modality, p and n are of the other, p of the identity of a and n of another one, and d is the
    Euclidean distance. The public code draws a triplet for each anchor; this is the mean over all that a batch has. An
    anchor without a positive or a negative does not count.

    Several devices give their own examples and `gather`: each takes its own as anchors, against all of the other
    modality.
    """
    loss = jnp.zeros(())
    for anchors, labels, others, other_labels in (
        (visible, visible_labels, infrared, infrared_labels),
        (infrared, infrared_labels, visible, visible_labels),
    ):
        same = labels[:, None] == gather(other_labels)[None, :]
        loss += _one_way(distances.euclidean(anchors, gather(others)), same, margin, gather)
    return loss


def _one_way(distance: jax.Array, same: jax.Array, margin: float, gather: Gather) -> jax.Array:
    """The mean over anchors, of distances [n, m] to the other modality and whether the identity is the same."""
    positive, negative = same.astype(jnp.float32), (~same).astype(jnp.float32)
    hinge = jnp.maximum(margin + distance[:, :, None] - distance[:, None, :], 0.0)
    triplets = jnp.sum(positive, axis=1) * jnp.sum(negative, axis=1)
    of_anchor = jnp.einsum("apn,ap,an->a", hinge, positive, negative) / jnp.maximum(triplets, 1.0)
    count = average(jnp.sum(triplets > 0, dtype=jnp.float32), gather)
    return jnp.sum(of_anchor) / jnp.maximum(count, 1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossModalityTriplet(Loss):
    """The loss of cmGAN."""

    margin: float = setting(1.4, NOT_NEGATIVE, "of the distances")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return cross_modality_triplet(*examples.own_sides(self.feature), margin=self.margin, gather=examples.gather)
