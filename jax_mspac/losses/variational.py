"""The Kullback-Leibler term of a variational autoencoder."""

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances


def divergence(mean: jax.Array) -> jax.Array:
    """KL(N(mean, 1) || N(0, 1)) = mean^2 / 2, the mean over all elements of an array.

    That of UNIT (Liu et al., NIPS 2017), whose codes have variance 1.
    """
    return jnp.mean(jnp.square(distances.bounded(mean))) / 2
