"""Centers of identities: means of sets of features."""

import jax
import jax.numpy as jnp


def means(member: jax.Array, features: jax.Array) -> jax.Array:
    """Mean of the features float32 [m, D] in each row's set: float32 [n, D]; 0 for an empty set.

    The members, bool [n, m], tell whether feature j is in set i.
    """
    member = member.astype(jnp.float32)
    total = jnp.matmul(member, features, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.maximum(jnp.sum(member, axis=1, keepdims=True), 1.0)
