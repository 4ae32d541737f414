"""What both sides of a game of generator and discriminator minimize, and how often the discriminator is right."""

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances


def least_squares(scores: jax.Array, target: float) -> jax.Array:
    """Mean squared difference of scores, of any shape, from 1 for real or 0 for made (Mao et al., arXiv 1611.04076).

    The discriminator minimizes half the sum for real images and made ones; the generator wants 1 for what it makes.
    """
    return jnp.mean(jnp.square(distances.bounded(scores) - target))


def accuracy(real: jax.Array, made: jax.Array) -> jax.Array:
    """The share of scores on the right side of 1/2, the mean of real and made images: 1/2 where nothing is known."""
    return (jnp.mean(real > 0.5) + jnp.mean(made < 0.5)) / 2


def absolute(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute difference of images: CycleGAN's of a cycle (Zhu et al., arXiv 1703.10593), and L1 elsewhere."""
    return jnp.mean(jnp.abs(x.astype(jnp.float32) - y.astype(jnp.float32)))
