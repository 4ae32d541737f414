"""Anti-aliased shapes on a float picture: signed distances, each evaluated in the shape's own bounding box only.

Coordinates are pixels, x to the right and y down; pixel centers lie at half-integers. Shapes are painted back to front.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Paint:
    """How a surface looks to one camera: float32 [C] tones of the ground (`main`) and of the pattern (`accent`).

    The pattern is one of appearance.PATTERNS, its period in pixels; it turns with the yaw of the body that wears it.
    `rim`: how much darker the surface gets toward its sides (they turn away from the camera); `side`: how much brighter
    the right side is than the left.
    """

    main: np.ndarray
    accent: np.ndarray
    pattern: str = "solid"
    period: float = 1.0
    yaw: float = 0.0
    rim: float = 0.0
    side: float = 0.0


def capsule(pixels: np.ndarray, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], paint: Paint) -> None:
    """Paints a tapered capsule from `start` to `end` (float [2]) over `pixels` (float32 [H, W, C]), in place."""
    reach = max(radii)
    window, along, across, length = _frame(pixels, start, end, reach)
    share = np.clip(along / length, 0.0, 1.0)
    radius = radii[0] + (radii[1] - radii[0]) * share
    distance = np.sqrt(np.square(along - share * length) + np.square(across)) - radius
    _blend(window, distance, along, across, length, radius, reach, paint)


def strip(
    pixels: np.ndarray, start: np.ndarray, end: np.ndarray, widths: tuple[tuple[float, float], ...], paint: Paint
) -> None:
    """Paints a straight strip of varying width over `pixels` (float32 [H, W, C]), in place.

    It goes from `start` to `end` (float [2], the middles of its upper and its lower edge). `widths` are pairs (share of
    the length, half width) in rising order; linear in between.
    """
    shares, halves = zip(*widths, strict=True)
    reach = max(halves)
    window, along, across, length = _frame(pixels, start, end, reach)
    half = np.interp(along, np.multiply(shares, length), halves).astype(np.float32)
    distance = np.maximum(np.abs(across) - half, np.abs(along - 0.5 * length) - 0.5 * length)
    _blend(window, distance, along, across, length, half, reach, paint)


def ellipse(pixels: np.ndarray, center: np.ndarray, radii: tuple[float, float], paint: Paint) -> None:
    """Paints an ellipse with horizontal and vertical `radii` over `pixels`, in place."""
    above = np.array([center[0], center[1] - radii[1]])
    below = np.array([center[0], center[1] + radii[1]])
    window, along, across, length = _frame(pixels, above, below, radii[0])
    norm = np.sqrt(np.square(across / radii[0]) + np.square((along - radii[1]) / radii[1]))
    _blend(window, (norm - 1.0) * min(radii), along, across, length, radii[0], radii[0], paint)


def _frame(pixels: np.ndarray, start: np.ndarray, end: np.ndarray, reach: float):
    """The part of the picture near a segment, with each pixel's place along and across it; empty if it is outside."""
    height, width = pixels.shape[:2]
    margin = reach + 1.0
    left = max(int(min(start[0], end[0]) - margin), 0)
    right = max(min(int(max(start[0], end[0]) + margin) + 1, width), left)
    top = max(int(min(start[1], end[1]) - margin), 0)
    bottom = max(min(int(max(start[1], end[1]) + margin) + 1, height), top)
    axis_x, axis_y = float(end[0] - start[0]), float(end[1] - start[1])
    length = max(float(np.hypot(axis_x, axis_y)), 1e-3)
    axis_x, axis_y = axis_x / length, axis_y / length
    x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - start[0])
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - start[1])
    along = x * np.float32(axis_x) + y * np.float32(axis_y)
    across = x * np.float32(axis_y) - y * np.float32(axis_x)
    return pixels[top:bottom, left:right], along, across, length


def _blend(window, distance, along, across, length, half, reach, paint: Paint) -> None:
    cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    tone = paint.main
    if paint.pattern != "solid":
        weight = _pattern_weight(paint, along, across, length, reach)
        tone = tone + weight[..., None] * (paint.accent - paint.main)
    if paint.rim or paint.side:
        cross = np.clip(across / half, -1.0, 1.0)
        light = 1.0 + np.float32(paint.side) * cross - np.float32(paint.rim) * np.square(cross)
        tone = tone * light[..., None]
    window += cover * (tone - window)


def _pattern_weight(paint: Paint, along, across, length: float, reach: float) -> np.ndarray:
    """Weight of the accent in [0, 1] per pixel, with edges one pixel wide."""
    period = max(paint.period, 3.0)  # finer patterns would alias
    around = across - np.float32(reach * paint.yaw)
    match paint.pattern:
        case "horizontal":
            return _bands(along, period)
        case "vertical":
            return _bands(around, period)
        case "diagonal":
            return _bands((along + around) * np.float32(0.7071), period)
        case "checks":
            rows, columns = _bands(along, period), _bands(around, period)
            return rows + columns - 2.0 * rows * columns
        case "dots":
            off_row, off_column = along / period % 1.0 - 0.5, around / period % 1.0 - 0.5
            return np.clip(0.5 + period * (0.33 - np.sqrt(np.square(off_row) + np.square(off_column))), 0.0, 1.0)
        case "blocks":
            return np.clip(along - np.float32(0.25 * length + paint.period) + 0.5, 0.0, 1.0)
        case "halves":
            return np.clip(0.5 + across * np.cos(paint.yaw) - reach * np.sin(paint.yaw), 0.0, 1.0)
        case "logo":
            front = np.cos(paint.yaw)
            if front < 0.2:
                return np.zeros_like(along)
            aside = (across - reach * np.sin(paint.yaw)) / front
            off = np.maximum(np.abs(aside), np.abs(along - 0.35 * length))
            return np.clip(0.5 + paint.period - off, 0.0, 1.0)
    raise ValueError(f"unknown pattern {paint.pattern!r}")


def _bands(position: np.ndarray, period: float) -> np.ndarray:
    """Stripes, half of each period wide."""
    return np.clip(0.5 + period * (0.25 - np.abs(position / period % 1.0 - 0.5)), 0.0, 1.0)
