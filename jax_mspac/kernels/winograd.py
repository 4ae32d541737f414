"""Convolutions with 3x3 kernels by minimal filtering, which trades multiplications for additions.

A tile of 3 x 3 outputs takes 5 x 5 = 25 products instead of 81: F(3, 3) in both directions (Winograd, "Arithmetic
Complexity of Computations", 1980; for networks Lavin and Gray, arXiv 1509.09308). Larger tiles save more and round
worse; this one stays within a unit in the fifth digit of the largest output.

The transforms are spelled out as additions, one direction after the other: first over the rows of all tiles, whose
results are stacked, then over the columns of the stack. Spelled out for each entry of a tile they are as fast and take
two to three times as long to compile; as products with constant matrices they compile in half the time and move more
memory.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ArrayLike = Sequence[Sequence[float]] | np.ndarray
Padding = tuple[tuple[int, int], tuple[int, int]]

# Outputs of a tile in each direction; it takes two inputs more.
_TILE = 3
# In one direction, output((data x) * (kernel w)) is the correlation of the five inputs x of a tile with the three
# entries of a kernel w: of the points 0, 1, -1, 2 and infinity.
_DATA = [[2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]]
_KERNEL = [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3], [0, 0, 1]]
_OUTPUT = [[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]]
# Of a whole kernel, which is small: [25, 9].
_KERNELS = np.kron(np.array(_KERNEL), np.array(_KERNEL))


# From here on, additions cost less than the multiplications that they save.
_MANY_CHANNELS = 64


def pays(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether this form of a convolution with strides of 1 is the faster one; in bfloat16 its sums lose digits."""
    size, channels = kernel.shape[:2], kernel.shape[2:]
    # In few pixels, as of one image in the deep layers, the transform of the kernel costs more than the products save.
    # Of a batch whose size is not known, as where a program is exported, one image is what there is at least.
    images = x.shape[0] if isinstance(x.shape[0], int) else 1
    many = min(channels) >= _MANY_CHANNELS and images * math.prod(x.shape[1:-1]) >= max(channels)
    return size == (3, 3) and many and kernel.dtype == jnp.float32


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolution with strides of 1: float32 [N, H, W, C] and [3, 3, C, K] -> [N, H', W', K].

    The padding is of zeros at ((top, bottom), (left, right)).
    """
    return _filtered(x, kernel, padding, contract=1)


def _forward(x: jax.Array, kernel: jax.Array, padding: Padding):
    return conv(x, kernel, padding), (x, kernel)


def _backward(padding: Padding, saved: tuple[jax.Array, jax.Array], ct: jax.Array):
    x, kernel = saved
    return input_gradient(kernel, ct, padding), kernel_gradient(x, ct, padding)


conv.defvjp(_forward, _backward)


def input_gradient(kernel: jax.Array, ct: jax.Array, padding: Padding) -> jax.Array:
    """The cotangent [N, H, W, C] of the input of `conv` for ct [N, H', W', K], that of its output."""
    down, along = ((2 - low, 2 - high) for low, high in padding)
    # To contract the features in the products is free; to transpose the kernel before them costs more than they do.
    return _filtered(ct, kernel[::-1, ::-1], (down, along), contract=2)


# `jit` is here to trace layers of one shape once. It inlines, because calls made a step of a ResNet-18 10 to 17 %
# longer.
@functools.partial(jax.jit, static_argnums=2, inline=True)
def kernel_gradient(x: jax.Array, ct: jax.Array, padding: Padding) -> jax.Array:
    """The cotangent [3, 3, C, K] of the kernel of `conv` for ct [N, H', W', K], that of its output."""
    tiles = _tiles(ct.shape[1:3])
    data = _transformed(x, _DATA, [low for low, _ in padding], tiles)
    outputs = _transformed(ct, np.transpose(_OUTPUT), (0, 0), tiles)
    products = jnp.stack([_product(x, ct, 1, 1) for x, ct in zip(data, outputs, strict=True)], axis=1)
    kernel = jnp.matmul(_KERNELS.T.astype(x.dtype), products.reshape(len(_KERNELS), -1))
    return kernel.reshape(3, 3, *products.shape[2:])


@functools.partial(jax.jit, static_argnums=2, static_argnames="contract", inline=True)
def _filtered(x: jax.Array, kernel: jax.Array, padding: Padding, *, contract: int) -> jax.Array:
    """The convolution; the products contract axis 1 of [entries, C, K] with the channels of x, or axis 2."""
    n, *lengths, _ = x.shape
    size = [length + low + high - 2 for length, (low, high) in zip(lengths, padding, strict=True)]
    tiles = _tiles(size)
    data = _transformed(x, _DATA, [low for low, _ in padding], tiles)
    kernels = jnp.matmul(_KERNELS.astype(x.dtype), kernel.reshape(9, -1))
    kernels = kernels.reshape(len(_KERNEL), len(_KERNEL), *kernel.shape[2:])
    products = [_product(entries, kernels[:, j], 2, contract) for j, entries in enumerate(data)]
    columns = [_combined(_OUTPUT, column) for column in _combined(_OUTPUT, products)]
    # From each place in a tile, an image of tiles, to an image of pixels, less what the last tiles have too much.
    rows = [[y.reshape(n, *tiles, -1) for y in row] for row in zip(*columns, strict=True)]
    y = jnp.stack([jnp.stack(row, axis=3) for row in rows], axis=2)
    y = y.reshape(n, *(count * _TILE for count in tiles), y.shape[-1])
    return y[:, : size[0], : size[1]]


def _tiles(size: Sequence[int]) -> tuple[int, int]:
    """Tiles, down and along, that cover an output of this height and width."""
    down, along = (-(-length // _TILE) for length in size)
    return down, along


def _transformed(x: jax.Array, matrix: ArrayLike, before: Sequence[int], tiles: tuple[int, int]) -> list[jax.Array]:
    """The entries of all tiles, so many down and along, of an image x [N, H, W, C] after a transform.

    Args:
      matrix: for the rows of a tile and for its columns, [entries after the transform, entries before].
      before: zeros above the image and to its left; below it and to its right come as many as the tiles need.

    Returns:
      For each column of a tile [rows of a tile, N * tiles, C].
    """
    size, ends = np.shape(matrix)[1], [(count - 1) * _TILE for count in tiles]
    edges = [(low, end + size - low - length, 0) for low, end, length in zip(before, ends, x.shape[1:3], strict=True)]
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    x = jnp.stack(_combined(matrix, [x[:, i : i + ends[0] + 1 : _TILE] for i in range(size)]))
    columns = _combined(matrix, [x[:, :, :, j : j + ends[1] + 1 : _TILE] for j in range(size)])
    return [column.reshape(len(column), -1, column.shape[-1]) for column in columns]


def _combined(matrix: ArrayLike, terms: Sequence[jax.Array] | jax.Array) -> list[jax.Array]:
    """The matrix times a vector of arrays, without its zeros; an array of terms is a vector along its first axis."""
    # `lax` traces these many operations several times as fast as operators do.
    return [
        functools.reduce(
            lax.add, [term if w == 1 else lax.mul(term, float(w)) for w, term in zip(row, terms, strict=True) if w]
        )
        for row in matrix
    ]


def _product(a: jax.Array, b: jax.Array, axis: int, other: int) -> jax.Array:
    """The matrix product for each entry of the first axis, over these axes of a and b."""
    return lax.dot_general(a, b, (((axis,), (other,)), ((0,), (0,))))
