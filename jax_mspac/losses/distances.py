"""Distances and unit vectors that stay finite, with finite gradients, for any finite features.

Each is one program where it is called by itself, and traced once where a step calls it often.
"""

import jax
import jax.numpy as jnp

# The square of a number this large, summed over features and batch, still fits into float32.
LARGEST = 2.0**40
# A shorter vector has no direction worth following: the gradient of its unit vector, 1 / length, nears overflow.
SHORTEST = 2.0**-100


def bounded(x: jax.Array, limit: float = LARGEST) -> jax.Array:
    """Float32 copy of x with finite entries clipped to +-limit; infinity and NaN pass, so that divergence is seen."""
    x = x.astype(jnp.float32)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -limit, limit), x)


@jax.jit
def squared_euclidean(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distance between all pairs: |x|^2 + |y|^2 - 2 x.y, clamped at 0.

    Of [n, D] and [m, D] it gives float32 [n, m]. The rounding error is relative to |x|^2 + |y|^2, not to the distance.
    Entries are clipped to +-LARGEST.
    """
    x, y = bounded(x), bounded(y)
    # The TPU's default precision would corrupt the difference of large terms.
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    x_squared = jnp.sum(jnp.square(x), axis=1)[:, None]
    y_squared = jnp.sum(jnp.square(y), axis=1)[None, :]
    return jnp.maximum(x_squared + y_squared - 2.0 * product, 0.0)


@jax.jit
def euclidean(x: jax.Array, y: jax.Array) -> jax.Array:
    """Euclidean distance between all pairs, as `squared_euclidean`, with gradient 0 where the distance is 0."""
    return _root(squared_euclidean(x, y))


@jax.jit
def between_rows(x: jax.Array, y: jax.Array) -> jax.Array:
    """Euclidean distance of each row of one array to that row of the other, with gradient 0 where it is 0.

    Of [n, D] and [n, D] it gives float32 [n]. Entries are clipped to +-LARGEST.
    """
    return _root(jnp.sum(jnp.square(bounded(x) - bounded(y)), axis=1))


def _root(squared: jax.Array) -> jax.Array:
    zero = squared < jnp.finfo(jnp.float32).tiny
    # The inner `where` keeps the infinite derivative of sqrt at 0 out of the backward pass: 0 * inf is NaN.
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


@jax.jit
def unit(x: jax.Array) -> jax.Array:
    """Vectors [..., D] scaled to Euclidean length 1 along the last axis: float32 [..., D].

    A vector whose entries are all below SHORTEST in magnitude becomes 0, with gradient 0. Entries are clipped to
    +-2^125.
    """
    # XLA multiplies by the reciprocal of the scale, which must not be flushed to zero.
    x = bounded(x, 2.0**125)
    # Unscaled squares would over- or underflow. The result does not depend on the scale, which thus needs no gradient.
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    zero = scale < SHORTEST
    scaled = jnp.where(zero, 1.0, x / jnp.where(zero, 1.0, scale))
    return jnp.where(zero, 0.0, scaled * jax.lax.rsqrt(jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)))
