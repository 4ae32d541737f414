"""Convolution in the form that is fast on each platform."""

import functools

import jax
from jax import lax

from jax_mspac.kernels import winograd
from jax_mspac.kernels.platforms import by_platform
from jax_mspac.kernels.winograd import Padding

_NHWC = ("NHWC", "HWIO", "NHWC")


def conv(
    x: jax.Array, kernel: jax.Array, *, strides: int = 1, padding: int | Padding = 0, kernels: str = "auto"
) -> jax.Array:
    """Two-dimensional convolution without bias: [N, H, W, C] and [h, w, C, K] -> [N, H', W', K], all of one dtype.

    Args:
      strides: step in both directions.
      padding: zeros on every side, or ((top, bottom), (left, right)).
      kernels: "auto", or "native" or "plain" for XLA's own form on every platform.
    """
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    native = functools.partial(_native, strides=strides, padding=padding)
    if kernels != "auto":
        return native(x, kernel)
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        return by_platform(functools.partial(_product, strides=strides), native)(x, kernel)
    if strides == 1 and winograd.pays(x, kernel):
        return by_platform(lambda x, kernel: winograd.conv(x, kernel, padding), native)(x, kernel)
    return _strided(x, kernel, strides, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def transposed_conv(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    """Two-dimensional transposed convolution: [N, H, W, C] and [h, h, C, K] -> [N, s H, s W, K], s the strides.

    It turns around a convolution with these strides, whose padding is (h - s) / 2, a whole number, as torch has it. Its
    gradients are that convolution of the output's gradient, and the gradient of that one's kernel. Derived
    automatically, the kernel's is a convolution for which XLA:CPU has no fast path: 280 ms in place of 8.
    """
    # What torch's padding leaves of the kernel surrounds the dilated input.
    around = kernel.shape[0] - 1 - _padding(kernel, strides)
    padding, dilation = ((around, around), (around, around)), (strides, strides)
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, lhs_dilation=dilation, dimension_numbers=_NHWC)


def _transposed_forward(x: jax.Array, kernel: jax.Array, strides: int):
    return transposed_conv(x, kernel, strides), (x, kernel)


def _transposed_backward(strides: int, saved: tuple[jax.Array, jax.Array], ct: jax.Array):
    x, kernel = saved
    around = ((_padding(kernel, strides),) * 2,) * 2
    x_ct, kernel_ct = jax.vjp(lambda kernel: _strided(ct, _turned(kernel), strides, around), kernel)
    return x_ct, *kernel_ct(x)


transposed_conv.defvjp(_transposed_forward, _transposed_backward)


def _strided(x: jax.Array, kernel: jax.Array, strides: int, padding: Padding) -> jax.Array:
    native = functools.partial(_native, strides=strides, padding=padding)
    return by_platform(lambda x, kernel: _canonical(x, kernel, strides, padding), native)(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _canonical(x: jax.Array, kernel: jax.Array, strides: int, padding: Padding) -> jax.Array:
    """As `_native`, with gradients that are convolutions of images [N, H, W, C] and kernels [h, w, C, K] themselves.

    XLA:CPU has a fast path for these alone. It brings others into this form, but not those in a branch of `lax.cond`,
    where a player of several has its step: these took 15 to 50 times as long. Values are the same to the bit.
    """
    return _native(x, kernel, strides=strides, padding=padding)


def _canonical_forward(x: jax.Array, kernel: jax.Array, strides: int, padding: Padding):
    return _canonical(x, kernel, strides, padding), (x, kernel)


def _canonical_backward(strides: int, padding: Padding, saved: tuple[jax.Array, jax.Array], ct: jax.Array):
    x, kernel = saved
    return _of_images(ct, kernel, x.shape, strides, padding), _of_kernel(x, ct, kernel.shape[:2], strides, padding)


_canonical.defvjp(_canonical_forward, _canonical_backward)


def _of_images(ct: jax.Array, kernel: jax.Array, shape: tuple[int, ...], strides: int, padding: Padding) -> jax.Array:
    """The gradient by the images, of this shape, of a convolution: that of its output is given."""
    sizes = zip(padding, kernel.shape[:2], shape[1:3], ct.shape[1:3], strict=True)
    around = [
        (side - 1 - before, pixels + before - 1 - (steps - 1) * strides) for (before, _), side, pixels, steps in sizes
    ]
    return lax.conv_general_dilated(
        ct, _turned(kernel), (1, 1), around, lhs_dilation=(strides, strides), dimension_numbers=_NHWC
    )


def _of_kernel(x: jax.Array, ct: jax.Array, shape: tuple[int, ...], strides: int, padding: Padding) -> jax.Array:
    """The gradient by the kernel, of these sides: channels are the images, and images the channels of a convolution."""
    sizes = zip(padding, shape, x.shape[1:3], ct.shape[1:3], strict=True)
    around = [(before, side - before - pixels + (steps - 1) * strides) for (before, _), side, pixels, steps in sizes]
    y = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        ct.transpose(1, 2, 0, 3),
        (1, 1),
        around,
        rhs_dilation=(strides, strides),
        dimension_numbers=_NHWC,
    )
    return y.transpose(1, 2, 0, 3)


def _turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the convolution the other way: by 180 degrees, from outputs to inputs."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _padding(kernel: jax.Array, strides: int) -> int:
    return (kernel.shape[0] - strides) // 2


def _native(x: jax.Array, kernel: jax.Array, *, strides: int, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=_NHWC)


def _product(x: jax.Array, kernel: jax.Array, *, strides: int) -> jax.Array:
    """XLA:CPU has no fast path for a 1x1 convolution; the same as one matrix product runs 2-3x faster."""
    x = x[:, ::strides, ::strides]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])
