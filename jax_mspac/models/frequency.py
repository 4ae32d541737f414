"""MFEN's layers: experts of frequency bands, and what the spectrum of a map tells of its channels.

After the formulas of the paper (CVPR 2026). There is no public code: what they leave open is a reading of ours, listed
in docs/comparison.md.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jax_mspac.kernels import fourier

# Below any amplitude that matters: the gradient of a root is finite at 0, where a channel is dead.
_EPSILON = 1e-12


def octaves(height: int, width: int, count: int) -> np.ndarray:
    """Masks of `count` bands, each an octave wide, float32 [count, H, W // 2 + 1]; each frequency is in one.

    They part at 1/2, 1/4, 1/8, ... of the highest frequency down or across. The first band has all below, with the
    mean of the map, and the last one all above, with the corners of the spectrum. Bands of a small map may be empty.
    """
    radii = fourier.radii(height, width)
    edges = [0.0, *(2.0**-k for k in range(count - 1, 0, -1)), np.inf]
    bands = [(low <= radii) & (radii < high) for low, high in zip(edges, edges[1:], strict=False)]
    return np.stack(bands).astype(np.float32)


class BandExperts(nn.Module):
    """Pixels weighted by what experts of frequency bands find alike in two maps of them.

    With q, k and v linear maps of the pixels x to `channels`, F the Fourier transform in the plane, M_b the mask of a
    band and W_b linear to one number,

        a = sum_b sigmoid(W_b x) BatchNorm_b(F^-1(F(q) M_b F(k)))        x + BatchNorm(W (a v))

    where all products are of numbers: an expert is a circular convolution of q with the band of k. The scale of the
    last normalization starts at zero, so that a network with weights from elsewhere starts as it was. The transforms,
    and the experts and gates behind them, are float32 in any dtype.

    Attributes:
      norm: makes the normalization, see `layers.BatchNorm`.
      bands: number of the experts: see `octaves`.
      channels: of q, k and v.
      dtype: dtype of the linear maps; parameters are float32.
      kernels: see `fourier.forward`.
    """

    norm: Callable[..., nn.Module]
    bands: int
    channels: int
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature map [n, H, W, C] to one of the same shape and dtype."""
        height, width, channels = x.shape[1:]
        q, k, v = (nn.Dense(self.channels, dtype=self.dtype, name=name)(x) for name in ("q", "k", "v"))
        experts = nn.sigmoid(nn.Dense(self.bands, dtype=self.dtype, name="gate")(x).astype(jnp.float32))
        found = banded_product(q, k, octaves(height, width, self.bands), kernels=self.kernels)
        # One normalization of all bands' channels is one per band.
        found = self.norm(name="experts")(found.reshape(*x.shape[:3], -1)).reshape(found.shape)
        weights = jnp.einsum("nhwb,nhwbc->nhwc", experts, found).astype(self.dtype)
        y = nn.Dense(channels, use_bias=False, dtype=self.dtype, name="W")(weights * v)
        return x + self.norm(name="bn", scale_init=nn.initializers.zeros)(y)


def banded_product(q: jax.Array, k: jax.Array, masks: np.ndarray, *, kernels: str = "auto") -> jax.Array:
    """F^-1(F(q) M F(k)) of each mask M, [bands, H, W // 2 + 1]: of maps [n, H, W, C], float32 [n, H, W, bands, C]."""
    (a, b), (c, d) = (fourier.forward(x, kernels=kernels) for x in (q, k))

    def banded(product: jax.Array) -> jax.Array:
        made = product[:, :, :, None] * masks.transpose(1, 2, 0)[None, ..., None]
        return made.reshape(*product.shape[:3], -1)

    product = banded(a * c - b * d), banded(a * d + b * c)
    return fourier.inverse(product, q.shape[2], kernels=kernels).reshape(*q.shape[:3], len(masks), -1)


def spectral_statistics(x: jax.Array, *, kernels: str = "auto") -> jax.Array:
    """The mean of each channel's amplitudes over all frequencies, plus their standard deviation: float32 [..., C].

    Maps are [n, H, W, C]. The transform is the unitary one, so that the amplitudes are of the size of the map; the
    mean of the complex numbers would be a single pixel of it.
    """
    height, width = x.shape[1:3]
    real, imaginary = fourier.forward(x, kernels=kernels)
    amplitude = jnp.sqrt((jnp.square(real) + jnp.square(imaginary)) / (height * width) + _EPSILON)
    share = (fourier.counts(width) / (height * width)).reshape(1, 1, -1, 1)
    mean = jnp.sum(amplitude * share, axis=(1, 2), keepdims=True)
    variance = jnp.sum(jnp.square(amplitude - mean) * share, axis=(1, 2))
    return mean[:, 0, 0] + jnp.sqrt(variance + _EPSILON)
