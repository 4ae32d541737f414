"""Test images, what a method makes of them in the other modality, and what it makes of that again.

A method that can translate has a function `translate(variables, images, modality)`, see `methods.base.Method`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jax_mspac.reporting import style


class Translations(NamedTuple):
    """Images uint8 [n, H, W, 3]: made in the other modality, and made of these in their own."""

    made: np.ndarray
    back: np.ndarray

    def error(self, images: np.ndarray) -> np.ndarray:
        """Of each image, the mean absolute difference between it and its cycle, in gray levels: float [n]."""
        return np.abs(images.astype(np.float32) - self.back).mean(axis=(1, 2, 3))


@matplotlib.rc_context(style.RC)
def figure(images: np.ndarray, titles: Sequence[str], of: Translations) -> Figure:
    """Draws a titled column per image uint8 [n, H, W, 3]: the image, its translation, and its cycle."""
    height, width = images.shape[1:3]
    # Inches: of an image and the gap beside it, of the labels at the left and the titles at the top.
    cell, gap, left, top = 0.85, 0.04, 0.95, 0.45
    tall = cell * height / width
    size = left + len(images) * (cell + gap), top + 3 * (tall + gap)
    drawing = Figure(figsize=size)
    axes = drawing.subplots(3, len(images), squeeze=False)
    drawing.subplots_adjust(
        left=left / size[0], right=1, bottom=0, top=1 - top / size[1], wspace=gap / cell, hspace=gap / tall
    )
    for line, label, shown in zip(axes, ("image", "translation", "cycle"), (images, *of), strict=True):
        for ax, image in zip(line, shown, strict=True):
            ax.imshow(image, interpolation="lanczos")
            style.bare(ax)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, loc="center", fontsize=7.5, fontweight="normal")
    return drawing
