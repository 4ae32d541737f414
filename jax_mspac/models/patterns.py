"""MPANet's layers: channels that tell the modality normalized within an image, and masks that pick parts of a map.

After the public code of Wu et al. (CVPR 2021), github.com/DoubtedSteam/MPANet.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.models.layers import he_normal, torch_uniform

_REDUCTION, _EPSILON = 16, 1e-5


class ModalityAlleviation(nn.Module):
    """Each channel of a map between itself and its normalized form, as a gate says.

    With the gate m = sigmoid(W_2 relu(W_1 mean(x))) of an image's channels, mean and variance over the pixels of that
    image,

        m x + (1 - m) (x - mean(x)) / sqrt(var(x) + 1e-5).

    W_1 has a sixteenth of the channels; neither has a bias. The gate and the statistics are float32 in any dtype.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, H, W, C] to the same shape and dtype."""
        channels, pixels = x.shape[-1], x.astype(jnp.float32)
        mean = jnp.mean(pixels, axis=(1, 2), keepdims=True)
        inner = nn.Dense(max(channels // _REDUCTION, 1), use_bias=False, kernel_init=he_normal, name="squeeze")(mean)
        gate = nn.sigmoid(nn.Dense(channels, use_bias=False, kernel_init=he_normal, name="excite")(nn.relu(inner)))
        centered = pixels - mean
        normalized = centered * jax.lax.rsqrt(jnp.mean(jnp.square(centered), axis=(1, 2), keepdims=True) + _EPSILON)
        return (gate * pixels + (1 - gate) * normalized).astype(x.dtype)


class PatternMasks(nn.Module):
    """Masks of a map, each the sigmoid of a linear function of the pixels, and the parts that they pick.

    Attributes:
      count: of the masks, K.
      dtype: dtype of the computation; parameters are float32.
    """

    count: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of a map [n, H, W, C], its mean weighted by each mask, float32 [n, K, C]; and the masks, [n, K, H W]."""
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        drawn = nn.Dense(self.count, kernel_init=torch_uniform, dtype=self.dtype, name="masks")(pixels)
        masks = nn.sigmoid(drawn.astype(jnp.float32)).transpose(0, 2, 1)
        parts = jnp.einsum("nkp,npc->nkc", masks, pixels.astype(jnp.float32)) / pixels.shape[1]
        return parts, masks
