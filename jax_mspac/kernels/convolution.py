"""Convolution and max-pool in the form that is fast on the platform at hand; their callers need not know which."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_mspac.kernels import winograd
from jax_mspac.kernels.winograd import Padding

# Below, the native gradient of the kernel is the faster one: that of the stem takes 41 ms, the products' 53.
_FEW_CHANNELS = 16
# From here on, additions cost less than the multiplications that they save.
_MANY_CHANNELS = 64


def conv(x: jax.Array, kernel: jax.Array, *, strides: int = 1, padding: int | Padding = 0) -> jax.Array:
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
    if jax.default_backend() != "cpu":
        return _native_conv(x, kernel, strides, padding)
    # XLA:CPU has no fast path for a 1x1 convolution; the same product as one matrix multiplication runs 2-3x faster.
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        x = x[:, ::strides, ::strides]
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])
    return _cpu_conv(x, kernel, strides, padding)


def _native_conv(x: jax.Array, kernel: jax.Array, strides: int, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _cpu_conv(x: jax.Array, kernel: jax.Array, strides: int, padding: Padding) -> jax.Array:
    """The native convolution or Winograd's, with gradients of matrix products and smaller convolutions."""
    if _saves_products(x, kernel, strides):
        return winograd.conv(x, kernel, padding)
    return _native_conv(x, kernel, strides, padding)


def _cpu_conv_forward(x: jax.Array, kernel: jax.Array, strides: int, padding: Padding):
    return _cpu_conv(x, kernel, strides, padding), (x, kernel)


def _cpu_conv_backward(strides: int, padding: Padding, saved: tuple[jax.Array, jax.Array], ct: jax.Array):
    x, kernel = saved
    if _saves_products(x, kernel, strides):
        return winograd.input_gradient(kernel, ct, padding), winograd.kernel_gradient(x, ct, padding)
    if strides == 1:
        (x_ct,) = jax.vjp(lambda x: _native_conv(x, kernel, strides, padding), x)[1](ct)
    else:
        x_ct = _strided_input_gradient(kernel, ct, strides, padding, x.shape)
    if x.shape[-1] < _FEW_CHANNELS:
        (kernel_ct,) = jax.vjp(lambda kernel: _native_conv(x, kernel, strides, padding), kernel)[1](ct)
    elif strides == 1 and ct.shape[1:3] == x.shape[1:3]:
        kernel_ct = _kernel_gradient_of_same_size(x, ct, padding, kernel.shape)
    else:
        kernel_ct = _kernel_gradient(x, ct, strides, padding, kernel.shape)
    return x_ct, kernel_ct.astype(kernel.dtype)


_cpu_conv.defvjp(_cpu_conv_forward, _cpu_conv_backward)


def _saves_products(x: jax.Array, kernel: jax.Array, strides: int) -> bool:
    """Whether Winograd's form is the faster one; in bfloat16 its sums would lose digits."""
    size, channels = kernel.shape[:2], kernel.shape[2:]
    # In few pixels, as of one image in the deep layers, the transform of the kernel costs more than the products save.
    many = min(channels) >= _MANY_CHANNELS and x.size // x.shape[-1] >= max(channels)
    return size == (3, 3) and strides == 1 and many and kernel.dtype == jnp.float32


def _strided_input_gradient(
    kernel: jax.Array, ct: jax.Array, strides: int, padding: Padding, shape: tuple[int, ...]
) -> jax.Array:
    """Each of the strides^2 phases of the input meets only every strides-th row and column of the kernel.

    The native gradient multiplies with all of the kernel, and most often with zeros.
    """
    size, channels = kernel.shape[0], shape[-1]
    most = -(-size // strides)
    phases = []
    for row in range(strides):
        for column in range(strides):
            taps = jnp.flip(kernel[row::strides, column::strides], (0, 1)).swapaxes(2, 3)
            if not taps.size:
                n, h, w, _ = ct.shape
                phases.append(jnp.zeros((n, h + most - 1, w + most - 1, channels), ct.dtype))
                continue
            high, wide = taps.shape[:2]
            phase = conv(ct, taps, padding=((high - 1, high - 1), (wide - 1, wide - 1)))
            phases.append(jnp.pad(phase, ((0, 0), (0, most - high), (0, most - wide), (0, 0))))
    n, h, w, _ = phases[0].shape
    interleaved = jnp.stack(phases, axis=3).reshape(n, h, w, strides, strides, channels)
    interleaved = interleaved.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * strides, w * strides, channels)
    # Off with the padding; rows and columns that the last step did not reach have no gradient.
    (top, _), (left, _) = padding
    edges = [
        (-low, length + low - there, 0)
        for low, length, there in zip((top, left), shape[1:3], interleaved.shape[1:3], strict=True)
    ]
    return lax.pad(interleaved, np.zeros((), ct.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _kernel_gradient_of_same_size(x: jax.Array, ct: jax.Array, padding: Padding, shape: tuple[int, ...]) -> jax.Array:
    """One matrix product for each column of the kernel, with all its rows at once."""
    size, _, channels, features = shape
    (top, bottom), (left, right) = padding
    _, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (left, right), (0, 0)))
    ct = jnp.pad(ct, ((0, 0), (bottom, top), (0, 0), (0, 0)))
    # Row y of the input meets row y + top - i of the output through row i of the kernel.
    rows = jnp.concatenate([ct[:, size - 1 - i : size - 1 - i + h].reshape(-1, features) for i in range(size)], axis=-1)
    columns = [_product(x[:, :, j : j + w].reshape(-1, channels), rows) for j in range(size)]
    return jnp.stack(columns).reshape(size, channels, size, features).transpose(2, 0, 1, 3)


def _kernel_gradient(x: jax.Array, ct: jax.Array, strides: int, padding: Padding, shape: tuple[int, ...]) -> jax.Array:
    """One matrix product for each entry of the kernel."""
    size, _, channels, features = shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    reach = [strides * (length - 1) + 1 for length in ct.shape[1:3]]
    ct = ct.reshape(-1, features)
    taps = [
        _product(x[:, i : i + reach[0] : strides, j : j + reach[1] : strides].reshape(-1, channels), ct)
        for i in range(size)
        for j in range(size)
    ]
    return jnp.stack(taps).reshape(shape)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a^T b in float32."""
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


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
