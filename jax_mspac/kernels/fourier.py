"""Fourier transform of maps in the plane, without complex numbers outside of it, in a form that every format holds.

Spectra are pairs of real arrays, the real and the imaginary part. Of a real map, W pixels wide, the frequencies 0 to
W // 2 across tell all; the others are conjugates. All is float32: XLA has no transform of bfloat16.
"""

import jax
import jax.numpy as jnp
import numpy as np

Spectrum = tuple[jax.Array, jax.Array]


def forward(x: jax.Array, *, kernels: str = "auto") -> Spectrum:
    """The sums over pixels of x exp(-2 pi i (u h / H + v w / W)): [N, H, W, C] to two arrays [N, H, W // 2 + 1, C].

    With the kernels "plain" it is products with matrices of sines and cosines.
    """
    x = x.astype(jnp.float32)
    if kernels != "plain":
        spectrum = jnp.fft.rfft2(x, axes=(1, 2))
        return spectrum.real, spectrum.imag
    height, width = x.shape[1:3]
    cosine, sine = _waves(width, width // 2 + 1)
    real, imaginary = _across(x, cosine), -_across(x, sine)
    cosine, sine = _waves(height, height)
    return _down(real, cosine) + _down(imaginary, sine), _down(imaginary, cosine) - _down(real, sine)


def inverse(spectrum: Spectrum, width: int, *, kernels: str = "auto") -> jax.Array:
    """The real map [N, H, width, C] of a spectrum: `inverse(forward(x), width)` is x."""
    real, imaginary = spectrum
    height = real.shape[1]
    if kernels != "plain":
        return jnp.fft.irfft2(jax.lax.complex(real, imaginary), s=(height, width), axes=(1, 2))
    cosine, sine = _waves(height, height)
    columns = _down(real, cosine) - _down(imaginary, sine), _down(imaginary, cosine) + _down(real, sine)
    share = counts(width)[:, None] / (height * width)
    cosine, sine = (wave.T * share for wave in _waves(width, width // 2 + 1))
    return _across(columns[0], cosine) - _across(columns[1], sine)


def counts(width: int) -> np.ndarray:
    """How many of all frequencies across, of which conjugates are left out, each of a spectrum stands for."""
    made = np.full(width // 2 + 1, 2.0, np.float32)
    made[0] = 1
    if width % 2 == 0:
        made[-1] = 1
    return made


def radii(height: int, width: int) -> np.ndarray:
    """How high each frequency of a spectrum is, float64 [H, W // 2 + 1]: 1 for a period of two pixels down or across.

    Where both are so high, in the corner, it is the root of 2.
    """
    return 2 * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])


def _waves(length: int, frequencies: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of each frequency at each pixel, float32 [length, frequencies]."""
    # The product modulo the period, which is exact.
    angles = 2 * np.pi * (np.outer(np.arange(length), np.arange(frequencies)) % length) / length
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _down(x: jax.Array, matrix: np.ndarray) -> jax.Array:
    return jnp.einsum("nhwc,hk->nkwc", x, matrix, precision=jax.lax.Precision.HIGHEST)


def _across(x: jax.Array, matrix: np.ndarray) -> jax.Array:
    return jnp.einsum("nhwc,wk->nhkc", x, matrix, precision=jax.lax.Precision.HIGHEST)
