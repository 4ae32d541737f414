"""The cameras: where they look from, in what light, and what they do to the picture."""

import dataclasses

import numpy as np

from jax_mspac.modalities import INFRARED, VISIBLE


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera at its place.

    Attributes:
      number: camera number, 1 or more.
      modality: "visible" or "infrared".
      headings: probabilities that persons show their front, left-facing side, back, right-facing side.
      size: height of an average person as a share of the picture's height.
      pitch: downward tilt in radians; it squashes persons.
      taper: growth of what is nearer to the camera's height, per body height above the hip.
      roll: rotation about the optical axis in radians.
      scene: texture of the wall: "bricks", "panels", "foliage", "plaster" or "railings".
      wall: tone of the wall: RGB, or one number for an infrared camera.
      ground: tone of the ground, likewise.
      horizon: where the wall meets the ground, as a share of the picture's height.
      cast: gain per channel.
      exposure: overall gain.
      gamma: exponent of the tone curve.
      gradient: brightness from left to right and from top to bottom, as differences from the center.
      vignette: loss of light in the corners.
      blur: standard deviation of the lens blur, as a share of the picture's height.
      noise: standard deviation of the sensor noise in [0, 1] units.
    """

    number: int
    modality: str
    headings: tuple[float, float, float, float]
    size: float
    pitch: float
    taper: float
    roll: float
    scene: str
    wall: tuple[float, ...]
    ground: tuple[float, ...]
    horizon: float
    cast: tuple[float, ...]
    exposure: float
    gamma: float
    gradient: tuple[float, float]
    vignette: float
    blur: float
    noise: float


# A camera is a column.
_TABLE = {
    "number": (1, 2, 3, 4, 5),
    "modality": (VISIBLE, VISIBLE, VISIBLE, INFRARED, INFRARED),
    "headings": (
        (0.5, 0.2, 0.2, 0.1),
        (0.15, 0.3, 0.35, 0.2),
        (0.2, 0.15, 0.2, 0.45),
        (0.35, 0.3, 0.2, 0.15),
        (0.15, 0.1, 0.45, 0.3),
    ),
    "size": (0.86, 0.78, 0.9, 0.84, 0.92),
    "pitch": (0.1, 0.3, 0.0, 0.2, 0.05),
    "taper": (0.05, 0.22, -0.04, 0.14, 0.0),
    "roll": (0.0, 0.05, -0.03, -0.04, 0.03),
    "scene": ("bricks", "panels", "foliage", "plaster", "railings"),
    "wall": ((0.55, 0.4, 0.34), (0.66, 0.69, 0.72), (0.3, 0.42, 0.22), (0.4,), (0.2,)),
    "ground": ((0.5, 0.49, 0.46), (0.36, 0.38, 0.42), (0.48, 0.5, 0.36), (0.3,), (0.45,)),
    "horizon": (0.62, 0.4, 0.7, 0.5, 0.66),
    "cast": ((1.05, 1.0, 0.9), (0.86, 0.98, 1.12), (0.98, 1.06, 0.92), (1.0,), (1.0,)),
    "exposure": (1.05, 1.1, 1.2, 1.25, 1.25),
    "gamma": (1.0, 1.15, 0.85, 0.95, 1.1),
    "gradient": ((0.25, 0.0), (-0.15, -0.25), (-0.3, 0.15), (0.0, 0.2), (0.3, 0.0)),
    "vignette": (0.1, 0.25, 0.0, 0.45, 0.3),
    "blur": (0.004, 0.007, 0.005, 0.007, 0.009),
    "noise": (0.02, 0.03, 0.025, 0.035, 0.045),
}
CAMERAS = tuple(Camera(**dict(zip(_TABLE, column, strict=True))) for column in zip(*_TABLE.values(), strict=True))


def develop(pixels: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """What the camera records of a scene: light, lens, sensor, tone curve; noise and changes in the light by `rng`.

    Float32 [H, W, C], reflectances in [0, 1], become uint8 [H, W, 3]; C is 3 for visible and 1 for infrared cameras,
    whose pictures are gray, their three channels equal.
    """
    height, width, channels = pixels.shape
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    slope_x, slope_y = np.add(camera.gradient, rng.normal(0.0, 0.12, 2)).astype(np.float32)
    light = (1.0 + slope_x * x) * (1.0 + slope_y * y)
    light *= 1.0 - np.float32(0.5 * camera.vignette) * (np.square(x) + np.square(y))
    gain = camera.exposure * np.exp(rng.normal(0.0, 0.14))
    gain = gain * np.multiply(camera.cast, np.exp(rng.normal(0.0, 0.04, channels)))
    picture = pixels * light[..., None] * gain.astype(np.float32)
    picture = blurred(picture, camera.blur * height * rng.uniform(0.6, 1.5))
    picture = np.power(np.clip(picture, 0.0, 1.0), np.float32(camera.gamma * np.exp(rng.normal(0.0, 0.1))))
    picture += np.float32(camera.noise) * rng.standard_normal(picture.shape, dtype=np.float32)
    levels = (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.repeat(levels, 3 // channels, axis=2)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of float32 [H, W, C] with standard deviation `sigma` in pixels; edges are repeated."""
    radius = max(int(np.ceil(2.5 * sigma)), 1)
    taps = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        size = pixels.shape[axis]
        padding = [(radius, radius) if other == axis else (0, 0) for other in range(3)]
        padded = np.pad(pixels, padding, mode="edge")
        pixels = sum(tap * padded.take(range(shift, shift + size), axis) for shift, tap in enumerate(taps))
    return pixels
