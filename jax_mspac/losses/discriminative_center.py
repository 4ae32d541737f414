"""PMT's discriminative center loss: images near the center of their identity, other people's away from it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import centers, distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average

# Where all images are one point the loss is 0 / 0. The public code leaves out distances below this.
_SMALLEST = 1e-6


def discriminative_center(features: jax.Array, labels: jax.Array, *, gather: Gather = alone) -> jax.Array:
    """Discriminative center loss (DCL; Lu et al., AAAI 2023, arXiv 2212.00226).

    mean_a d(a, c_y(a)) / mean_y mean_n d(n, c_y), with the center c_y of all images of an identity y, of both
    modalities, all images a of the batch, and those images n of other identities that are nearer to c_y than they are
    on average; d is the Euclidean distance. A batch of one identity gives 0.

    Several devices give their own examples and `gather`, all examples of an identity on one device: each compares its
    own centers with the examples of all. Features are [n, D], labels int [n].
    """
    features = distances.bounded(features)
    all_features, all_labels = gather(features), gather(labels)
    same = labels[:, None] == labels[None, :]
    # One row per image, so that shapes are static: all images of an identity have the same center.
    center = centers.means(same, features)
    other = labels[:, None] != all_labels[None, :]
    distance = distances.euclidean(center, all_features)
    average_other = _mean(distance, other)
    near = other & (distance < average_other[:, None])
    # Where all are equally far none is nearer.
    push = jnp.where(jnp.any(near, axis=1), _mean(distance, near), average_other)
    weight = jnp.any(other, axis=1) / jnp.sum(same, axis=1)
    identities = average(jnp.sum(weight), gather)
    pulled = average(jnp.mean(distances.between_rows(features, center)), gather)
    pushed = average(jnp.sum(weight * push), gather) / jnp.maximum(identities, _SMALLEST)
    return jnp.where(identities > 0, pulled / jnp.maximum(pushed, _SMALLEST), 0.0)


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over axis 1 within the mask; 0 for an empty one."""
    return jnp.sum(jnp.where(mask, values, 0.0), axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminativeCenter(Loss):
    """The loss on features as they are."""

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return discriminative_center(*examples.own(self.feature), gather=examples.gather)
