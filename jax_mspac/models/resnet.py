"""ResNet-10, -18, -34 and -50 with a part of the network of its own for each modality."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.kernels.pooling import max_pool
from jax_mspac.models.backbone import Backbone, passed_on, streams
from jax_mspac.models.frequency import BandExperts
from jax_mspac.models.layers import BatchNorm, Conv
from jax_mspac.models.multi_scale import DiverseEmbeddings, MultiScaleAttention
from jax_mspac.models.nonlocal_block import NonLocalBlock
from jax_mspac.models.patterns import ModalityAlleviation
from jax_mspac.models.pretrained import Row, TorchNames
from jax_mspac.settings import at_least, check, one_of, setting, within

NUM_STAGES = 5  # the stem and layers 1 to 4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.features, 3, strides=self.strides, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.features, 3, padding=1, name="conv2")(y)
        y = self.norm(name="bn2", scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            x = self.conv(self.features, 1, strides=self.strides, name="downsample_0")(x)
            x = self.norm(name="downsample_1")(x)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which holds the stride) and 1x1 convolution with four times the channels, around a shortcut."""

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.features, 1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.features, 3, strides=self.strides, padding=1, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.conv(4 * self.features, 1, name="conv3")(y)
        y = self.norm(name="bn3", scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            x = self.conv(4 * self.features, 1, strides=self.strides, name="downsample_0")(x)
            x = self.norm(name="downsample_1")(x)
        return nn.relu(x + y)


class Stages(nn.Module):
    """Consecutive stages of a ResNet: 0 is the stem (conv1, bn1, relu, max-pool), k is layer k of k = 1..4.

    `stages` says which, in order; none is the identity. The other fields are those of `ResNet`.
    """

    block: type[nn.Module]
    depths: tuple[int, ...]
    stages: tuple[int, ...]
    width: int
    last_stride: int
    nonlocal_blocks: bool
    nonlocal_channels: int
    multi_scale: bool
    diverse_embeddings: bool
    modality_alleviation: int
    frequency_bands: int
    frequency_channels: int
    dtype: Any
    axis_name: str | None
    norm_devices: int
    kernels: str
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv = functools.partial(Conv, dtype=self.dtype, kernels=self.kernels)
        norm = functools.partial(BatchNorm, train=train, axis_name=self.axis_name, norm_devices=self.norm_devices)
        block = nn.remat(self.block) if self.remat else self.block
        for stage in self.stages:
            if stage == 0:
                x = conv(self.width, 7, strides=2, padding=3, name="conv1")(x)
                x = nn.relu(norm(name="bn1")(x))
                x = max_pool(x, window=3, stride=2, padding=1, kernels=self.kernels)
                continue
            if self.diverse_embeddings and stage == 4:
                x = DiverseEmbeddings(self.dtype, name="diverse")(x)
            given, strides, depth = x, (1, 2, 2, self.last_stride)[stage - 1], self.depths[stage - 1]
            for i in range(depth):
                x = block(
                    features=self.width * 2 ** (stage - 1),
                    strides=strides if i == 0 else 1,
                    conv=conv,
                    norm=norm,
                    name=f"layer{stage}_{i}",
                )(x)
                if self.nonlocal_blocks and stage in (2, 3) and i >= depth // 2:
                    attend = NonLocalBlock(norm, self.nonlocal_channels, self.dtype, name=f"nonlocal{stage}_{i}")
                    x = attend(x)
            if self.multi_scale and stage < 4:
                x = MultiScaleAttention(norm, self.dtype, name=f"multi_scale{stage}")(x, given)
            if self.frequency_bands and stage in (2, 3):
                of_stage = f"frequency{stage}"
                experts = self.frequency_bands, self.frequency_channels
                x = BandExperts(norm, *experts, self.dtype, self.kernels, name=of_stage)(x)
            if stage >= NUM_STAGES - self.modality_alleviation:
                x = ModalityAlleviation(name=f"alleviation{stage}")(x)
        return x


class ResNet(nn.Module):
    """Residual network whose first stages exist once per modality and whose remaining stages are shared.

    The structure is torchvision's (He et al., arXiv 1512.03385, with the stride in the 3x3 convolution). Parameters are
    named MODALITY/... for a modality's own stages and shared/... for the rest, with torchvision's names below, for
    example visible/conv1 and shared/layer3_1/conv2, and nonlocal3_1 for the non-local block after layer3_1. Both
    modalities pass the shared stages in one batch, so that its normalization statistics mix them.

    Attributes:
      block: class of a residual block.
      depths: how many blocks layers 1 to 4 have.
      width: channels of the stem; 64 is the published network.
      last_stride: stride of layer 4. 1 doubles the feature map, for a total stride of 16 instead of 32.
      shared_from: the first shared stage. 0 shares all; 1 leaves a stem per modality; 2 a stem and layer 1; ...;
        5 makes two full networks.
      nonlocal_blocks: whether a `NonLocalBlock` follows each block of the second half of layers 2 and 3. Of ResNet-50
        these are the last 2 and 3 blocks, as in AGW; ResNet-34 has as many, ResNet-18 one in each layer.
      nonlocal_channels: see `NonLocalBlock`.
      multi_scale: whether a `MultiScaleAttention` between the maps before and behind it follows layers 1, 2 and 3.
      diverse_embeddings: whether `DiverseEmbeddings` precede layer 4.
      modality_alleviation: how many of layers 4 and 3, in this order, are followed by a `ModalityAlleviation`.
      frequency_bands: of the `BandExperts` that follow layers 2 and 3; 0 for none.
      frequency_channels: of these.
      dtype: dtype of the computation; parameters and statistics are float32.
      axis_name: mapped axis for synchronized batch normalization while training.
      norm_devices: how many devices along it share statistics; 0: all.
      kernels: see `kernels.convolution.conv`.
      remat: whether the backward pass computes the inside of each residual block again (`jax.checkpoint`), which then
        needs not be kept in memory.
    """

    block: type[nn.Module]
    depths: tuple[int, ...]
    width: int = setting(64, at_least(1))
    last_stride: int = setting(1, one_of((1, 2)))
    shared_from: int = setting(1, within(0, NUM_STAGES))
    nonlocal_blocks: bool = False
    nonlocal_channels: int = setting(0, at_least(0))
    multi_scale: bool = False
    diverse_embeddings: bool = False
    modality_alleviation: int = setting(0, within(0, 2))
    frequency_bands: int = setting(0, at_least(0))
    frequency_channels: int = setting(64, at_least(1))
    dtype: Any = jnp.float32
    axis_name: str | None = None
    norm_devices: int = 0
    kernels: str = "auto"
    remat: bool = False

    def __post_init__(self):
        super().__post_init__()
        check(self)

    @nn.compact
    def __call__(self, images: Mapping[str, jax.Array], *, train: bool) -> jax.Array:
        """Feature maps [N, h, w, C] in `dtype`: see `Backbone`."""
        return streams(passed_on(self, Stages), images, shared_from=self.shared_from, count=NUM_STAGES, train=train)


# Torchvision's names. Its classifier of ImageNet classes and torch's batch counter have no place in an embedder; it has
# no non-local blocks and none of DEEN's, MPANet's and MFEN's layers.
TORCH_NAMES = TorchNames(
    rows=(
        Row(r"(.*)/kernel", r"\1.weight", (2, 3, 1, 0)),
        Row(r"(.*)/scale", r"\1.weight"),
        Row(r"(.*)/bias", r"\1.bias"),
        Row(r"(.*)/mean", r"\1.running_mean"),
        Row(r"(.*)/var", r"\1.running_var"),
    ),
    new=r"(nonlocal\d_\d+|multi_scale\d|diverse|alleviation\d|frequency\d)/.*",
    ignored=r"fc\..*|(.*\.)?num_batches_tracked",
    stem="conv1.weight",
)


def backbone(block: type[nn.Module], depths: tuple[int, ...]) -> Backbone:
    """The backbone of a ResNet with so many blocks in layers 1 to 4."""
    return Backbone(
        module=ResNet,
        fixed={"block": block, "depths": depths},
        stride=lambda resnet: 16 * resnet.last_stride,
        torch_names=TORCH_NAMES,
    )
