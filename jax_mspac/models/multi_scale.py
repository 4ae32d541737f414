"""DEEN's attention between the map of a stage and the larger one that the stage was given, and its diverse embeddings.

After the public code of Zhang and Wang (CVPR 2023), github.com/ZYK100/LLCM.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.models.layers import STARTS

# Embeddings of an image: the map itself, and two made of it.
EMBEDDINGS = 3
_DILATIONS = (1, 2, 3)


class ChannelAttention(nn.Module):
    """Channels of a high map look at those of a low one.

    With c channels of the low map, whose pixels at the high map's places are L, and of the high map H,

        H + BatchNorm(W ((1/c) theta(H)^T phi(L)) g(L))

    where the product in the middle is of all pixels, a matrix [c, c] over channels. As in `NonLocalBlock`, the scale of
    the normalization starts at zero, and the bias that the public W has is left to the normalization.

    Attributes:
      norm: makes the normalization, see `layers.BatchNorm`.
      dtype: dtype of the computation; parameters are float32.
    """

    norm: Callable[..., nn.Module]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, high: jax.Array, low: jax.Array) -> jax.Array:
        """Maps [n, H, W, C] and [n, sH, sW, c], s = 1 or 2, to one like the first."""
        channels = low.shape[-1]
        # Public strides of 2 in phi and W: only these pixels count.
        stride = -(-low.shape[1] // high.shape[1])
        low = low[:, ::stride, ::stride]
        theta = _mapped(self, "theta", high, channels)
        phi, g = (_mapped(self, name, low, channels) for name in ("phi", "g"))
        attention = jnp.einsum("npc,npd->ncd", theta, phi) / channels
        return high + _closed(self, jnp.einsum("ncd,npd->npc", attention, g), high)


class PixelAttention(nn.Module):
    """Pixels of a high map look at those of a low one: a `NonLocalBlock` between two maps, of half the low channels.

    In the public code a reshape pairs each pixel of a map's upper half with the one at the same place of its lower
    half, and it is pairs, of twice the channels, that look at pairs. So it is here. Maps of an odd number of pixels,
    which that code refuses, are not paired. The fields are those of `ChannelAttention`.
    """

    norm: Callable[..., nn.Module]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, high: jax.Array, low: jax.Array) -> jax.Array:
        """Maps [n, H, W, C] and [n, h, w, c] to one like the first."""
        n, inner = low.shape[0], low.shape[-1] // 2
        pixels = {"theta": _mapped(self, "theta", high, inner)}
        pixels |= {name: _mapped(self, name, low, inner) for name in ("phi", "g")}
        halves = 1 if any(x.shape[1] % 2 for x in pixels.values()) else 2
        theta, phi, g = (x.reshape(n, halves, -1, inner) for x in pixels.values())
        y = jnp.einsum("napc,naqc,nbqd->nbpd", theta, phi, g / g.shape[2])
        return high + _closed(self, y, high)


class MultiScaleAttention(nn.Module):
    """Channel attention, then pixel attention; both start as the identity. The fields are theirs."""

    norm: Callable[..., nn.Module]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, high: jax.Array, low: jax.Array) -> jax.Array:
        """The map that a stage made, [n, H, W, C], and the one that it was given, to one like the first."""
        high = ChannelAttention(self.norm, self.dtype, name="channels")(high, low)
        return PixelAttention(self.norm, self.dtype, name="pixels")(high, low)


class DiverseEmbeddings(nn.Module):
    """Each map and two others made of it, each by the mean of three dilated convolutions, ReLU and a linear map.

    The public code drops 1 % of all values while training; here nothing is dropped, so that a step does not depend on
    how the batch is split over devices.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, H, W, C] to [n * EMBEDDINGS, H, W, C], those of an image one after the other, itself first."""
        channels, made = x.shape[-1], [x]
        for branch in range(1, EMBEDDINGS):
            scales = [
                nn.Conv(
                    channels // 4,
                    (3, 3),
                    padding=dilation,
                    kernel_dilation=dilation,
                    use_bias=False,
                    kernel_init=STARTS["he"],
                    dtype=self.dtype,
                    name=f"branch{branch}_dilation{dilation}",
                )(x)
                for dilation in _DILATIONS
            ]
            mean = sum(scales) / len(scales)
            out = nn.Dense(channels, kernel_init=STARTS["he"], dtype=self.dtype, name=f"branch{branch}_out")
            made.append(out(nn.relu(mean)))
        return jnp.stack(made, axis=1).reshape(-1, *x.shape[1:])


def _mapped(block: nn.Module, name: str, x: jax.Array, channels: int) -> jax.Array:
    """A linear map of pixels: [n, H, W, C] to [n, H * W, channels]."""
    return nn.Dense(channels, dtype=block.dtype, name=name)(x.reshape(x.shape[0], -1, x.shape[-1]))


def _closed(block: Any, y: jax.Array, like: jax.Array) -> jax.Array:
    """Pixels [n, p, c] as a map like another, normalized with a scale that starts at zero."""
    y = nn.Dense(like.shape[-1], use_bias=False, dtype=block.dtype, name="W")(y)
    return block.norm(name="bn", scale_init=nn.initializers.zeros)(y.reshape(like.shape))
