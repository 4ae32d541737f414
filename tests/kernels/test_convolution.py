"""Both forms of each operation against the native one and against numpy, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_mspac.kernels import convolution

TOLERANCE = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}


@pytest.fixture(params=["cpu", "gpu"])
def platform(request, monkeypatch):
    """Chooses the form of the operation; what it runs on stays the same."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)


def normal(seed, shape, dtype):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(f, ct, *args):
    value, vjp = jax.vjp(f, *args)
    return value, vjp(ct)


def assert_near(actual, expected, dtype):
    assert actual.dtype == expected.dtype == dtype
    actual, expected = np.asarray(actual, np.float32), np.asarray(expected, np.float32)
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("shape", [(7, 5), (8, 6)])
@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [(1, 1, 0), (1, 2, 0), (1, 3, 1), (3, 1, 1), (3, 1, 0), (3, 2, 1), (3, 2, 0), (5, 3, 2), (7, 2, 3), (2, 1, (0, 1))],
)
def test_conv_agrees_with_lax(platform, dtype, shape, channels, size, strides, padding):
    x, kernel = normal(0, (2, *shape, channels), dtype), normal(1, (size, size, channels, 3), dtype)
    pads = ((padding, padding), (padding, padding)) if isinstance(padding, int) else (padding, padding[::-1])

    def native(x, kernel):
        return lax.conv_general_dilated(x, kernel, (strides, strides), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ct = normal(2, jax.eval_shape(native, x, kernel).shape, dtype)
    conv = functools.partial(convolution.conv, strides=strides, padding=padding if isinstance(padding, int) else pads)
    y, gradients = value_and_gradients(conv, ct, x, kernel)
    expected, expected_gradients = value_and_gradients(native, ct, x, kernel)
    assert_near(y, expected, dtype)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert_near(actual, wanted, dtype)


def test_conv_takes_uneven_padding(platform):
    x, kernel = normal(0, (1, 4, 4, 2), jnp.float32), normal(1, (1, 1, 2, 3), jnp.float32)
    y = convolution.conv(x, kernel, padding=((0, 0), (0, 2)))
    np.testing.assert_allclose(y[:, :, :4], np.einsum("nhwc,ck->nhwk", x, kernel[0, 0]), atol=1e-5)
    np.testing.assert_array_equal(y[:, :, 4:], np.zeros((1, 4, 2, 3)))


def test_cpu_form_of_a_1x1_convolution_is_a_matrix_product():
    jaxpr = str(jax.make_jaxpr(convolution.conv)(jnp.ones((1, 4, 4, 2)), jnp.ones((1, 1, 2, 3))))
    assert "dot_general" in jaxpr and "conv_general_dilated" not in jaxpr


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("h", "w", "window", "stride", "padding"),
    [(9, 7, 3, 2, 1), (8, 6, 3, 2, 1), (9, 6, 2, 2, 0), (8, 7, 4, 3, 2)],
)
def test_max_pool_agrees_with_reduce_window_and_numpy(platform, dtype, h, w, window, stride, padding):
    # Distinct negative values per channel: no ties, exact in bfloat16, and a border of zeros would win.
    rng = np.random.default_rng(0)
    values = -1.0 - np.stack([rng.permutation(h * w).reshape(h, w) for _ in range(6)])
    x = jnp.asarray(values.reshape(2, 3, h, w).transpose(0, 2, 3, 1), dtype)
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]

    def native(x):
        low = np.array(-np.inf, dtype)
        return lax.reduce_window(x, low, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)

    ct = jnp.asarray(rng.integers(1, 5, jax.eval_shape(native, x).shape), dtype)
    max_pool = functools.partial(convolution.max_pool, window=window, stride=stride, padding=padding)
    y, (gradient,) = value_and_gradients(max_pool, ct, x)
    expected, (expected_gradient,) = value_and_gradients(native, ct, x)
    assert y.dtype == dtype
    padded = np.pad(np.asarray(x, np.float32), pads, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(1, 2))
    np.testing.assert_array_equal(np.asarray(y, np.float32), windows[:, ::stride, ::stride].max(axis=(-2, -1)))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.asarray(gradient, np.float32), np.asarray(expected_gradient, np.float32))


def test_max_pool_gradient_of_ties_keeps_its_sum(platform):
    gradient = jax.grad(lambda x: convolution.max_pool(x, window=2, stride=2).sum())(jnp.ones((1, 4, 4, 1)))
    sums = np.asarray(gradient).reshape(2, 2, 2, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(sums, np.ones((2, 2)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_largest_is_the_maximum_and_its_gradient_goes_to_one_entry(axis):
    x = jax.random.normal(jax.random.key(0), (3, 4, 5))
    np.testing.assert_array_equal(convolution.largest(x, axis=axis), np.max(x, axis=axis))
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(convolution.largest(x, axis=axis) ** 2))(x),
        jax.grad(lambda x: jnp.sum(jnp.max(x, axis=axis) ** 2))(x),
        rtol=1e-6,
    )
    tied = jax.grad(lambda x: jnp.sum(convolution.largest(x, axis=axis)))(jnp.ones((3, 4, 5)))
    np.testing.assert_array_equal(jnp.sum(tied, axis=axis), 1.0)
    assert np.count_nonzero(tied) == 60 // x.shape[axis]


def test_largest_of_nothing_finite():
    x = jnp.full((2, 3), -jnp.inf)
    np.testing.assert_array_equal(convolution.largest(x, axis=1), -jnp.inf)
