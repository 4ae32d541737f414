"""Convolution and batch normalisation with the conventions of the whole project."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac import ops

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nn.Module):
    """Square convolution with explicit padding and without bias.

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel.
      strides: step in both directions.
      padding: zeros on every side.
      dtype: dtype of the computation; the kernel is a float32 parameter.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape, jnp.float32)
        return ops.conv(x.astype(self.dtype), kernel.astype(self.dtype), strides=self.strides, padding=self.padding)


def batch_norm(
    *,
    train: bool,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    use_bias: bool = True,
    use_fast_variance: bool = True,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
    name: str | None = None,
) -> nn.BatchNorm:
    """Batch normalisation with torch's momentum (0.1 there is 0.9 here) and epsilon.

    Parameters and statistics are float32 whatever `dtype` is. The running variance is the biased one (torch keeps the
    unbiased one).

    Args:
      train: whether to normalise by the statistics of the batch and to update the running ones.
      dtype: dtype of the result.
      axis_name: mapped axis over whose devices the statistics are taken, or None; used only with `train`.
      use_bias: whether there is a learned bias.
      use_fast_variance: E[x^2] - E[x]^2 in one pass over x. Good for convolutions, whose mean is of the order of their
        deviation; it loses digits where the mean is far larger, as it is for pooled features.
      scale_init: initializer of the learned scale.
      name: name of the module.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        use_bias=use_bias,
        axis_name=axis_name if train else None,
        use_fast_variance=use_fast_variance,
        scale_init=scale_init,
        name=name,
    )
