"""Part attention in a cascade: stage by stage, the map is cut into fewer stripes and each stripe attends to itself.

Formulas: talk slides of the paper, arXiv 2012.06843.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.errors import UserError
from jax_mspac.kernels.convolution import largest
from jax_mspac.models.layers import Conv

FORMS = ("mask", "literal")


def check_partition(image_height: int, *, stride: int, parts: Sequence[int]) -> None:
    """Refuses stripes that do not divide the feature map, before anything is built.

    Args:
      image_height: height of the images in pixels.
      stride: total stride of the backbone: 16 with last stride 1, 32 with last stride 2.
      parts: all numbers of stripes that the map is cut into.

    Raises:
      UserError: names the part count, the map height and the nearest image heights that work.
    """
    for n in parts:
        if n < 1:
            raise UserError(f"a partition into {n} stripes does not exist; expected 1 or more")
    step = stride * math.lcm(*parts)
    below = image_height // step * step
    heights = " or ".join(str(height) for height in (below, below + step) if height > 0)
    advice = f"images of height {image_height} at stride {stride}; heights that work: {heights}"
    _check_divides(-(-image_height // stride), parts, advice)


def _check_divides(map_height: int, parts: Sequence[int], advice: str) -> None:
    for n in parts:
        if map_height % n:
            raise UserError(f"{n} stripes do not divide a feature map of {map_height} rows ({advice})")


class PartAttention(nn.Module):
    """Channel gate ("what"), then spatial gate ("where"), around a trunk that lets the features pass.

    With the pooled vectors and maps of the slides,

        CH(x)  = sigmoid(W_F (avg_hw x + max_hw x) + b_F)        x'  = x * CH(x)
        SP(x') = sigmoid(W_conv [avg_c x' || max_c x'])          x'' = x' * SP(x')

    and the result x + x * x'' (form "literal", quadratic in the features) or x * (1 + CH * SP) (form "mask", bounded:
    our reading of what the formula is meant to do). The spatial kernel's size is a reading too: the slides give none.
    Gates are float32 and are sown as `channel_gate` [N, C] and `spatial_gate` [N, H, W] into "intermediates".

    Attributes:
      form: "mask" or "literal".
      kernel_size: side of the spatial gate's kernel, odd; zeros beyond the border, no bias.
    """

    form: str = "mask"
    kernel_size: int = 7

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature map [N, H, W, C] to one of the same shape and dtype."""
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        pooled = jnp.mean(pixels, axis=1, dtype=jnp.float32) + largest(pixels, axis=1).astype(jnp.float32)
        channel = nn.sigmoid(nn.Dense(x.shape[-1], name="channel")(pooled))
        gated = x * channel[:, None, None, :].astype(x.dtype)
        pooled = [jnp.mean(gated, axis=-1, keepdims=True, dtype=jnp.float32), largest(gated, axis=-1)[..., None]]
        conv = Conv(1, self.kernel_size, padding=self.kernel_size // 2, name="spatial")
        spatial = nn.sigmoid(conv(jnp.concatenate(pooled, axis=-1)))
        self.sow("intermediates", "channel_gate", channel)
        self.sow("intermediates", "spatial_gate", spatial[..., 0])
        gated = gated * spatial.astype(x.dtype)
        return x + (gated if self.form == "mask" else x * gated)


class CascadedPartAttention(nn.Module):
    """Part attention on ever larger stripes: partition, hierarchical aggregation, unification.

    At each level the map is cut along its height into equal stripes, every stripe passes a `PartAttention` of its own
    (named level{k}_part{i}, k and i from 0, i from the top), and the stripes are put together again. That the cascade
    is spatial in this sense is our reading of the slides.

    Attributes:
      parts: number of stripes per level; () is the identity.
      form: see `PartAttention`.
      kernel_size: see `PartAttention`.
    """

    parts: tuple[int, ...] = (6, 3, 1)
    form: str = "mask"
    kernel_size: int = 7

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature map [N, H, W, C] to one of the same shape and dtype.

        Raises:
          UserError: if a part count does not divide H, or a field is out of its range.
        """
        if self.form not in FORMS:
            raise UserError(f"attention form {self.form!r} does not exist; choose one of {', '.join(FORMS)}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise UserError(f"attention kernel size is {self.kernel_size}; expected an odd number")
        rows = math.lcm(*self.parts)
        advice = (
            f"image heights that work: multiples of {16 * rows} with last stride 1, of {32 * rows} with last stride 2"
        )
        _check_divides(x.shape[1], self.parts, advice)
        for level, n in enumerate(self.parts):
            stripes = [
                PartAttention(form=self.form, kernel_size=self.kernel_size, name=f"level{level}_part{i}")(stripe)
                for i, stripe in enumerate(jnp.split(x, n, axis=1))
            ]
            x = jnp.concatenate(stripes, axis=1)
        return x
