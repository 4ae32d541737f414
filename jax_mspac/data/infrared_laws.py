"""Laws by which infrared is simulated from photographs: each stands for a camera that does not exist.

A network that is trained on one law is tested on the others. None is a model of a sensor: results on them must be
called simulated.
"""

from collections.abc import Callable

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.modalities import LUMA

# How gray values, from colors float [H, W, 3] in [0, 1] and a generator, depend on the law: float [H, W] in [0, 1].
Law = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_NOISE = 0.02
# Brightness, and what the camera makes of it: it falls, rises and falls again.
_FOLDED = (0.0, 0.3, 0.6, 1.0), (0.9, 0.1, 0.7, 0.2)


def simulate(image: np.ndarray, seed: int, law: str = "mixed") -> np.ndarray:
    """An infrared-like image from a color photograph: color is lost, brightness changes, Gaussian noise is added.

    Args:
      image: uint8 [H, W, 3].
      seed: equal seeds give equal images.
      law: a name of `LAWS`.

    Returns:
      uint8 [H, W, 3], three equal channels.
    """
    rng = np.random.default_rng(seed)
    gray = np.clip(LAWS[law](image / 255.0, rng), 0.0, 1.0)
    return np.repeat(np.rint(255.0 * gray).astype(np.uint8)[..., None], 3, axis=-1)


def check(law: str, *, simulated: bool) -> None:
    """Checks the field `data.infrared_law`.

    Raises:
      UserError: there is no such law, or one is named though infrared is not simulated.
    """
    if law not in LAWS:
        raise UserError(f"config.data.infrared_law is {law!r}; expected one of {', '.join(LAWS)}")
    if law != "mixed" and not simulated:
        raise UserError(
            f"config.data.infrared_law is {law!r}, but infrared images are not simulated: "
            "set --config.data.simulate_infrared=True, too"
        )


def mixed(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random convex mix of the channels, a gamma from 1/2 to 2 and noise of 0.01 to 0.03, drawn for each image.

    In near infrared the brightness of dyed cloth has little to do with its color.
    """
    mix = rng.dirichlet((1.0, 1.0, 1.0))
    gamma = 2.0 ** rng.uniform(-1.0, 1.0)
    sigma = rng.uniform(0.01, 0.03)
    gray = (colors * mix).sum(axis=-1) ** gamma
    return gray + sigma * rng.standard_normal(gray.shape)


def red(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(1.5 R - 0.25 G - 0.25 B)^0.4, cut at 0 and 1: other weights and another gamma than `mixed` has."""
    return _noisy(np.clip(colors @ np.array([1.5, -0.25, -0.25]), 0.0, 1.0) ** 0.4, rng)


def dyes(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colored cloth shines, black and gray stay as they are, under a lamp at the camera.

    Y + C (1 - Y), where Y is the luma and C the largest channel minus the smallest; times 1 - r^2 / 2, where r is the
    distance from the middle of the image, 1 in its corners.
    """
    luma, chroma = colors @ np.array(LUMA), colors.max(axis=-1) - colors.min(axis=-1)
    rows, columns = (np.linspace(-1.0, 1.0, length)[shape] for length, shape in zip(luma.shape, _AXES, strict=True))
    return _noisy((luma + chroma * (1.0 - luma)) * (1.0 - (rows**2 + columns**2) / 4.0), rng)


def inverted(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(1 - Y)^1.5, where Y is the luma: bright is dark."""
    return _noisy((1.0 - colors @ np.array(LUMA)).clip(0.0) ** 1.5, rng)


def folded(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A curve of the luma that falls, rises and falls: straight from 0.9 at 0 to 0.1 at 0.3, 0.7 at 0.6, 0.2 at 1."""
    return _noisy(np.interp(colors @ np.array(LUMA), *_FOLDED), rng)


_AXES = (np.s_[:, None], np.s_[None, :])
LAWS: dict[str, Law] = {law.__name__: law for law in (mixed, red, dyes, inverted, folded)}


def _noisy(gray: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gray + _NOISE * rng.standard_normal(gray.shape)
