"""Blocks of networks that translate images, and of the discriminators that judge them.

Images are float [N, H, W, C], those that a generator makes in [-1, 1]. Parameters are float32; `dtype` is that of the
computation.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jax_mspac.kernels.convolution import conv, transposed_conv

# Of the running statistics, as in torch; 0.1 there is 0.9 here.
_MOMENTUM, _EPSILON = 0.9, 1e-5

# How all of these networks start: Radford et al. (arXiv 1511.06434), section 4.
gan_normal = nn.initializers.normal(0.02)


class Convolution(nn.Module):
    """Square convolution whose kernel starts from N(0, 0.02).

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel.
      strides: step in both directions.
      padding: pixels on every side.
      border: what these are: "zeros", or "reflect" for the mirror image without the edge itself.
      bias: "none", or where it starts: "zeros", or "uniform" within 1 / sqrt(inputs) of 0 as torch's.
      kernels: see `kernels.convolution.conv`.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: int = 0
    border: str = "zeros"
    bias: str = "none"
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', features] in `dtype`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", gan_normal, shape).astype(self.dtype)
        x, padding = x.astype(self.dtype), self.padding
        if self.border == "reflect" and padding:
            sides = (padding, padding)
            x, padding = jnp.pad(x, ((0, 0), sides, sides, (0, 0)), mode="reflect"), 0
        y = conv(x, kernel, strides=self.strides, padding=padding, kernels=self.kernels)
        return _biased(self, y, fan_in=kernel[..., 0].size)


class TransposedConvolution(nn.Module):
    """Transposed square convolution that multiplies the size by its stride, as torch's `ConvTranspose2d` does.

    Its kernel, [side, side, C, features], starts from N(0, 0.02). Torch's weight for it is [C, features, side, side],
    turned by 180 degrees in both directions.

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel: the stride, plus an even number.
      strides: factor in both directions.
      bias: see `Convolution`.
    """

    features: int
    kernel_size: int = 4
    strides: int = 2
    bias: str = "none"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, strides * H, strides * W, features] in `dtype`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", gan_normal, shape).astype(self.dtype)
        y = transposed_conv(x.astype(self.dtype), kernel, self.strides)
        return _biased(self, y, fan_in=self.kernel_size**2 * self.features)


def _biased(module: Any, y: jax.Array, *, fan_in: int) -> jax.Array:
    """The output of a convolution with its bias, if it has one; `fan_in` is torch's."""
    if module.bias == "none":
        return y
    bound = fan_in**-0.5 if module.bias == "uniform" else 0.0

    def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    bias = module.param("bias", uniform, (module.features,))
    return y + bias.astype(module.dtype)[None, None, None]


class InstanceNorm(nn.Module):
    """Normalization of each channel of each image on its own (Ulyanov et al., arXiv 1607.08022), as torch's.

    Statistics are those of the image, in float32. With `running`, their means over the images are followed in
    "batch_stats" while training, with torch's momentum (0.1 there is 0.9 here) and its unbiased variance, and without
    `train` these normalize in their place: torch's `track_running_stats`. Their mean over the devices is the caller's
    business.

    Attributes:
      affine: whether there are a learned scale and bias.
      running: whether there are running statistics.
    """

    affine: bool = True
    running: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, H, W, C] to the same shape and dtype."""
        wide, shape = x.astype(jnp.float32), (x.shape[-1],)
        if self.running:
            running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
            running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if self.running and not train:
            mean, var = running_mean.value[None, None, None], running_var.value[None, None, None]
        else:
            mean = jnp.mean(wide, axis=(1, 2), keepdims=True)
            var = jnp.mean(jnp.square(wide - mean), axis=(1, 2), keepdims=True)
        if self.running and train and not self.is_initializing():
            pixels = x.shape[1] * x.shape[2]
            for variable, of_images in ((running_mean, mean), (running_var, var * pixels / (pixels - 1))):
                variable.value = _MOMENTUM * variable.value + (1 - _MOMENTUM) * jnp.mean(of_images, axis=(0, 1, 2))
        y = (wide - mean) * lax.rsqrt(var + _EPSILON)
        if self.affine:
            y = y * self.param("scale", nn.initializers.ones, shape)[None, None, None]
            y = y + self.param("bias", nn.initializers.zeros, shape)[None, None, None]
        return y.astype(x.dtype)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance normalization around a shortcut: x + IN(conv(relu(IN(conv(x))))).

    That of CycleGAN (Zhu et al., arXiv 1703.10593), of UNIT and of AlignGAN; after the sum there is no ReLU.

    Attributes:
      border, bias, kernels: see `Convolution`.
      affine, running: see `InstanceNorm`.
    """

    border: str = "zeros"
    bias: str = "none"
    affine: bool = True
    running: bool = False
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] to the same shape."""
        y = x
        for number in (1, 2):
            layer = Convolution(
                x.shape[-1],
                3,
                padding=1,
                border=self.border,
                bias=self.bias,
                dtype=self.dtype,
                kernels=self.kernels,
                name=f"conv{number}",
            )
            y = InstanceNorm(self.affine, self.running, name=f"norm{number}")(layer(y), train=train)
            y = nn.relu(y) if number == 1 else y
        return x.astype(self.dtype) + y


class Generator(nn.Module):
    """From an image of one kind to one of another: CycleGAN's generator (Zhu et al., arXiv 1703.10593) in 7 layers.

    A 7x7 convolution, two of stride 2, residual blocks, two transposed convolutions, and a 7x7 convolution to three
    channels with tanh; instance normalization and ReLU after each but the last. Kernels of the convolutions with
    strides are 4x4, as in StarGAN and AlignGAN.

    Attributes:
      width: channels of the first layer.
      blocks: number of residual blocks.
      border, kernels: see `Convolution`.
      running: see `InstanceNorm`.
      remat: whether the backward pass computes the inside of each layer and block again (`jax.checkpoint`).
    """

    width: int = 64
    blocks: int = 4
    border: str = "zeros"
    running: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    kernels: str = "auto"

    # Height and width are multiples of it.
    STRIDE = 4

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, H, W, C] to float32 [N, H, W, 3] in [-1, 1].

        Raises:
          ValueError: the strides do not divide the size.
        """
        if images.shape[1] % self.STRIDE or images.shape[2] % self.STRIDE:
            raise ValueError(f"images of {images.shape[1:3]} pixels: expected multiples of {self.STRIDE}")

        layer: Any = nn.remat(_Layer, static_argnums=(2,)) if self.remat else _Layer
        block: Any = nn.remat(ResidualBlock, static_argnums=(2,)) if self.remat else ResidualBlock
        own = {"border": self.border, "dtype": self.dtype, "kernels": self.kernels}
        common: dict[str, Any] = {"running": self.running, **own}
        x = layer(self.width, 7, name="first", **common)(images, train)
        for i in (1, 2):
            x = layer(self.width * 2**i, 4, strides=2, name=f"down{i}", **common)(x, train)
        for i in range(self.blocks):
            x = block(name=f"block{i}", **common)(x, train)
        for i in (1, 2):
            x = layer(self.width * 2 ** (2 - i), 4, strides=2, up=True, name=f"up{i}", **common)(x, train)
        x = Convolution(3, 7, padding=3, name="last", **own)(x)
        return jnp.tanh(x.astype(jnp.float32))


class _Layer(nn.Module):
    """A convolution of a generator, with instance normalization and ReLU."""

    features: int
    kernel_size: int
    strides: int = 1
    up: bool = False
    border: str = "zeros"
    running: bool = False
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.up:
            layer: nn.Module = TransposedConvolution(
                self.features, self.kernel_size, self.strides, dtype=self.dtype, name="conv"
            )
        else:
            padding = (self.kernel_size - 1) // 2
            layer = Convolution(
                self.features,
                self.kernel_size,
                self.strides,
                padding,
                self.border,
                dtype=self.dtype,
                kernels=self.kernels,
                name="conv",
            )
        return nn.relu(InstanceNorm(running=self.running, name="norm")(layer(x), train=train))


class PatchLayers(nn.Module):
    """4x4 convolutions of stride 2 with leaky ReLU of slope 0.2, each with twice the channels of the one before.

    The body of PatchGAN (Isola et al., arXiv 1611.07004). Biases start as torch's. Layers with normalization have none:
    it would take them out again, and Adam would drive them by the rounding errors that are their gradients.

    Attributes:
      width: channels of the first layer.
      layers: how many there are.
      first_normalized: the first of these with instance normalization, which has no scale and bias.
      border: see `Convolution`.
    """

    width: int = 64
    layers: int = 4
    first_normalized: int = 1
    border: str = "zeros"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H / 2^layers, W / 2^layers, width 2^(layers - 1)], sizes rounded down in each layer."""
        for i in range(self.layers):
            x = Convolution(
                self.width * 2**i,
                4,
                strides=2,
                padding=1,
                border=self.border,
                bias="none" if i >= self.first_normalized else "uniform",
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            if i >= self.first_normalized:
                x = InstanceNorm(affine=False)(x)
            x = nn.leaky_relu(x, 0.2)
        return x


class PatchDiscriminator(nn.Module):
    """Scores patches of an image, one number each: PatchGAN (Isola et al., arXiv 1611.07004).

    Attributes:
      width, layers, border: see `PatchLayers`. Behind these is a 3x3 convolution without bias.
    """

    width: int = 64
    layers: int = 5
    border: str = "zeros"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Scores float32 [N, H / 2^layers, W / 2^layers] of images [N, H, W, C]."""
        x = PatchLayers(self.width, self.layers, border=self.border, dtype=self.dtype, name="layers")(images)
        x = Convolution(1, 3, padding=1, border=self.border, dtype=self.dtype, name="score")(x)
        return x[..., 0].astype(jnp.float32)
