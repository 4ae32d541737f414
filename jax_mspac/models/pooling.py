"""From a feature map to one vector per image or per stripe."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def split_stripes(x: jax.Array, count: int) -> jax.Array:
    """Cuts maps [N, H, W, C] along their height into `count` equal stripes: [N, count, H / count, W, C]."""
    n, h, w, c = x.shape
    return x.reshape(n, count, h // count, w, c)


def average_pool(x: jax.Array) -> jax.Array:
    """Mean over height and width: [..., H, W, C] to float32 [..., C]."""
    return jnp.mean(x, axis=(-3, -2), dtype=jnp.float32)


class GeneralizedMeanPool(nn.Module):
    """GeM: (mean_hw max(x, eps)^p)^(1/p) with one learned p (Radenovic et al., arXiv 1711.02512).

    Attributes:
      initial_p: p at step 0; 1 is the average, infinity the maximum.
      epsilon: smallest value that enters the mean.
    """

    initial_p: float = 3.0
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., H, W, C] to float32 [..., C]."""
        p = self.param("p", nn.initializers.constant(self.initial_p), (), jnp.float32)
        powers = jnp.maximum(x.astype(jnp.float32), self.epsilon) ** p
        return jnp.mean(powers, axis=(-3, -2)) ** (1 / p)
