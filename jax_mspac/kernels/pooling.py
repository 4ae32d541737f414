"""Max-pool in the form that is fast on each platform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_mspac.kernels.platforms import by_platform

Edges = tuple[tuple[int, int], ...]


def max_pool(x: jax.Array, *, window: int, stride: int, padding: int = 0, kernels: str = "auto") -> jax.Array:
    """Maximum over square windows, [N, H, W, C] -> [N, H', W', C] of one dtype; the border counts as minus infinity.

    Where several pixels of a window share the maximum, its gradient goes to one of them or is split among them,
    depending on the platform.

    Args:
      x: floating point.
      window: side of the window.
      stride: step in both directions.
      padding: border on every side, less than `window`.
      kernels: "auto", "native" for XLA's own form on every platform, or "plain" for that of CPUs on every platform.
    """
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    native, cpu = (functools.partial(form, window=window, stride=stride, edges=edges) for form in (_native, _slices))
    return {"native": native, "plain": cpu}.get(kernels, by_platform(cpu, native))(x)


def _native(x: jax.Array, *, window: int, stride: int, edges: Edges) -> jax.Array:
    lowest = np.array(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, window, window, 1), (1, stride, stride, 1), edges)


def _slices(x: jax.Array, *, window: int, stride: int, edges: Edges) -> jax.Array:
    """The gradient of reduce_window is a select-and-scatter, which XLA:CPU runs slowly. The maximum is separable."""
    x = jnp.pad(x, edges, constant_values=-jnp.inf)
    for axis in (1, 2):
        span = (x.shape[axis] - window) // stride * stride + 1
        x = functools.reduce(
            jnp.maximum, [lax.slice_in_dim(x, i, i + span, stride=stride, axis=axis) for i in range(window)]
        )
    return x
