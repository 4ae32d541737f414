"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005) of the gray image."""

import numpy as np

from jax_mspac.errors import UserError

DIRECTIONS = 9
CELL = 8  # pixels
BLOCK = 2  # cells


def extract(images: np.ndarray) -> np.ndarray:
    """9 directions, cells of 8 x 8 pixels, blocks of 2 x 2 cells, on the mean of the three channels.

    Images uint8 [n, H, W, 3] give float32 [n, D]; H or W below 16 raise a UserError.
    """
    # Here, so that training a network does not wait for it.
    from skimage import feature

    settings = {"orientations": DIRECTIONS, "pixels_per_cell": (CELL, CELL), "cells_per_block": (BLOCK, BLOCK)}
    features = np.empty((len(images), dim(*images.shape[1:3])), np.float32)
    for row, image in zip(features, images, strict=True):
        row[:] = feature.hog(image.mean(axis=-1), **settings)
    return features


def dim(height: int, width: int) -> int:
    """D for images of this size."""
    rows, columns = height // CELL - BLOCK + 1, width // CELL - BLOCK + 1
    if min(rows, columns) < 1:
        raise UserError(
            f"HOG needs images of at least {CELL * BLOCK} x {CELL * BLOCK} pixels, these are {height} x {width} "
            "(height x width): choose a larger input size"
        )
    return rows * columns * BLOCK**2 * DIRECTIONS
