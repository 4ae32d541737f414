"""MFEN's loss between what the classifier says of images of one person in both modalities (CVPR 2026).

There is no public code; that the divergence is taken in both directions is a reading of ours.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average


def divergence(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    gather: Gather = alone,
) -> jax.Array:
    """Mean of (KL(p_v, p_i) + KL(p_i, p_v)) / 2 over all pairs of a visible and an infrared image of one person.

    p is the softmax of logits [n, C] and [m, C], and KL(p, q) = sum_c p_c log(p_c / q_c). Without a pair it is 0.

    Several devices give their own examples and `gather`, all examples of an identity on one device: they tell each
    other only how many pairs there are.
    """
    first, second = (jax.nn.log_softmax(distances.bounded(logits), axis=1) for logits in (visible, infrared))
    p, q = jnp.exp(first), jnp.exp(second)

    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)

    own = jnp.sum(p * first, axis=1)[:, None] + jnp.sum(q * second, axis=1)[None, :]
    # Not below 0, where equal ones differ by rounding.
    both = jnp.maximum(own - product(p, second) - product(first, q), 0.0)
    same = visible_labels[:, None] == infrared_labels[None, :]
    pairs = average(jnp.sum(same.astype(jnp.float32)), gather)
    return jnp.sum(jnp.where(same, both, 0.0)) / (2 * jnp.maximum(pairs, 1e-6))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Divergence(Loss):
    """The loss of the identity classifier's logits; of several parts `Examples.over_parts`."""

    # The logits are what is seen.
    feature: str = dataclasses.field(default="after_neck", init=False)

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        logits, labels, n = examples.logits, examples.labels, examples.num_visible
        sides = logits[:n], labels[:n], logits[n:], labels[n:]
        loss = functools.partial(divergence, gather=examples.gather)
        return examples.over_parts(jax.vmap(loss, in_axes=(1, None, 1, None))(*sides))
