"""Convolution and batch normalization with the conventions of the whole project."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jax_mspac.kernels.convolution import conv
from jax_mspac.runtime.parallel import neighbors

_MOMENTUM, _EPSILON = 0.9, 1e-5
# The mapped axis over whose devices something is averaged, or None, and how many of them share it: see `BatchNorm`.
_Shared = tuple[str | None, int]

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# PyTorch's own start of a linear layer or a convolution, where the code does not choose one: within 1 / sqrt(D) of 0.
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# How a linear layer may start.
STARTS = {"lecun": nn.initializers.lecun_normal(), "he": nn.initializers.he_normal(), "he_fan_out": he_normal}


def parameter(module: nn.Module, name: str, start: nn.initializers.Initializer, shape: tuple[int, ...]) -> jax.Array:
    """A float32 parameter of a module.

    As `module.param`, which traces the initializer each time that the parameter is read, to compare shapes: for a
    ResNet a tenth of the time before the first step.
    """
    if module.has_variable("params", name):
        return module.get_variable("params", name)
    return module.param(name, start, shape, jnp.float32)


class Conv(nn.Module):
    """Square convolution with explicit padding and without bias.

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel.
      strides: step in both directions.
      padding: zeros on every side.
      dtype: dtype of the computation; the kernel is a float32 parameter.
      kernels: see `kernels.convolution.conv`.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: int = 0
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = parameter(self, "kernel", he_normal, (self.kernel_size, self.kernel_size, x.shape[-1], self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return conv(x, kernel, strides=self.strides, padding=self.padding, kernels=self.kernels)


class Linear(nn.Module):
    """An affine map that starts as torch's: weights and biases uniform within 1 / sqrt(D) of 0.

    Attributes:
      features: number of outputs.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Float32 [N, D] to float32 [N, features]."""
        bound = x.shape[-1] ** -0.5

        def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        kernel = self.param("kernel", uniform, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", uniform, (self.features,))[None]


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last, with torch's momentum (0.1 there is 0.9 here) and epsilon.

    Parameters and statistics are float32 whatever comes in. The running variance is the biased one (torch keeps the
    unbiased one).

    Attributes:
      train: whether to normalize by the statistics of the batch and to update the running ones.
      axis_name: mapped axis over whose devices the statistics are taken, or None; used only with `train`.
      norm_devices: how many neighbors along that axis share statistics, see `parallel.neighbors`; 0: all.
      use_bias: whether there is a learned bias.
      use_fast_variance: E[x^2] - E[x]^2 in one pass over x. Good for convolutions, whose mean is of the order of their
        deviation; it loses digits where the mean is far larger, as it is for pooled features.
      scale_init: initializer of the learned scale.
    """

    train: bool
    axis_name: str | None = None
    norm_devices: int = 0
    use_bias: bool = True
    use_fast_variance: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] to the same shape and dtype."""
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = parameter(self, "scale", self.scale_init, shape)
        bias = parameter(self, "bias", nn.initializers.zeros, shape) if self.use_bias else jnp.zeros(shape)
        if not self.train:
            return _affine(x, mean.value, var.value, scale, bias)
        shared = (None if self.is_initializing() else self.axis_name, self.norm_devices)
        y, batch_mean, batch_var = _normalized(x, scale, bias, shared, self.use_fast_variance)
        if not self.is_initializing():
            mean.value = _MOMENTUM * mean.value + (1 - _MOMENTUM) * batch_mean
            var.value = _MOMENTUM * var.value + (1 - _MOMENTUM) * batch_var
        return y


def _affine(x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    factor = scale * lax.rsqrt(var + _EPSILON)
    return ((x.astype(jnp.float32) - _as_row(mean, x)) * _as_row(factor, x) + _as_row(bias, x)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalized(x: jax.Array, scale: jax.Array, bias: jax.Array, shared: _Shared, fast: bool):
    """The normalized batch, its mean and its variance; the last two have no gradient.

    The gradient written out (Ioffe and Szegedy, arXiv 1502.03167, section 3) needs x alone of what is as large as x.
    Derived automatically it keeps x - mean as well, which costs a pass over the memory.
    """
    mean = _mean(x.astype(jnp.float32), shared)
    if fast:
        var = jnp.maximum(_mean(jnp.square(x.astype(jnp.float32)), shared) - jnp.square(mean), 0.0)
    else:
        var = _mean(jnp.square(x.astype(jnp.float32) - _as_row(mean, x)), shared)
    return _affine(x, mean, var, scale, bias), mean, var


def _normalized_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, shared: _Shared, fast: bool):
    y, mean, var = _normalized(x, scale, bias, shared, fast)
    return (y, mean, var), (x, scale, mean, var)


def _normalized_backward(shared: _Shared, fast: bool, saved: tuple[jax.Array, ...], cts: tuple[jax.Array, ...]):
    x, scale, mean, var = saved
    y_ct = cts[0].astype(jnp.float32)
    inverse = lax.rsqrt(var + _EPSILON)
    unit = (x.astype(jnp.float32) - _as_row(mean, x)) * _as_row(inverse, x)
    # The parameters' gradients are this device's alone, as those of all parameters; x has a part in all devices' y.
    bias_ct, scale_ct = jnp.sum(y_ct, axis=_axes(x)), jnp.sum(y_ct * unit, axis=_axes(x))
    means = jnp.stack([bias_ct, scale_ct]) / (x.size // x.shape[-1])
    means = _average(means, shared)
    x_ct = _as_row(scale * inverse, x) * (y_ct - _as_row(means[0], x) - unit * _as_row(means[1], x))
    return x_ct.astype(x.dtype), scale_ct, bias_ct


_normalized.defvjp(_normalized_forward, _normalized_backward)


def _mean(x: jax.Array, shared: _Shared) -> jax.Array:
    return _average(jnp.mean(x, axis=_axes(x)), shared)


def _average(x: jax.Array, shared: _Shared) -> jax.Array:
    axis_name, group = shared
    return x if axis_name is None else lax.pmean(x, axis_name, axis_index_groups=neighbors(axis_name, group))


def _as_row(of_channels: jax.Array, x: jax.Array) -> jax.Array:
    """[C] in a shape that broadcasts with x."""
    return of_channels.reshape((1,) * (x.ndim - 1) + of_channels.shape)


def _axes(x: jax.Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))
