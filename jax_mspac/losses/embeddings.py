"""DEEN's losses of several embeddings of an image: close to the other modality, and different from each other.

The forms are those of the public code of Zhang and Wang (CVPR 2023), github.com/ZYK100/LLCM.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.kernels.maximum import largest
from jax_mspac.losses import centers, distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average
from jax_mspac.settings import NOT_NEGATIVE, setting


def pair_mining(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.2,
    gather: Gather = alone,
) -> jax.Array:
    """Center-guided pair mining of one branch.

    Features are [n, 2, D] and [m, 2, D]: the original embedding of an image, then the branch's. With the centers v and
    i of each identity's originals, v' and i' of its branch, d the Euclidean distance, and n(x) the distance of a center
    x to the nearest one of its kind of another identity, the loss is half of

        mean [d(i, v') - sg d(v, v') + m]+ + 1/2 [d(i, v') - n(v') + m]+ + 1/2 [d(i, v') - n(v) + m]+

    plus the same with the modalities exchanged; sg stops the gradient. An identity without images of a modality, and
    terms with n where there is no other identity, count as 0 in the mean over all identities.

    Several devices give their own examples and `gather`, all examples of an identity on one device: each compares its
    own centers with those of all.
    """
    labels = jnp.concatenate([visible_labels, infrared_labels])
    # One row per example, so that shapes are static: all examples of an identity have the same centers.
    member = {m: labels[:, None] == own[None, :] for m, own in (("v", visible_labels), ("i", infrared_labels))}
    sides = {"v": distances.bounded(visible), "i": distances.bounded(infrared)}
    center = {(m, k): centers.means(member[m], sides[m][:, k]) for m in "vi" for k in (0, 1)}
    has = {m: jnp.any(member[m], axis=1) for m in "vi"}
    same = labels[:, None] == gather(labels)[None, :]

    def hinge(x: jax.Array) -> jax.Array:
        return jnp.maximum(x + margin, 0.0)

    def away(pull: jax.Array, m: str, k: int) -> jax.Array:
        others = ~same & gather(has[m])[None, :]
        distance = distances.euclidean(center[m, k], gather(center[m, k]))
        nearest = -largest(jnp.where(others, -distance, -jnp.inf), axis=1)
        any_other = jnp.any(others, axis=1)
        return jnp.where(any_other, hinge(pull - jnp.where(any_other, nearest, 0.0)), 0.0)

    loss = jnp.zeros(len(labels))
    for own, other in (("v", "i"), ("i", "v")):
        pull = distances.between_rows(center[other, 0], center[own, 1])
        push = jax.lax.stop_gradient(distances.between_rows(center[own, 0], center[own, 1]))
        loss += 0.5 * (hinge(pull - push) + 0.5 * (away(pull, own, 1) + away(pull, own, 0)))
    # Each identity counts once, however many examples it has.
    weight = 1.0 / jnp.sum(same, axis=1)
    return jnp.sum(weight * jnp.where(has["v"] & has["i"], loss, 0.0)) / average(jnp.sum(weight), gather)


def alignment(branches: jax.Array) -> jax.Array:
    """How much the branches of an image agree: the sum of their inner products over K + 1, and the mean over all n.

    The embeddings [n, K, D] are those of the K branches alone; the public code, whose K is 2, divides by the number of
    all embeddings.
    """
    branches = distances.bounded(branches)
    products = jnp.einsum("nkd,nld->nkl", branches, branches, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.triu(products, 1)) / (len(branches) * (branches.shape[1] + 1))


class OfEmbeddings(Loss):
    """A loss of a network with `model.diverse_embeddings`: of features [n, 3, D]."""

    needs = "model.diverse_embeddings"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairMining(OfEmbeddings):
    """The sum of center-guided pair mining over the branches."""

    margin: float = setting(0.2, NOT_NEGATIVE, "of the distances")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        features, n = examples.features[self.feature], examples.num_visible
        loss = functools.partial(pair_mining, margin=self.margin, gather=examples.gather)
        branches = [
            loss(features[:n, [0, k]], examples.labels[:n], features[n:, [0, k]], examples.labels[n:])
            for k in range(1, features.shape[1])
        ]
        return jnp.sum(jnp.stack(branches))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignment(OfEmbeddings):
    """How much the two branches agree, to be kept low: DEEN's orthogonality loss."""

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return alignment(examples.features[self.feature][:, 1:])
