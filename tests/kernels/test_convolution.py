"""Convolutions against the native ones and against numpy, values and gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_mspac.kernels import KERNELS
from jax_mspac.kernels.convolution import conv, transposed_conv

TOLERANCE = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}


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
@pytest.mark.parametrize("shape", [(7, 5), (8, 6)])
@pytest.mark.parametrize(
    ("size", "strides", "padding"), [(1, 1, 0), (1, 2, 0), (1, 3, 1), (3, 1, 1), (3, 2, 0), (7, 2, 3), (2, 1, (0, 1))]
)
def test_conv_agrees_with_lax(dtype, shape, size, strides, padding):
    x, kernel = normal(0, (2, *shape, 4), dtype), normal(1, (size, size, 4, 3), dtype)
    pads = ((padding, padding), (padding, padding)) if isinstance(padding, int) else (padding, padding[::-1])

    def native(x, kernel):
        return lax.conv_general_dilated(x, kernel, (strides, strides), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ct = normal(2, jax.eval_shape(native, x, kernel).shape, dtype)
    given = padding if isinstance(padding, int) else pads
    ours = functools.partial(conv, strides=strides, padding=given)
    y, gradients = value_and_gradients(ours, ct, x, kernel)
    expected, expected_gradients = value_and_gradients(native, ct, x, kernel)
    assert_near(y, expected, dtype)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert_near(actual, wanted, dtype)


@pytest.mark.parametrize("kernels", KERNELS)
def test_conv_takes_uneven_padding(kernels):
    x, kernel = normal(0, (1, 4, 4, 2), jnp.float32), normal(1, (1, 1, 2, 3), jnp.float32)
    y = conv(x, kernel, padding=((0, 0), (0, 2)), kernels=kernels)
    np.testing.assert_allclose(y[:, :, :4], np.einsum("nhwc,ck->nhwk", x, kernel[0, 0]), atol=1e-5)
    np.testing.assert_array_equal(y[:, :, 4:], np.zeros((1, 4, 2, 3)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("size", "strides"), [(4, 2), (3, 1), (5, 3), (2, 2)])
def test_transposed_conv_agrees_with_lax(dtype, size, strides):
    x, kernel = normal(0, (2, 5, 6, 4), dtype), normal(1, (size, size, 4, 3), dtype)
    around = size - 1 - (size - strides) // 2

    def native(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        pads = ((around, around), (around, around))
        dilation = (strides, strides)
        return lax.conv_general_dilated(x, kernel, (1, 1), pads, lhs_dilation=dilation, dimension_numbers=dimensions)

    ct = normal(2, (2, 5 * strides, 6 * strides, 3), dtype)
    actual = value_and_gradients(functools.partial(transposed_conv, strides=strides), ct, x, kernel)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(value_and_gradients(native, ct, x, kernel)), strict=True):
        assert_near(a, b, dtype)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA:CPU's fast path")
@pytest.mark.parametrize("strides", [1, 2])
def test_gradients_in_a_branch_have_the_form_of_the_fast_path(strides):
    # XLA exchanges the operands where a kernel is larger than its image.
    x, kernel = normal(0, (2, 16, 12, 4), jnp.float32), normal(1, (4, 4, 4, 4), jnp.float32)
    functions = [functools.partial(conv, strides=strides, padding=1)]
    if strides > 1:
        functions.append(functools.partial(transposed_conv, strides=strides))
    for f in functions:
        gradients = jax.grad(lambda x, kernel, f=f: jnp.sum(jnp.square(f(x, kernel))), argnums=(0, 1))
        branched = jax.jit(lambda moves, *args, g=gradients: jax.lax.cond(moves, g, lambda *args: args, *args))
        program = branched.lower(True, x, kernel).compile().as_text()
        layouts = re.findall(r" convolution\(.*dim_labels=([^\s,]*)", program)
        assert len(layouts) == 3 and set(layouts) == {"b01f_01io->b01f"}
        for a, b in zip(branched(True, x, kernel), jax.jit(gradients)(x, kernel), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
