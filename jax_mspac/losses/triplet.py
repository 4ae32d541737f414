"""Triplet losses over a batch: distances to examples of the same identity below distances to other identities.

Both take this device's anchors [n, D] with labels int [n] and, on several devices, the gathered batch [N, D] with its
labels as candidates; without candidates, the anchors are these. The mean over devices is then the loss of the whole
batch, in value and gradient. An anchor among the candidates is a positive of itself, at distance 0 up to rounding:
without another positive it still pushes negatives away. An anchor without a negative contributes 0 to the mean over all
anchors.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.kernels.maximum import largest
from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Loss
from jax_mspac.settings import NOT_NEGATIVE, setting


def batch_hard(
    anchors: jax.Array,
    labels: jax.Array,
    candidates: jax.Array | None = None,
    candidate_labels: jax.Array | None = None,
    *,
    margin: float | None,
) -> jax.Array:
    """Batch-hard triplet loss (Hermans et al., arXiv 1703.07737).

    mean_a max(margin + max_p d(a, p) - min_n d(a, n), 0), d the Euclidean distance.
    Without a margin it is soft: log(1 + exp(max_p d(a, p) - min_n d(a, n))).
    """
    distance, same = _pairs(anchors, labels, candidates, candidate_labels)
    hardest_positive = largest(jnp.where(same, distance, 0.0), axis=1)
    hardest_negative = -largest(jnp.where(same, -jnp.inf, -distance), axis=1)
    has_negative = jnp.any(~same, axis=1)
    difference = hardest_positive - jnp.where(has_negative, hardest_negative, 0.0)
    loss = jax.nn.softplus(difference) if margin is None else jnp.maximum(difference + margin, 0.0)
    return jnp.mean(jnp.where(has_negative, loss, 0.0))


def weighted_regularized(
    anchors: jax.Array,
    labels: jax.Array,
    candidates: jax.Array | None = None,
    candidate_labels: jax.Array | None = None,
    *,
    squared: bool = False,
) -> jax.Array:
    """Weighted regularized triplet loss of AGW (Ye et al., arXiv 2001.04193).

    mean_a log(1 + exp(sum_p w_p d(a, p) - sum_n v_n d(a, n))) with w = softmax(d(a, p)) over the positives and
    v = softmax(-d(a, n)) over the negatives. The weights carry gradients, too.

    With `squared` it is the enhanced squared difference loss of CAJ (Ye et al., ICCV 2021): the difference D of the two
    sums is replaced by sign(D) D^2. CAJ clips D^2 at 88, where its gradient vanishes; here it grows on.
    """
    distance, same = _pairs(anchors, labels, candidates, candidate_labels)
    difference = _softmax_mean(distance, distance, same) - _softmax_mean(distance, -distance, ~same)
    if squared:
        difference = difference * jnp.abs(difference)
    return jnp.mean(jnp.where(jnp.any(~same, axis=1), jax.nn.softplus(difference), 0.0))


def _pairs(
    anchors: jax.Array, labels: jax.Array, candidates: jax.Array | None, candidate_labels: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Distance and whether the identity is the same, for all pairs of anchor and candidate: two arrays [n, N]."""
    if (candidates is None) != (candidate_labels is None):
        raise ValueError("candidates and candidate_labels belong together: give both or neither")
    if candidates is None:
        candidates, candidate_labels = anchors, labels
    return distances.euclidean(anchors, candidates), labels[:, None] == candidate_labels[None, :]


def _softmax_mean(values: jax.Array, logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values in the mask over axis 1, weighted by the softmax of their logits; 0 for an empty mask."""
    # A finite baseline, not -inf: the softmax of a row of -inf is NaN.
    weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(jnp.float32).min), axis=1)
    return jnp.sum(weights * values, axis=1, where=mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchHard(Loss):
    """The batch-hard triplet loss."""

    margin: float = setting(0.3, NOT_NEGATIVE, "of the distances")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return batch_hard(*examples.own(self.feature), *examples.whole(self.feature), margin=self.margin)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedRegularized(Loss):
    """The weighted regularized triplet loss."""

    squared: bool = setting(False, None, "of the squared difference, as in CAJ")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        pairs = (*examples.own(self.feature), *examples.whole(self.feature))
        return weighted_regularized(*pairs, squared=self.squared)
