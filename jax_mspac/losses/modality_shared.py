"""PMT's modality-shared enhancement loss: an image is as far from the other modality as from its own."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average


def modality_shared(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    gather: Gather = alone,
) -> jax.Array:
    """Modality-shared enhancement loss (MSEL; Lu et al., AAAI 2023, arXiv 2212.00226).

    Half the sum over both modalities of mean_a (mean_x d(a, x) - mean_p d(a, p))^2 over the images a of a modality,
    where x are the images of the same person in the other one, p the person's other images in a's own, and d is the
    Euclidean distance. An image without x or without p does not count.

    Several devices give their own examples and `gather`, all examples of an identity on one device: they tell each
    other only how many images count.
    """

    def side(own: jax.Array, labels: jax.Array, other: jax.Array, other_labels: jax.Array) -> jax.Array:
        itself = jnp.eye(len(own), dtype=bool)
        within, n = _mean_distance(own, own, (labels[:, None] == labels[None, :]) & ~itself)
        across, m = _mean_distance(own, other, labels[:, None] == other_labels[None, :])
        counts = (n > 0) & (m > 0)
        squares = jnp.sum(jnp.where(counts, jnp.square(across - within), 0.0))
        return squares / jnp.maximum(average(jnp.sum(counts.astype(jnp.float32)), gather), 1e-6)

    pairs = (visible, visible_labels), (infrared, infrared_labels)
    return 0.5 * (side(*pairs[0], *pairs[1]) + side(*pairs[1], *pairs[0]))


def _mean_distance(x: jax.Array, y: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each row of x to those of y in its row of the mask: the mean, 0 for none, and their number."""
    number = jnp.sum(mask, axis=1)
    total = jnp.sum(jnp.where(mask, distances.euclidean(x, y), 0.0), axis=1)
    return total / jnp.maximum(number, 1), number


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityShared(Loss):
    """The loss on features as they are; of several parts, their mean."""

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return examples.mean_of_parts(self.feature, functools.partial(modality_shared, gather=examples.gather))
