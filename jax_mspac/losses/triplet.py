"""Triplet losses over a batch: distances to examples of the same identity below distances to other identities.

Both take this device's anchors [n, D] with labels int [n] and, on several devices, the gathered batch [N, D] with its
labels as candidates; without candidates, the anchors are these. The mean over devices is then the loss of the whole
batch, in value and gradient. An anchor among the candidates is a positive of itself, at distance 0 up to rounding:
without another positive it still pushes negatives away. An anchor without a negative contributes 0 to the mean over all
anchors.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.kernels.maximum import largest
from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Loss
from jax_mspac.settings import NOT_NEGATIVE, one_of, setting


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
    epsilon: float = 0.0,
    clip: float = 0.0,
    steepest: float = 0.0,
) -> jax.Array:
    """Weighted regularized triplet loss of AGW (Ye et al., arXiv 2001.04193).

    mean_a log(1 + exp(sum_p w_p d(a, p) - sum_n v_n d(a, n))) with w = softmax(d(a, p)) over the positives and
    v = softmax(-d(a, n)) over the negatives. The weights carry gradients, too.

    With `squared` it is the enhanced squared difference loss of CAJ (Ye et al., ICCV 2021): the difference D of the two
    sums is replaced by sign(D) D^2, and by `clip` where it is larger; 0 for no limit. Its slope 2 D grows with the
    scale of the features. With `steepest` s > 0 it is no steeper than s: from D = s / 2 on, s D - s^2 / 4.

    The public code of both adds an `epsilon` of 1e-6 to the sums that normalize the weights: sum_n exp(-d(a, n)) and
    sum_p exp(d(a, p) - max_p d(a, p)). Where all negatives are farther away than about 12, it outweighs them: the
    second sum vanishes, and the anchor does not see its negatives until the features have shrunk. CAJ's code then clips
    D^2 at 88 and has no gradient at all. Without either, as in the papers, there is always one.
    """
    distance, same = _pairs(anchors, labels, candidates, candidate_labels)
    farthest = jnp.max(jnp.where(same, distance, 0.0), axis=1)
    pull = _softmax_mean(distance, distance, same, epsilon, farthest)
    difference = pull - _softmax_mean(distance, -distance, ~same, epsilon, jnp.zeros_like(farthest))
    if squared:
        square = difference * jnp.abs(difference)
        line = steepest * difference - steepest**2 / 4
        difference = jnp.where(difference > steepest / 2, line, square) if steepest else square
    if clip:
        difference = jnp.minimum(difference, clip)
    return jnp.mean(jnp.where(jnp.any(~same, axis=1), jax.nn.softplus(difference), 0.0))


def _pairs(
    anchors: jax.Array, labels: jax.Array, candidates: jax.Array | None, candidate_labels: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Distance and whether the identity is the same, for all pairs of anchor and candidate: two arrays [n, N]."""
    if (candidates is None) != (candidate_labels is None):
        raise ValueError("candidates and candidate_labels belong together: give both or neither")
    if candidates is None or candidate_labels is None:
        candidates, candidate_labels = anchors, labels
    return distances.euclidean(anchors, candidates), labels[:, None] == candidate_labels[None, :]


def _softmax_mean(
    values: jax.Array, logits: jax.Array, mask: jax.Array, epsilon: float, baseline: jax.Array
) -> jax.Array:
    """Mean of the values in the mask over axis 1, weighted by the softmax of their logits; 0 for an empty mask.

    `epsilon` is added to the sum of exp(logits - baseline), baseline [n].
    """
    # A finite value, not -inf: the softmax of a row of -inf is NaN.
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    if epsilon:
        # As one more candidate, of value 0.
        logits = jnp.concatenate([logits, baseline[:, None] + math.log(epsilon)], axis=1)
    weights = jax.nn.softmax(logits, axis=1)[:, : mask.shape[1]]
    return jnp.sum(weights * values, axis=1, where=mask)


PARTS = ("joined", "alone", "examples")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchHard(Loss):
    """The batch-hard triplet loss."""

    margin: float = setting(0.3, NOT_NEGATIVE, "of the distances")
    parts: str = setting(
        "joined", one_of(PARTS), "joined: of one feature; alone: each has a loss; examples: each is one more example"
    )

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        loss = functools.partial(batch_hard, margin=self.margin)
        if self.parts == "joined":
            return loss(*examples.own(self.feature), *examples.whole(self.feature))
        features, labels = examples.features[self.feature], examples.labels
        if self.parts == "examples":
            features, labels = features.reshape(-1, features.shape[-1]), jnp.repeat(labels, features.shape[1])
            return loss(features, labels, examples.gather(features), examples.gather(labels))
        pairs = features, labels, examples.gather(features), examples.gather(labels)
        return examples.over_parts(jax.vmap(loss, in_axes=(1, None, 1, None))(*pairs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedRegularized(Loss):
    """The weighted regularized triplet loss."""

    squared: bool = setting(False, None, "of the squared difference, as in CAJ")
    epsilon: float = setting(0.0, NOT_NEGATIVE, "in the weights; 1e-6 in AGW's and CAJ's code, blind to far negatives")
    clip: float = setting(0.0, NOT_NEGATIVE, "of the difference, without a gradient beyond; 0: none; 88 in CAJ's code")
    steepest: float = setting(0.0, NOT_NEGATIVE, "slope of the squared difference, linear from there on; 0: no limit")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        pairs = (*examples.own(self.feature), *examples.whole(self.feature))
        return weighted_regularized(
            *pairs, squared=self.squared, epsilon=self.epsilon, clip=self.clip, steepest=self.steepest
        )
