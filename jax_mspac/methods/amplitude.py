"""Amplitude exchange: an image with the coarse brightness and contrast of one of the other modality, and its own edges.

The phases of a spectrum hold where things are, the amplitudes of low frequencies how bright and how even they are
(Yang and Soatto, CVPR 2020, arXiv 2004.05498). MFEN (CVPR 2026) exchanges these between the modalities.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.kernels import fourier
from jax_mspac.methods import rectangles

FILTERS = ("gaussian", "sharp")


def exchanged(
    images: jax.Array, partners: jax.Array, *, strength: float = 1.0, band: float = 0.1, form: str = "gaussian"
) -> jax.Array:
    """Images with low amplitudes of others, A + strength L (A' - A), and their own phases, channel by channel.

    Args:
      images: float [n, H, W, 3].
      partners: of the same shape; amplitudes are from these.
      strength: 0 for the images themselves, 1 for all of the partners' amplitudes where L is 1.
      band: which frequencies are low; 1 is a period of two pixels down or across.
      form: of the filter L: "gaussian", exp(-r^2 / (2 band^2)), or "sharp", 1 for r < band.

    Returns:
      float32 [n, H, W, 3], which may leave the range of the images.
    """
    height, width = images.shape[1:3]
    radii = fourier.radii(height, width)
    low = np.exp(-np.square(radii / band) / 2) if form == "gaussian" else radii < band
    share = (strength * low).astype(np.float32)[None, ..., None]
    (real, imaginary), others = (fourier.forward(x) for x in (images, partners))
    own, other = (jnp.hypot(*spectrum) for spectrum in ((real, imaginary), others))
    wanted = own + share * (other - own)
    # A frequency that an image does not have has no phase: that of 0 is taken, as `numpy.angle` has it.
    absent = own < jnp.finfo(jnp.float32).tiny
    factor = wanted / jnp.where(absent, 1.0, own)
    return fourier.inverse((jnp.where(absent, wanted, real * factor), imaginary * factor), width)


def drawn_partners(labels: jax.Array, other_labels: jax.Array, draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which image of the other modality, of the same person, each image is given; each is as likely.

    Args:
      labels: int [n].
      other_labels: int [m], of the other modality's images.
      draws: uniform numbers [n] in [0, 1).

    Returns:
      Numbers int32 [n] of these, and whether there is one, bool [n].
    """
    same = labels[:, None] == other_labels[None, :]
    number = jnp.sum(same, axis=1)
    rank = rectangles.integers(draws, number)
    # The place where so many matches have been passed.
    place = jnp.argmax(same & (jnp.cumsum(same, axis=1) == rank[:, None] + 1), axis=1)
    return place.astype(jnp.int32), number > 0
