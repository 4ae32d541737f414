"""Two variational encoders and generators with one latent space: UNIT (Liu, Breuel and Kautz, NIPS 2017).

What an encoder gives is the mean of a normal distribution of variance 1. A sample of it, through the generator of the
same modality, is the image again, and through the other one its translation. The encoders share their last residual
blocks and the generators their first ones, so that a pair of images of one scene has one code.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.models.translation import (
    Convolution,
    InstanceNorm,
    PatchDiscriminator,
    ResidualBlock,
    TransposedConvolution,
)

# Infrared images are gray.
CHANNELS = {VISIBLE: 3, INFRARED: 1}
OTHER = {VISIBLE: INFRARED, INFRARED: VISIBLE}


class Blocks(nn.Module):
    """So many residual blocks in a row."""

    count: int
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.count):
            x = ResidualBlock(dtype=self.dtype, kernels=self.kernels, name=f"block{i}")(x)
        return x


class Encoder(nn.Module):
    """A 7x7 convolution, two 4x4 ones of stride 2, each with instance normalization and ReLU, and residual blocks."""

    width: int
    blocks: int
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H / 4, W / 4, 4 width]."""
        own: dict[str, Any] = {"dtype": self.dtype, "kernels": self.kernels}
        x = Convolution(self.width, 7, padding=3, name="first", **own)(images)
        x = nn.relu(InstanceNorm(name="first_norm")(x))
        for i in (1, 2):
            x = Convolution(self.width * 2**i, 4, strides=2, padding=1, name=f"down{i}", **own)(x)
            x = nn.relu(InstanceNorm(name=f"down{i}_norm")(x))
        return Blocks(self.blocks, name="blocks", **own)(x)


class Decoder(nn.Module):
    """The way back: residual blocks, two transposed 4x4 convolutions of stride 2, a 7x7 convolution and tanh."""

    width: int
    blocks: int
    channels: int
    dtype: Any = jnp.float32
    kernels: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H / 4, W / 4, 4 width] to float32 [N, H, W, channels] in [-1, 1]."""
        x = Blocks(self.blocks, self.dtype, self.kernels, name="blocks")(x)
        for i in (1, 2):
            x = TransposedConvolution(self.width * 2 ** (2 - i), dtype=self.dtype, name=f"up{i}")(x)
            x = nn.relu(InstanceNorm(name=f"up{i}_norm")(x))
        last = Convolution(
            self.channels, 7, padding=3, bias="zeros", dtype=self.dtype, kernels=self.kernels, name="last"
        )
        x = last(x)
        return jnp.tanh(x.astype(jnp.float32))


class SharedLatent(nn.Module):
    """Encoders and generators of both modalities; `apply` with `method="encode"` or `method="decode"`.

    Attributes:
      width: channels of the first layer; 64 is the published size.
      blocks: residual blocks of an encoder, and of a generator.
      shared: how many of them the modalities share.
      kernels: see `models.translation.Convolution`.
    """

    width: int = 64
    blocks: int = 4
    shared: int = 1
    dtype: Any = jnp.float32
    kernels: str = "auto"

    # Height and width are multiples of it.
    STRIDE = 4

    def setup(self) -> None:
        common: dict[str, Any] = {"dtype": self.dtype, "kernels": self.kernels}
        own = {"width": self.width, "blocks": self.blocks - self.shared, **common}
        self.encoders = {modality: Encoder(**own) for modality in MODALITIES}
        self.decoders = {modality: Decoder(**own, channels=CHANNELS[modality]) for modality in MODALITIES}
        self.shared_encoder = Blocks(self.shared, **common)
        self.shared_decoder = Blocks(self.shared, **common)

    def __call__(self, images: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Modality -> its images, translated without noise; for `init`, of both modalities."""
        return {name: self.decode(self.encode(x, name), OTHER[name]) for name, x in images.items()}

    def encode(self, images: jax.Array, modality: str) -> jax.Array:
        """Means float32 [N, H / 4, W / 4, 4 width] of images [N, H, W, C] in [-1, 1]; C is 3, of infrared ones 1.

        Raises:
          ValueError: the strides do not divide the size.
        """
        if images.shape[1] % self.STRIDE or images.shape[2] % self.STRIDE:
            raise ValueError(f"images of {images.shape[1:3]} pixels: expected multiples of {self.STRIDE}")
        return self.shared_encoder(self.encoders[modality](images)).astype(jnp.float32)

    def decode(self, codes: jax.Array, modality: str) -> jax.Array:
        """Images float32 [N, H, W, C] in [-1, 1] of one modality."""
        return self.decoders[modality](self.shared_decoder(codes.astype(self.dtype)))


class ModalityCritics(nn.Module):
    """A discriminator of real and translated images for each modality: PatchGAN's.

    Attributes:
      width, layers: see `models.translation.PatchLayers`.
    """

    width: int = 64
    layers: int = 4
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.of = {m: PatchDiscriminator(self.width, self.layers, dtype=self.dtype) for m in MODALITIES}

    def __call__(self, images: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Modality -> scores float32 [N, H / 2^layers, W / 2^layers] of its images, one modality or both."""
        return {modality: self.of[modality](x) for modality, x in images.items()}
