"""Batch-hard triplet loss of cosines, between images of two kinds."""

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances


def cosine_triplet(
    anchors: jax.Array, labels: jax.Array, others: jax.Array, other_labels: jax.Array, *, margin: float = 1.0
) -> jax.Array:
    """Triplet loss of AlignGAN (Wang et al., ICCV 2019), one way: positives and negatives are of the other kind.

    mean_a max(margin + max_n cos(a, n) - min_p cos(a, p), 0), where p is of the identity of a and n of another one, as
    in its public code. An anchor without a positive or a negative contributes 0.

    Anchors are [n, D] with labels int [n]: this device's. The others are [m, D] and int [m]: those of all devices.
    """
    cosines = jnp.matmul(distances.unit(anchors), distances.unit(others).T, precision=jax.lax.Precision.HIGHEST)
    same = labels[:, None] == other_labels[None, :]
    hardest_positive = jnp.min(jnp.where(same, cosines, 2.0), axis=1)
    hardest_negative = jnp.max(jnp.where(same, -2.0, cosines), axis=1)
    has_both = jnp.any(same, axis=1) & jnp.any(~same, axis=1)
    return jnp.mean(jnp.where(has_both, jnp.maximum(margin + hardest_negative - hardest_positive, 0.0), 0.0))
