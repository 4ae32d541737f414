"""From a feature map to one vector per image or per stripe."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.settings import within

# What an exponent of GeM may be: 1 is the average, and 10 is near the maximum. Below 1 the smallest values rule, and
# from 0 on the pooling turns round.
LEAST, MOST = 1.0, 10.0
EXPONENT = within(LEAST, MOST)


def split_stripes(x: jax.Array, count: int) -> jax.Array:
    """Cuts maps [N, H, W, C] along their height into `count` equal stripes: [N, count, H / count, W, C]."""
    n, h, w, c = x.shape
    return x.reshape(n, count, h // count, w, c)


def average_pool(x: jax.Array) -> jax.Array:
    """Mean over height and width: [..., H, W, C] to float32 [..., C]."""
    return jnp.mean(x, axis=(-3, -2), dtype=jnp.float32)


class GeneralizedMeanPool(nn.Module):
    """GeM: (mean_hw max(x, 0)^p + eps)^(1/p) with one p for all channels (Radenovic et al., arXiv 1711.02512).

    The place of eps is that of AGW's code (Ye et al., arXiv 2001.04193): a channel that is 0 everywhere becomes
    eps^(1/p), 1e-4 for p = 3.

    Attributes:
      p: the exponent, or where it starts if it is learned.
      learned: whether p is a parameter; `constrained` keeps it in its range.
      epsilon: eps.
    """

    p: float = 3.0
    learned: bool = True
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., H, W, C] to float32 [..., C]."""
        p = self.param("p", nn.initializers.constant(self.p), (), jnp.float32) if self.learned else self.p
        x, least = jnp.maximum(x.astype(jnp.float32), 0.0), self.epsilon ** (1 / p)
        # High powers leave float32's range on both sides. The result does not depend on the scale taken out, which thus
        # needs no gradient.
        scale = jax.lax.stop_gradient(jnp.maximum(jnp.max(x, axis=(-3, -2)), least))
        powers = (x / scale[..., None, None, :]) ** p
        return scale * (jnp.mean(powers, axis=(-3, -2)) + (least / scale) ** p) ** (1 / p)


def constrained(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a network after an optimizer's step: a learned exponent is kept in [`LEAST`, `MOST`]."""
    if "pooling" not in params:
        return params
    return {**params, "pooling": {"p": jnp.clip(params["pooling"]["p"], LEAST, MOST)}}
