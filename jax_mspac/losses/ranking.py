"""Bi-directional top-ranking losses: visible anchors among the infrared examples, infrared ones among the visible.

Both take unit features and are sums of two means, over the visible and over the infrared anchors, in which an anchor
counts as 0 if the other modality lacks its identity or has no other one. Several devices give their own examples and
`gather`, all examples of an identity on one device: each compares its own anchors with the examples of all.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import centers, distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone
from jax_mspac.settings import NOT_NEGATIVE, setting


def dual_constrained(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.5,
    intra_margin: float = 0.1,
    intra_weight: float = 0.1,
    gather: Gather = alone,
) -> jax.Array:
    """Bi-directional dual-constrained top-ranking loss, BDTR (Ye et al., IJCAI 2018).

    An anchor a costs

        max(margin + d(a, p) - d(a, n), 0) + intra_weight max(intra_margin - d(p, n), 0)

    where d is the Euclidean distance and, of the other modality, p is the farthest example of its identity and n the
    closest one of another identity. `intra_margin` is the least distance of p and n, which are of one modality.
    """
    anchors, features, same, across = _batch(visible, visible_labels, infrared, infrared_labels, gather)
    distance = distances.euclidean(anchors, features)
    positive, negative = _farthest(distance, same & across), _closest(distance, ~same & across)
    rows = jnp.arange(len(anchors))
    inter = jnp.maximum(margin + distance[rows, positive] - distance[rows, negative], 0.0)
    intra = jnp.maximum(intra_margin - distances.between_rows(features[positive], features[negative]), 0.0)
    return _sum_of_means(inter + intra_weight * intra, same, across)


def center_constrained(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.5,
    gather: Gather = alone,
) -> jax.Array:
    """Bi-directional center-constrained top-ranking loss, eBDTR (Ye et al., TIFS 2020), in a reading of ours.

    The paper's abstract says that it merges the two constraints of BDTR into one formula by means of a center; the
    formula is not public. In our reading an anchor a costs

        max(margin + d(a, p) - d(c, n), 0)

    where d is the Euclidean distance and c the mean of all features of its identity. Of the other modality, p is the
    farthest example of its identity from a, and n the closest one of another identity to c. With one image per modality
    c is the midpoint of a and p: what pushes n away from it pushes n away from a (BDTR's first constraint) and from p
    (its second).
    """
    anchors, features, same, across = _batch(visible, visible_labels, infrared, infrared_labels, gather)
    distance = distances.euclidean(anchors, features)
    labels = jnp.concatenate([visible_labels, infrared_labels])
    own_centers = centers.means(labels[:, None] == labels[None, :], anchors)
    from_center = distances.euclidean(own_centers, features)
    positive, negative = _farthest(distance, same & across), _closest(from_center, ~same & across)
    rows = jnp.arange(len(anchors))
    loss = jnp.maximum(margin + distance[rows, positive] - from_center[rows, negative], 0.0)
    return _sum_of_means(loss, same, across)


def _batch(
    visible: jax.Array, visible_labels: jax.Array, infrared: jax.Array, infrared_labels: jax.Array, gather: Gather
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Unit features of this device [n, D] and of all [N, D]; and for all pairs of both, [n, N], whether they are of one
    identity, and of different modalities."""
    features = distances.unit(jnp.concatenate([visible, infrared]))
    labels = jnp.concatenate([visible_labels, infrared_labels])
    is_visible = jnp.arange(len(features)) < len(visible)
    same = labels[:, None] == gather(labels)[None, :]
    return features, gather(features), same, is_visible[:, None] != gather(is_visible)[None, :]


def _farthest(distance: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.argmax(jnp.where(mask, distance, -jnp.inf), axis=1)


def _closest(distance: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.argmin(jnp.where(mask, distance, jnp.inf), axis=1)


def _sum_of_means(losses: jax.Array, same: jax.Array, across: jax.Array) -> jax.Array:
    """Mean over the devices of this: the means of their losses [n] over the anchors of each modality, added up.

    Those without a positive or a negative count as 0. `same` and `across` are [n, N].
    """
    complete = jnp.any(same & across, axis=1) & jnp.any(~same & across, axis=1)
    own, everything = same.shape
    return everything / own * jnp.sum(jnp.where(complete, losses, 0.0) / jnp.sum(~across, axis=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualConstrained(Loss):
    """BDTR's loss."""

    margin: float = setting(0.5, NOT_NEGATIVE, "of the distances between the modalities")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return dual_constrained(*examples.own_sides(self.feature), margin=self.margin, gather=examples.gather)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CenterConstrained(Loss):
    """eBDTR's loss."""

    margin: float = setting(0.5, NOT_NEGATIVE, "of the distances")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return center_constrained(*examples.own_sides(self.feature), margin=self.margin, gather=examples.gather)
