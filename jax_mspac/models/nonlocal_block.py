"""Non-local block: every pixel of a feature map looks at all others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class NonLocalBlock(nn.Module):
    """The non-local block of AGW (Ye et al., arXiv 2001.04193; dot-product form of Wang et al., arXiv 1711.07971).

    With x the N pixels of C channels, and theta, phi and g linear maps to fewer channels,

        x + BatchNorm(W (1/N theta(x) phi(x)^T g(x)))

    without a softmax. The scale of the normalization starts at zero, so that the block starts as the identity. AGW's W
    has a bias, which the normalization takes out again; here it has none. Wang et al. have C / 2 inner channels; AGW's
    public code has a single one.

    Attributes:
      norm: makes the normalization, see `layers.BatchNorm`.
      channels: inner channels; 0 for C / 2.
      dtype: dtype of the computation; parameters are float32.
    """

    norm: Callable[..., nn.Module]
    channels: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature map [n, H, W, C] to one of the same shape and dtype."""
        n, height, width, channels = x.shape
        pixels = x.reshape(n, height * width, channels)
        inner = self.channels or channels // 2
        theta, phi, g = (nn.Dense(inner, dtype=self.dtype, name=name)(pixels) for name in ("theta", "phi", "g"))
        # Without a softmax the three commute, and einsum takes the cheaper order for the size of the map.
        y = jnp.einsum("npc,nqc,nqd->npd", theta, phi, g / (height * width))
        y = nn.Dense(channels, use_bias=False, dtype=self.dtype, name="W")(y)
        return x + self.norm(name="bn", scale_init=nn.initializers.zeros)(y.reshape(x.shape))
