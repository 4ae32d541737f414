"""CAJ+'s loss between two views of an image: what the network says of the second is the target of the first.

The form is that of the public code of Ye et al. (TPAMI 2023), github.com/mangye16/Cross-Modal-Re-ID-baseline.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Loss


def view_consistency(first: jax.Array, second: jax.Array) -> jax.Array:
    """mean_i -sum_c softmax(second_i)_c log softmax(first_i)_c: cross-entropy of the first view against the second.

    Logits are [n, C] each, of the same images in the same order. The second view gets no gradient.
    """
    target = jax.nn.softmax(jax.lax.stop_gradient(distances.bounded(second)), axis=1)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(distances.bounded(first), axis=1), axis=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewConsistency(Loss):
    """The loss of the visible images, each with its channel-exchanged view; of several parts `Examples.over_parts`."""

    # The logits are what is seen.
    feature: str = dataclasses.field(default="after_neck", init=False)
    needs = "augment.channel_augmentation"

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        first, second = jnp.split(examples.logits[: examples.num_visible], 2)
        return examples.over_parts(jax.vmap(view_consistency, in_axes=(1, 1))(first, second))
