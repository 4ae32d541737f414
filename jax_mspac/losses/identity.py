"""Identity loss: each training identity is a class."""

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Mean cross-entropy between softmax(logits) and the labels.

    The target is (1 - label_smoothing) on the label plus label_smoothing / C on each of the C classes.

    Args:
      logits: [n, C].
      labels: int [n], each in [0, C).
      label_smoothing: in [0, 1].

    Returns:
      float32 scalar.
    """
    log_probabilities = jax.nn.log_softmax(distances.bounded(logits), axis=1)
    labeled = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    uniform = jnp.mean(log_probabilities, axis=1)
    return -jnp.mean((1.0 - label_smoothing) * labeled + label_smoothing * uniform)
