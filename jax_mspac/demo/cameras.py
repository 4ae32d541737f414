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


CAMERAS = (
    Camera(
        number=1,
        modality=VISIBLE,
        headings=(0.5, 0.2, 0.2, 0.1),
        size=0.86,
        pitch=0.1,
        taper=0.05,
        roll=0.0,
        scene="bricks",
        wall=(0.55, 0.4, 0.34),
        ground=(0.5, 0.49, 0.46),
        horizon=0.62,
        cast=(1.05, 1.0, 0.9),
        exposure=1.05,
        gamma=1.0,
        gradient=(0.25, 0.0),
        vignette=0.1,
        blur=0.004,
        noise=0.02,
    ),
    Camera(
        number=2,
        modality=VISIBLE,
        headings=(0.15, 0.3, 0.35, 0.2),
        size=0.78,
        pitch=0.3,
        taper=0.22,
        roll=0.05,
        scene="panels",
        wall=(0.66, 0.69, 0.72),
        ground=(0.36, 0.38, 0.42),
        horizon=0.4,
        cast=(0.86, 0.98, 1.12),
        exposure=1.1,
        gamma=1.15,
        gradient=(-0.15, -0.25),
        vignette=0.25,
        blur=0.007,
        noise=0.03,
    ),
    Camera(
        number=3,
        modality=VISIBLE,
        headings=(0.2, 0.15, 0.2, 0.45),
        size=0.9,
        pitch=0.0,
        taper=-0.04,
        roll=-0.03,
        scene="foliage",
        wall=(0.3, 0.42, 0.22),
        ground=(0.48, 0.5, 0.36),
        horizon=0.7,
        cast=(0.98, 1.06, 0.92),
        exposure=1.2,
        gamma=0.85,
        gradient=(-0.3, 0.15),
        vignette=0.0,
        blur=0.005,
        noise=0.025,
    ),
    Camera(
        number=4,
        modality=INFRARED,
        headings=(0.35, 0.3, 0.2, 0.15),
        size=0.84,
        pitch=0.2,
        taper=0.14,
        roll=-0.04,
        scene="plaster",
        wall=(0.4,),
        ground=(0.3,),
        horizon=0.5,
        cast=(1.0,),
        exposure=1.25,
        gamma=0.95,
        gradient=(0.0, 0.2),
        vignette=0.45,
        blur=0.007,
        noise=0.035,
    ),
    Camera(
        number=5,
        modality=INFRARED,
        headings=(0.15, 0.1, 0.45, 0.3),
        size=0.92,
        pitch=0.05,
        taper=0.0,
        roll=0.03,
        scene="railings",
        wall=(0.2,),
        ground=(0.45,),
        horizon=0.66,
        cast=(1.0,),
        exposure=1.25,
        gamma=1.1,
        gradient=(0.3, 0.0),
        vignette=0.3,
        blur=0.009,
        noise=0.045,
    ),
)


def develop(pixels: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """What the camera records of a scene: light, lens, sensor, tone curve.

    Args:
      pixels: float32 [H, W, C], reflectances in [0, 1]; C is 3 for visible and 1 for infrared cameras.
      camera: the camera.
      rng: source of noise and of changes in the light.

    Returns:
      uint8 [H, W, 3]; infrared pictures are gray, their three channels equal.
    """
    height, width, channels = pixels.shape
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    slope_x, slope_y = np.add(camera.gradient, rng.normal(0.0, 0.12, 2)).astype(np.float32)
    light = (1.0 + slope_x * x) * (1.0 + slope_y * y)
    light *= 1.0 - np.float32(0.5 * camera.vignette) * (np.square(x) + np.square(y))
    gain = (
        camera.exposure
        * np.exp(rng.normal(0.0, 0.14))
        * np.multiply(camera.cast, np.exp(rng.normal(0.0, 0.04, channels)))
    )
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
