"""Both forms of max-pool against the native one and against numpy, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_mspac.kernels import KERNELS
from jax_mspac.kernels.pooling import max_pool


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("h", "w", "window", "stride", "padding"),
    [(9, 7, 3, 2, 1), (8, 6, 3, 2, 1), (9, 6, 2, 2, 0), (8, 7, 4, 3, 2)],
)
def test_max_pool_agrees_with_reduce_window_and_numpy(kernels, dtype, h, w, window, stride, padding):
    # Distinct negative values per channel: no ties, exact in bfloat16, and a border of zeros would win.
    rng = np.random.default_rng(0)
    values = -1.0 - np.stack([rng.permutation(h * w).reshape(h, w) for _ in range(6)])
    x = jnp.asarray(values.reshape(2, 3, h, w).transpose(0, 2, 3, 1), dtype)
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]

    def native(x):
        low = np.array(-np.inf, dtype)
        return lax.reduce_window(x, low, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)

    ct = jnp.asarray(rng.integers(1, 5, jax.eval_shape(native, x).shape), dtype)
    ours = functools.partial(max_pool, window=window, stride=stride, padding=padding, kernels=kernels)
    y, vjp = jax.vjp(ours, x)
    (gradient,) = vjp(ct)
    expected, expected_vjp = jax.vjp(native, x)
    (expected_gradient,) = expected_vjp(ct)
    assert y.dtype == dtype
    padded = np.pad(np.asarray(x, np.float32), pads, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(1, 2))
    np.testing.assert_array_equal(np.asarray(y, np.float32), windows[:, ::stride, ::stride].max(axis=(-2, -1)))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.asarray(gradient, np.float32), np.asarray(expected_gradient, np.float32))


@pytest.mark.parametrize("kernels", KERNELS)
def test_max_pool_gradient_of_ties_keeps_its_sum(kernels):
    gradient = jax.grad(lambda x: max_pool(x, window=2, stride=2, kernels=kernels).sum())(jnp.ones((1, 4, 4, 1)))
    sums = np.asarray(gradient).reshape(2, 2, 2, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(sums, np.ones((2, 2)))
