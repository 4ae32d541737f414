"""What a model attends to: heat maps over the images, and its gates level by level.

A method that can tell has a function `attention(variables, images, modality)`, see `methods.learned.Learned.attention`.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jax_mspac.modalities import MODALITIES
from jax_mspac.reporting import style

_COLORMAP = "inferno"
# Of the heat map over the gray image.
_OPACITY = 0.6
_CHANNELS = "viridis"


@dataclasses.dataclass(frozen=True, eq=False)
class Attention:
    """What one model attends to in some images.

    Attributes:
      activation: float [n, h, w], the channel mean of the squared final feature map.
      spatial: spatial gates in [0, 1], float [n, h, w] per level of the cascade; () for a model without gates.
      channel: channel gates in [0, 1], float [n, parts, C] per level.
    """

    activation: np.ndarray
    spatial: tuple[np.ndarray, ...] = ()
    channel: tuple[np.ndarray, ...] = ()


def from_method(outputs: Mapping[str, Any]) -> Attention:
    """What `attention` of a method returned, levels in their order."""
    levels = [outputs[f"level{k}"] for k in range(sum(name.startswith("level") for name in outputs))]
    return Attention(
        activation=np.asarray(outputs["activation"]),
        spatial=tuple(np.asarray(level["spatial_gate"]) for level in levels),
        channel=tuple(np.asarray(level["channel_gate"]) for level in levels),
    )


def choose(identities: np.ndarray, modalities: np.ndarray, *, count: int, seed: int = 0) -> np.ndarray:
    """The images to show: the first visible and the first infrared one of `count` identities, drawn with a seed.

    Of identities and modalities int [N] it gives positions int64 [n]: pairs (visible, infrared) of one identity each.
    """
    one, other = (np.unique(identities[modalities == number]) for number in range(len(MODALITIES)))
    drawn = np.sort(np.random.default_rng(seed).permutation(np.intersect1d(one, other))[:count])
    shown = itertools.product(drawn, range(len(MODALITIES)))
    return np.array([np.flatnonzero((identities == i) & (modalities == m))[0] for i, m in shown], np.int64)


@matplotlib.rc_context(style.RC)
def figure(images: np.ndarray, titles: Sequence[str], this: Attention, other: Attention | None = None) -> Figure:
    """Draws images uint8 [n, H, W, 3] over the heat maps of one run or two: a titled column per image, a row per map.

    Activation maps are scaled to the range of each map, since their size means nothing; a level's spatial gates have
    one scale for all images, so that a level that does not look anywhere looks flat.
    """
    rows: list[tuple[str, np.ndarray | None]] = [("input", None)]
    if other is not None:
        rows.append(("second run:\nactivation", _each_scaled(other.activation)))
    rows.append(("this run:\nactivation", _each_scaled(this.activation)))
    for k, (gates, channel) in enumerate(zip(this.spatial, this.channel, strict=True), 1):
        low, high = float(gates.min()), float(gates.max())
        parts = f"{channel.shape[1]} stripes" if channel.shape[1] > 1 else "whole map"
        label = f"spatial gate\nlevel {k}: {parts}\n{low:.2f} to {high:.2f}"
        rows.append((label, (gates - low) / max(high - low, 1e-6)))
    height, width = images.shape[1:3]
    # Inches: of an image and the gap beside it, of the labels at the left and the titles at the top.
    cell, gap, left, top = 0.85, 0.04, 1.35, 0.45
    tall = cell * height / width
    size = left + len(images) * (cell + gap), top + len(rows) * (tall + gap)
    drawing = Figure(figsize=size)
    axes = drawing.subplots(len(rows), len(images), squeeze=False)
    drawing.subplots_adjust(
        left=left / size[0], right=1, bottom=0, top=1 - top / size[1], wspace=gap / cell, hspace=gap / tall
    )
    for line, (label, maps) in zip(axes, rows, strict=True):
        for column, ax in enumerate(line):
            shown = images[column] if maps is None else overlay(images[column], maps[column])
            ax.imshow(shown, interpolation="lanczos")
            style.bare(ax)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, loc="center", fontsize=7.5, fontweight="normal")
    return drawing


@matplotlib.rc_context(style.RC)
def channel_figure(this: Attention, modalities: np.ndarray) -> Figure:
    """Draws the channel gates: a panel per level, a row per stripe and modality, the mean over the images.

    `this` has gates, and its images are of `modalities`, int [n].
    """
    rows = [gates.shape[1] * len(MODALITIES) for gates in this.channel]
    drawing = Figure(figsize=(10, 0.7 + sum(0.35 + 0.15 * n for n in rows)), layout="constrained")
    axes = drawing.subplots(len(rows), 1, squeeze=False, height_ratios=[max(n, 4) for n in rows])[:, 0]
    for k, (ax, gates) in enumerate(zip(axes, this.channel, strict=True), 1):
        means = np.stack([gates[modalities == number].mean(axis=0) for number in range(len(MODALITIES))], axis=1)
        lines = means.reshape(-1, means.shape[-1])  # stripe by stripe, visible above infrared
        lines = lines[:, np.argsort(-lines.mean(axis=0), kind="stable")]
        shown = ax.imshow(lines, aspect="auto", interpolation="nearest", cmap=_CHANNELS, vmin=0, vmax=1)
        parts = gates.shape[1]
        ax.grid(False)
        ax.hlines(np.arange(1, parts) * len(MODALITIES) - 0.5, -0.5, lines.shape[1] - 0.5, colors="white", linewidths=3)
        ax.set_yticks(np.arange(parts) * len(MODALITIES) + 0.5, [str(part + 1) for part in range(parts)])
        ax.set_ylabel("stripe")
        ax.set_title(f"level {k}: {parts} stripe{'s' if parts > 1 else ''}")
    axes[-1].set_xlabel("channel, in descending order of its mean gate at the level")
    drawing.colorbar(shown, ax=axes, shrink=0.6, pad=0.01, label="channel gate")
    return drawing


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A heat map over the gray image, both uint8 [H, W, 3]; `heat`, float [h, w] in [0, 1], is enlarged bilinearly."""
    height, width = image.shape[:2]
    heat = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    colors = matplotlib.colormaps[_COLORMAP](np.clip(heat, 0, 1))[..., :3] * 255
    gray = image.mean(axis=-1, keepdims=True)
    return np.rint(_OPACITY * colors + (1 - _OPACITY) * gray).astype(np.uint8)


def _each_scaled(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
