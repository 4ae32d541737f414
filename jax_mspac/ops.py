"""Convolution and max-pool in the form that is fast on the platform at hand; their callers need not know which."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def conv(
    x: jax.Array, kernel: jax.Array, *, strides: int = 1, padding: int | tuple[tuple[int, int], tuple[int, int]] = 0
) -> jax.Array:
    """Two-dimensional convolution without bias.

    Args:
      x: [N, H, W, C].
      kernel: [h, w, C, K], same dtype as x.
      strides: step in both directions.
      padding: zeros on every side, or ((top, bottom), (left, right)).

    Returns:
      [N, H', W', K] in the dtype of x.
    """
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    # XLA:CPU has no fast path for a 1x1 convolution; the same product as one matrix multiplication runs 2-3x faster.
    if jax.default_backend() == "cpu" and kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        x = x[:, ::strides, ::strides]
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])
    return lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def max_pool(x: jax.Array, *, window: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over square windows; the border counts as minus infinity.

    Where several pixels of a window share the maximum, its gradient goes to one of them or is split among them,
    depending on the platform.

    Args:
      x: floating point [N, H, W, C].
      window: side of the window.
      stride: step in both directions.
      padding: border on every side, less than `window`.

    Returns:
      [N, H', W', C] in the dtype of x.
    """
    border = (padding, padding)
    if jax.default_backend() != "cpu":
        lowest = np.array(-np.inf, x.dtype)
        pads = ((0, 0), border, border, (0, 0))
        return lax.reduce_window(x, lowest, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)
    # The gradient of reduce_window is a select-and-scatter, which XLA:CPU runs slowly. The maximum is separable.
    x = jnp.pad(x, ((0, 0), border, border, (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        span = (x.shape[axis] - window) // stride * stride + 1
        x = functools.reduce(
            jnp.maximum, [lax.slice_in_dim(x, i, i + span, stride=stride, axis=axis) for i in range(window)]
        )
    return x


def largest(x: jax.Array, *, axis: int) -> jax.Array:
    """The maximum along an axis, whose gradient goes to the first of the largest entries.

    The gradient of `jnp.max` compares its input with its result. A compiler may compute the input twice and round it
    differently, so that nothing is equal, and the gradient divides by the number of equal entries: 0. Positions are
    integers, which have no such trouble.

    Args:
      x: any shape.
      axis: the one that goes.
    """
    position = jnp.argmax(x, axis=axis, keepdims=True)
    chosen = lax.broadcasted_iota(position.dtype, x.shape, axis % x.ndim) == position
    return jnp.sum(jnp.where(chosen, x, 0), axis=axis)
