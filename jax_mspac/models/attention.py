"""Part attention in a cascade: stage by stage, the map is cut into fewer stripes and each stripe attends to itself.

Formulas: talk slides of the paper, arXiv 2012.06843.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.kernels.maximum import largest
from jax_mspac.models.layers import Conv
from jax_mspac.settings import Expected, at_least, check, one_of, setting

FORMS = ("mask", "literal")
COUNTS = Expected("numbers from 1 on, or ()", lambda counts: all(count >= 1 for count in counts))
ODD = Expected("an odd size", lambda size: size >= 1 and size % 2 == 1)


class PartAttention(nn.Module):
    """Channel gate ("what"), then spatial gate ("where"), around a trunk that lets the features pass.

    With the pooled vectors and maps of the slides,

        CH(x)  = sigmoid(W_F (avg_hw x + max_hw x) + b_F)        x'  = x * CH(x)
        SP(x') = sigmoid(W_conv [avg_c x' || max_c x'])          x'' = x' * SP(x')

    and the result x + x * x'' (form "literal", quadratic in the features) or x * (1 + CH * SP) (form "mask", bounded:
    our reading of what the formula is meant to do). That trunk and gates see the same x is a reading too (the slides
    write x_o and x_a), and so is the spatial kernel's size: the slides give none.
    Gates are float32 and are sown as `channel_gate` [N, C] and `spatial_gate` [N, H, W] into "intermediates".

    Attributes:
      form: "mask" or "literal".
      kernel_size: side of the spatial gate's kernel, odd; zeros beyond the border, no bias.
      rank: of W_F: r for a product of matrices [C, r] and [r, C] in its place; 0 for a full one.
    """

    form: str = "mask"
    kernel_size: int = 7
    rank: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature map [N, H, W, C] to one of the same shape and dtype."""
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        pooled = jnp.mean(pixels, axis=1, dtype=jnp.float32) + largest(pixels, axis=1).astype(jnp.float32)
        if self.rank:
            pooled = nn.Dense(self.rank, use_bias=False, name="channel_reduced")(pooled)
        channel = nn.sigmoid(nn.Dense(x.shape[-1], name="channel")(pooled))
        gated = x * channel[:, None, None, :].astype(x.dtype)
        maps = [jnp.mean(gated, axis=-1, keepdims=True, dtype=jnp.float32), largest(gated, axis=-1)[..., None]]
        # Of two channels no other form pays.
        conv = Conv(1, self.kernel_size, padding=self.kernel_size // 2, kernels="native", name="spatial")
        spatial = nn.sigmoid(conv(jnp.concatenate(maps, axis=-1)))
        self.sow("intermediates", "channel_gate", channel)
        self.sow("intermediates", "spatial_gate", spatial[..., 0])
        gated = gated * spatial.astype(x.dtype)
        return x + (gated if self.form == "mask" else x * gated)


class CascadedPartAttention(nn.Module):
    """Part attention on ever larger stripes: partition, hierarchical aggregation, unification.

    At each level the map is cut along its height into equal stripes (`parts`, their number; () is the identity), every
    stripe passes a `PartAttention` of its own (named level{k}_part{i}, k and i from 0, i from the top), and the stripes
    are put together again. That the cascade is spatial in this sense is our reading of the slides.
    """

    parts: tuple[int, ...] = setting((6, 3, 1), COUNTS)
    form: str = setting("mask", one_of(FORMS))
    kernel_size: int = setting(7, ODD)
    rank: int = setting(0, at_least(0))

    def __post_init__(self):
        super().__post_init__()
        check(self)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature map [N, H, W, C] to one of the same shape and dtype; each number of parts divides H."""
        for level, n in enumerate(self.parts):
            stripes = [
                PartAttention(self.form, self.kernel_size, self.rank, name=f"level{level}_part{i}")(stripe)
                for i, stripe in enumerate(jnp.split(x, n, axis=1))
            ]
            x = jnp.concatenate(stripes, axis=1)
        return x
