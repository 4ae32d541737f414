"""Winograd's convolution against the native one, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_mspac.kernels import winograd
from jax_mspac.kernels.convolution import conv


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def native(x, kernel, padding):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def assert_near(actual, expected):
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((4, 6), ((1, 1), (1, 1))),
        ((7, 5), ((1, 1), (1, 1))),
        ((18, 9), ((0, 0), (0, 0))),
        ((3, 4), ((2, 1), (0, 2))),
        ((7, 5), ((3, 0), (1, 3))),
    ],
)
def test_values_and_gradients_are_those_of_the_native_convolution(size, padding):
    x, kernel = normal(0, (2, *size, 5)), normal(1, (3, 3, 5, 4))
    expected, vjp = jax.vjp(lambda x, kernel: native(x, kernel, padding), x, kernel)
    ct = normal(2, expected.shape)
    x_ct, kernel_ct = vjp(ct)
    assert_near(winograd.conv(x, kernel, padding), expected)
    gradients = jax.vjp(lambda x, kernel: winograd.conv(x, kernel, padding), x, kernel)[1](ct)
    for actual, wanted in zip(gradients, (x_ct, kernel_ct), strict=True):
        assert_near(actual, wanted)


def test_one_dimension_equals_the_sum_that_it_stands_for():
    """Exactly, on integers, by the definition of a correlation."""
    rng = np.random.default_rng(0)
    data, kernel, output = (np.array(matrix) for matrix in (winograd._DATA, winograd._KERNEL, winograd._OUTPUT))
    d, g = rng.integers(-9, 10, len(data)), rng.integers(-9, 10, 3)
    y = output @ ((data @ d) * (kernel @ g))
    np.testing.assert_allclose(y, [d[i : i + 3] @ g for i in range(winograd._TILE)], atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "images", "dtype", "chosen"),
    [(64, 4, "float32", True), (64, 4, "bfloat16", False), (48, 4, "float32", False), (64, 3, "float32", False)],
)
def test_chosen_where_it_pays(channels, images, dtype, chosen):
    x, kernel = normal(0, (images, 5, 4, 64)).astype(dtype), normal(1, (3, 3, 64, channels)).astype(dtype)

    def loss(x, kernel):
        return jnp.sum(conv(x, kernel, padding=1).astype(jnp.float32) ** 2)

    text = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).as_text()
    assert ("stablehlo.convolution" not in text) == chosen


def test_gradients_of_conv_are_those_of_the_native_convolution():
    x, kernel = normal(0, (2, 9, 5, 64)), normal(1, (3, 3, 64, 70))
    expected, vjp = jax.vjp(lambda x, kernel: native(x, kernel, ((1, 1), (1, 1))), x, kernel)
    actual, our_vjp = jax.vjp(lambda x, kernel: conv(x, kernel, padding=1), x, kernel)
    assert_near(actual, expected)
    for mine, theirs in zip(our_vjp(expected), vjp(expected), strict=True):
        assert_near(mine, theirs)
