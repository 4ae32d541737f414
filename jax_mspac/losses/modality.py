"""What a discriminator of modalities minimizes, and how often it is right."""

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances


def cross_entropy(logits: jax.Array, num_visible: int) -> jax.Array:
    """The discriminator's loss of cmGAN (Dai et al., IJCAI 2018): the sum of two means, one of each modality.

    Logits are [n, 2], the first `num_visible` rows of visible images. As in its public code, each of an image's two
    logits is one of a binary cross-entropy, with targets (1, 0) for a visible image and (0, 1) for an infrared one, and
    an image counts by the mean of both. It is 2 log 2 where nothing is known.
    """
    logits = distances.bounded(logits)
    right, wrong = logits[:, 0], logits[:, 1]
    visible = jax.nn.softplus(-right) + jax.nn.softplus(wrong)
    infrared = jax.nn.softplus(-wrong) + jax.nn.softplus(right)
    return (jnp.mean(visible[:num_visible]) + jnp.mean(infrared[num_visible:])) / 2


def accuracy(logits: jax.Array, num_visible: int) -> jax.Array:
    """The share of the images whose larger logit is that of their modality, the mean of both modalities."""
    visible = logits[:, 0] > logits[:, 1]
    return (jnp.mean(visible[:num_visible]) + jnp.mean(~visible[num_visible:])) / 2
