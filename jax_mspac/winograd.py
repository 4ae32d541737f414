"""Convolutions with 3x3 kernels by minimal filtering, which trades multiplications for additions.

A tile of 2 x 3 outputs takes 4 x 5 = 20 products instead of 54: F(2, 3) down the rows, F(3, 3) along them (Winograd,
"Arithmetic Complexity of Computations", 1980; for networks Lavin and Gray, arXiv 1509.09308). Larger tiles save more
and round worse; these stay within a few units in the sixth digit of the largest output.

With the entries of a tile as rows, all that happens to them is a product with a small constant matrix, and the
convolution is 20 matrix products over all tiles. Such a program compiles in a fifth of the time, or less, of one that
spells the additions out.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]

# Outputs of a tile, down and along; it takes two inputs more in each direction.
_TILE = (2, 3)
# output((data x) * (kernel w)) is the correlation of the inputs x of a tile with the kernel w. One dimension each: of
# the points 0, 1, -1 and infinity; and of 0, 1, -1, 2 and infinity.
_DOWN = {
    "data": [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    "kernel": [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    "output": [[1, 1, 1, 0], [0, 1, -1, -1]],
}
_ALONG = {
    "data": [[2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]],
    "kernel": [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3], [0, 0, 1]],
    "output": [[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]],
}
# Of a whole tile, its entries row by row: [20, 20], [20, 9] and [6, 20].
_DATA, _KERNEL, _OUTPUT = (
    np.kron(_DOWN[name], _ALONG[name]).astype(np.float32) for name in ("data", "kernel", "output")
)


def conv(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolution with strides of 1.

    Args:
      x: float32 [N, H, W, C].
      kernel: float32 [3, 3, C, K].
      padding: zeros at ((top, bottom), (left, right)).

    Returns:
      [N, H', W', K].
    """
    return _filtered(x, kernel, padding, contract=1)


def input_gradient(kernel: jax.Array, ct: jax.Array, padding: Padding) -> jax.Array:
    """The cotangent [N, H, W, C] of the input of `conv` for ct [N, H', W', K], that of its output."""
    padding = tuple((2 - low, 2 - high) for low, high in padding)
    # To contract the features in the products is free; to transpose the kernel before them costs more than they do.
    return _filtered(ct, kernel[::-1, ::-1], padding, contract=2)


def kernel_gradient(x: jax.Array, ct: jax.Array, padding: Padding) -> jax.Array:
    """The cotangent [3, 3, C, K] of the kernel of `conv` for ct [N, H', W', K], that of its output."""
    size = ct.shape[1:3]
    data = _DATA @ _entries(x, [low for low, _ in padding], _tiles(size), overlap=2)
    outputs = _OUTPUT.T @ _entries(ct, (0, 0), _tiles(size), overlap=0)
    channels, features = x.shape[-1], ct.shape[-1]
    products = _products(data.reshape(len(data), -1, channels), outputs.reshape(len(outputs), -1, features), 1, 1)
    return (_KERNEL.T @ products.reshape(len(products), -1)).reshape(3, 3, channels, features)


def _filtered(x: jax.Array, kernel: jax.Array, padding: Padding, *, contract: int) -> jax.Array:
    """The convolution; the products contract axis 1 of [20, C, K] with the channels of x, or axis 2."""
    n, *lengths, channels = x.shape
    size = [length + low + high - 2 for length, (low, high) in zip(lengths, padding, strict=True)]
    tiles = _tiles(size)
    data = _DATA @ _entries(x, [low for low, _ in padding], tiles, overlap=2)
    kernels = (_KERNEL @ kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])
    products = _products(data.reshape(len(data), -1, channels), kernels, 2, contract)
    features = products.shape[-1]
    y = (_OUTPUT @ products.reshape(len(products), -1)).reshape(*_TILE, n, *tiles, features)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(n, tiles[0] * _TILE[0], tiles[1] * _TILE[1], features)
    # Less what the last tiles have too much.
    return y[:, : size[0], : size[1]]


def _tiles(size: Sequence[int]) -> tuple[int, int]:
    """Tiles, down and along, that cover an output of this height and width."""
    down, along = (-(-length // tile) for length, tile in zip(size, _TILE, strict=True))
    return down, along


def _entries(x: jax.Array, before: Sequence[int], tiles: tuple[int, int], *, overlap: int) -> jax.Array:
    """The entries of all tiles of an image, [entries of a tile, N * tiles * C].

    Args:
      x: [N, H, W, C].
      before: zeros above it and to its left; below it and to its right come as many as the tiles need.
      tiles: how many, down and along.
      overlap: rows and columns that a tile has more than `_TILE`.
    """
    after = [
        count * tile + overlap - low - length
        for count, tile, low, length in zip(tiles, _TILE, before, x.shape[1:3], strict=True)
    ]
    edges = [(low, high, 0) for low, high in zip(before, after, strict=True)]
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    (down, along), (rows, columns) = _TILE, [(count - 1) * tile + 1 for count, tile in zip(tiles, _TILE, strict=True)]
    return jnp.stack(
        [
            x[:, i : i + rows : down, j : j + columns : along].reshape(-1)
            for i in range(down + overlap)
            for j in range(along + overlap)
        ]
    )


def _products(a: jax.Array, b: jax.Array, axis: int, other: int) -> jax.Array:
    """The matrix product for each of the entries, over these axes of a and b."""
    return lax.dot_general(a, b, (((axis,), (other,)), ((0,), (0,))))
