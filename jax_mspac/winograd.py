"""Convolutions with 3x3 kernels by minimal filtering, which trades multiplications for additions.

A tile of 2 x 3 outputs takes 4 x 5 = 20 products instead of 54: F(2, 3) down the rows, F(3, 3) along them (Winograd,
"Arithmetic Complexity of Computations", 1980; for networks Lavin and Gray, arXiv 1509.09308). Larger tiles save more
and round worse; these stay within a few units in the sixth digit of the largest output.

Of each tile, every product is one entry of a grid of 4 x 5 matrix products over all tiles.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]
Matrix = Sequence[Sequence[float]]
Grid = list[list[jax.Array]]


class _Filter(NamedTuple):
    """One dimension: outputs y = output ((data d) * (kernel g)) of the inputs d and the three entries of a kernel g."""

    data: Matrix
    kernel: Matrix
    output: Matrix

    @property
    def tile(self) -> int:
        """Outputs; it takes two inputs more."""
        return len(self.output)


# Of the points 0, 1, -1 and infinity.
_DOWN = _Filter(
    data=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    output=((1, 1, 1, 0), (0, 1, -1, -1)),
)
# Of the points 0, 1, -1, 2 and infinity.
_ALONG = _Filter(
    data=((2, -1, -2, 1, 0), (0, -2, -1, 1, 0), (0, 2, -3, 1, 0), (0, -1, 0, 1, 0), (0, 2, -1, -2, 1)),
    kernel=((1 / 2, 0, 0), (-1 / 2, -1 / 2, -1 / 2), (-1 / 6, 1 / 6, -1 / 6), (1 / 6, 1 / 3, 2 / 3), (0, 0, 1)),
    output=((1, 1, 1, 1, 0), (0, 1, -1, 2, 0), (0, 1, 1, 4, 1)),
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
    return _filtered(x, kernel, padding, contract=0)


def input_gradient(kernel: jax.Array, ct: jax.Array, padding: Padding) -> jax.Array:
    """The cotangent [N, H, W, C] of the input of `conv` for ct [N, H', W', K], that of its output."""
    padding = tuple((2 - low, 2 - high) for low, high in padding)
    # Contracting the last axis in the products is free; to transpose the kernel before them costs more than they do.
    return _filtered(ct, kernel[::-1, ::-1], padding, contract=1)


def kernel_gradient(x: jax.Array, ct: jax.Array, padding: Padding) -> jax.Array:
    """The cotangent [3, 3, C, K] of the kernel of `conv` for ct [N, H', W', K], that of its output."""
    data, outputs = _data(x, padding, ct.shape[1:3]), _output_cotangents(ct)
    products = _each(lambda x, ct: lax.dot_general(x, ct, (((0,), (0,)), ((), ()))), data, outputs)
    taps = _transformed(_transpose(_DOWN.kernel), _transpose(_ALONG.kernel), products)
    return jnp.stack([jnp.stack(row) for row in taps])


def _filtered(x: jax.Array, kernel: jax.Array, padding: Padding, *, contract: int) -> jax.Array:
    """The convolution; the products contract axis 0 of the kernel's channels and features, or axis 1."""
    n, *size, _ = x.shape
    size = [length + low + high - 2 for length, (low, high) in zip(size, padding, strict=True)]
    kernels = _transformed(_DOWN.kernel, _ALONG.kernel, [[kernel[i, j] for j in range(3)] for i in range(3)])
    products = _each(
        lambda x, kernel: lax.dot_general(x, kernel, (((1,), (contract,)), ((), ()))), _data(x, padding, size), kernels
    )
    outputs = _transformed(_DOWN.output, _ALONG.output, products)
    # [tiles down][tiles along] of pixels -> an image of tiles, less what the last tiles have too much.
    down, along = _tiles(size)
    features = outputs[0][0].shape[-1]
    outputs = [[y.reshape(n, down, along, features) for y in row] for row in outputs]
    y = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)
    y = y.reshape(n, down * _DOWN.tile, along * _ALONG.tile, features)
    return y[:, : size[0], : size[1]]


def _tiles(size: Sequence[int]) -> tuple[int, int]:
    """Tiles that cover an output of this height and width."""
    height, width = size
    return -(-height // _DOWN.tile), -(-width // _ALONG.tile)


def _data(x: jax.Array, padding: Padding, size: Sequence[int]) -> Grid:
    """The transformed inputs [tiles, C] of all tiles of an output of this height and width."""
    down, along = _tiles(size)
    edges = [
        (low, count * tile + 2 - low - length, 0)
        for (low, _), count, tile, length in zip(
            padding, (down, along), (_DOWN.tile, _ALONG.tile), x.shape[1:3], strict=True
        )
    ]
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    rows, columns = (down - 1) * _DOWN.tile + 1, (along - 1) * _ALONG.tile + 1
    parts = [
        [
            x[:, i : i + rows : _DOWN.tile, j : j + columns : _ALONG.tile].reshape(-1, x.shape[-1])
            for j in range(_ALONG.tile + 2)
        ]
        for i in range(_DOWN.tile + 2)
    ]
    return _transformed(_DOWN.data, _ALONG.data, parts)


def _output_cotangents(ct: jax.Array) -> Grid:
    """The cotangents [tiles, K] of the products, from those of the outputs."""
    down, along = _tiles(ct.shape[1:3])
    missing = [(0, 0), (0, down * _DOWN.tile - ct.shape[1]), (0, along * _ALONG.tile - ct.shape[2]), (0, 0)]
    ct = jnp.pad(ct, missing)
    parts = [
        [ct[:, i :: _DOWN.tile, j :: _ALONG.tile].reshape(-1, ct.shape[-1]) for j in range(_ALONG.tile)]
        for i in range(_DOWN.tile)
    ]
    return _transformed(_transpose(_DOWN.output), _transpose(_ALONG.output), parts)


def _transformed(down: Matrix, along: Matrix, parts: Grid) -> Grid:
    """down P along^T of a grid P of arrays."""
    rows = [_combined(along, row) for row in parts]
    return _transpose([_combined(down, column) for column in _transpose(rows)])


def _combined(matrix: Matrix, terms: Sequence[jax.Array]) -> list[jax.Array]:
    """The matrix times a vector of arrays, without its zeros."""
    return [
        sum(term if weight == 1 else weight * term for weight, term in zip(row, terms, strict=True) if weight)
        for row in matrix
    ]


def _each(function, *grids: Grid) -> Grid:
    """The function of the entries at each place."""
    return [[function(*entries) for entries in zip(*rows, strict=True)] for rows in zip(*grids, strict=True)]


def _transpose(grid):
    return [list(column) for column in zip(*grid, strict=True)]
