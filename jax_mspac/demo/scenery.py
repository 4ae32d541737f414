"""What is around a person: the background, and obstacles in front."""

import numpy as np

from jax_mspac.demo.cameras import Camera
from jax_mspac.demo.painting import Paint, capsule, ellipse, strip


def background(camera: Camera, rng: np.random.Generator, *, height: int, width: int) -> np.ndarray:
    """The place without the person: another section of the camera's scene each time. float32 [H, W, C]."""
    wall, ground = np.asarray(camera.wall, np.float32), np.asarray(camera.ground, np.float32)
    wall = wall * np.float32(np.exp(rng.normal(0.0, 0.18)))
    ground = ground * np.float32(np.exp(rng.normal(0.0, 0.15)))
    horizon = int(np.clip(camera.horizon + rng.normal(0.0, 0.07), 0.05, 0.95) * height)
    pixels = np.empty((height, width, len(wall)), np.float32)
    pixels[:horizon] = wall
    pixels[horizon:] = ground
    _scene(pixels[:horizon], camera.scene, rng, unit=height)
    for _ in range(rng.integers(0, 4)):
        _background_object(pixels, rng, horizon=horizon)
    pixels *= 1.0 + smooth_noise(rng, height, width, cells=(8, 4), strength=0.13)[..., None]
    pixels *= 1.0 + smooth_noise(rng, height, width, cells=(32, 16), strength=0.08)[..., None]
    return pixels


def occlude(pixels: np.ndarray, rng: np.random.Generator, *, probability: float = 0.3) -> None:
    """With some probability, paints a pillar, a bush, a box or a rail in front of everything, in place."""
    height, width, channels = pixels.shape
    if rng.random() >= probability:
        return
    tone = _tone(rng, channels)
    match rng.integers(4):
        case 0:  # a pillar
            x = rng.uniform(0.05, 0.95) * width
            half = rng.uniform(0.06, 0.13) * width
            foot = np.array([x + rng.normal(0.0, 0.01) * height, height + 2.0])
            strip(pixels, np.array([x, -2.0]), foot, ((0, half), (1, half)), Paint(tone, tone, rim=0.4, side=0.2))
        case 1:  # a bush
            middle, top = rng.uniform(0.0, 1.0) * width, rng.uniform(0.62, 0.85) * height
            for _ in range(14):
                radius = rng.uniform(0.03, 0.075) * height
                spot = np.array([middle + rng.normal(0.0, 0.2) * width, rng.uniform(top, 1.05 * height)])
                leaf = tone * np.float32(rng.uniform(0.6, 1.3))
                ellipse(pixels, spot, (radius, 0.8 * radius), Paint(leaf, leaf, rim=0.4))
        case 2:  # a box, a parked motorbike, a counter
            x, top = rng.uniform(0.1, 0.9) * width, rng.uniform(0.62, 0.86) * height
            half = rng.uniform(0.15, 0.35) * width
            paint = Paint(tone, 0.6 * tone, "horizontal", rng.uniform(0.04, 0.12) * height)
            strip(pixels, np.array([x, top]), np.array([x, height + 2.0]), ((0, half), (1, half)), paint)
        case _:  # a rail
            y = rng.uniform(0.4, 0.8) * height
            ends = np.array([[-3.0, y + rng.normal(0.0, 0.04) * height], [width + 3.0, y]])
            radius = rng.uniform(0.012, 0.028) * height
            capsule(pixels, ends[0], ends[1], (radius, radius), Paint(tone, tone, rim=0.3))


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, *, cells: tuple[int, int], strength: float
) -> np.ndarray:
    """Noise of standard deviation about `strength` that varies over `cells` rows and columns. float32 [H, W]."""
    rows, columns = cells
    grid = np.float32(strength) * rng.standard_normal((rows + 1, columns + 1), dtype=np.float32)
    return _interpolated(_interpolated(grid, height).T, width).T


def _interpolated(values: np.ndarray, size: int) -> np.ndarray:
    """Linear interpolation of the first axis to `size` points."""
    place = np.linspace(0.0, len(values) - 1.001, size, dtype=np.float32)
    low = place.astype(np.intp)
    share = (place - low)[:, None]
    return values[low] * (1.0 - share) + values[low + 1] * share


def _scene(wall: np.ndarray, scene: str, rng: np.random.Generator, *, unit: int) -> None:
    """Multiplies the structure of a wall onto float32 [h, W, C], in place; `unit` is the picture's height."""
    height, width = wall.shape[:2]
    x = np.arange(width, dtype=np.float32) / unit + np.float32(rng.uniform(0.0, 1.0))
    y = np.arange(height, dtype=np.float32)[:, None] / unit + np.float32(rng.uniform(0.0, 1.0))
    match scene:
        case "bricks":
            row = np.floor(y / 0.045)
            joints = (y / 0.045 % 1.0 < 0.2) | ((x / 0.1 + 0.5 * row) % 1.0 < 0.1)
            wall *= np.where(joints, np.float32(1.25), np.float32(0.95))[..., None]
        case "panels":
            frame = (x / 0.22 % 1.0 < 0.1) | (y / 0.3 % 1.0 < 0.06)
            wall *= np.where(frame, np.float32(0.6), np.float32(1.0))[..., None]
        case "foliage":
            wall *= np.exp(smooth_noise(rng, height, width, cells=(14, 12), strength=0.3))[..., None]
        case "railings":
            wall *= np.where(x / 0.08 % 1.0 < 0.28, np.float32(2.1), np.float32(0.85))[:, None]
        case "plaster":
            wall *= 1.0 + smooth_noise(rng, height, width, cells=(5, 4), strength=0.25)[..., None]


def _background_object(pixels: np.ndarray, rng: np.random.Generator, *, horizon: int) -> None:
    """A door, poster, post or shrub behind the person."""
    height, width, channels = pixels.shape
    tone = _tone(rng, channels)
    accent, pattern = tone * np.float32(rng.uniform(0.5, 1.4)), str(rng.choice(("solid", "vertical", "checks")))
    paint = Paint(tone, accent, pattern, 0.08 * height)
    x = rng.uniform(-0.1, 1.1) * width
    if rng.random() < 0.6:
        half, tall = rng.uniform(0.05, 0.25) * width, rng.uniform(0.15, 0.6) * height
        foot = horizon + rng.uniform(-0.3, 0.12) * height
        strip(pixels, np.array([x, foot - tall]), np.array([x, foot]), ((0, half), (1, half)), paint)
    else:
        radius = rng.uniform(0.03, 0.1) * height
        leaf = Paint(paint.main, paint.main, rim=0.4)
        for _ in range(3):
            spot = np.array([x, horizon]) + rng.normal(0.0, 0.6 * radius, 2)
            ellipse(pixels, spot, (radius, 0.8 * radius), leaf)


def _tone(rng: np.random.Generator, channels: int) -> np.ndarray:
    gray = rng.uniform(0.12, 0.75)
    return np.clip(gray + rng.normal(0.0, 0.06, channels), 0.02, 1.0).astype(np.float32)
