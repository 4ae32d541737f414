"""Centers of identities: means of sets of features."""

import jax
import jax.numpy as jnp


def means(member: jax.Array, features: jax.Array) -> jax.Array:
    """Mean of the features in each row's set.

    Args:
      member: bool [n, m], whether feature j is in set i.
      features: float32 [m, D].

    Returns:
      float32 [n, D]; 0 for an empty set.
    """
    member = member.astype(jnp.float32)
    total = jnp.matmul(member, features, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.maximum(jnp.sum(member, axis=1, keepdims=True), 1.0)
