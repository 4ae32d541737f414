"""What the embedder knows of a backbone, the network from images to feature maps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.modalities import MODALITIES
from jax_mspac.models.pretrained import TorchNames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """A row of `backbones.BACKBONES`.

    Its module is called with a mapping of one modality or both to float images [n, H, W, channels], and with `train`.
    It returns maps [N, h, w, C], the visible images' before the infrared ones'; with
    `diverse_embeddings`, where it has that setting, `multi_scale.EMBEDDINGS` maps of each image in a row. The
    parameters that a modality has for itself are named MODALITY/..., the others shared/...: see `streams`.

    Attributes:
      module: its class. Those of its fields that are settings of `Embedder` are set by these, and it checks them.
      stride: of such a module, in pixels.
      torch_names: of its leaves.
      fixed: the fields that set it apart from other backbones of its class.
      window: side of the patches where there is no padding: a map has 1 + (H - window) // stride rows. With padding it
        is 0, and there are ceil(H / stride) rows.
      pooled: whether a map of such a module is one pixel whatever the image, a class token; `model.tokens` says so.
      new_layers: regular expression of the paths below MODALITY/ or shared/ of leaves that learn at the rate of the
        layers that are new, and not at the backbone's.
    """

    module: type[nn.Module]
    stride: Callable[[Any], int]
    torch_names: TorchNames
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    window: int = 0
    pooled: Callable[[Any], bool] = lambda module: False
    new_layers: str = "$^"

    def rows_of(self, module: nn.Module, height: int) -> int:
        """Rows of the maps that a module makes of images of a height in pixels."""
        if self.pooled(module):
            return 1
        stride = self.stride(module)
        return max(1 + (height - self.window) // stride, 0) if self.window else -(-height // stride)

    def height_of(self, module: nn.Module, rows: int) -> int:
        """The height of images that leave so many rows and no pixel over."""
        stride = self.stride(module)
        return self.window + (rows - 1) * stride if self.window else rows * stride

    def takes(self, name: str) -> bool:
        """Whether it has a setting of this name."""
        return name not in self.fixed and any(field.name == name for field in dataclasses.fields(self.module))

    def build(self, settings: Mapping[str, Any], **more: Any) -> nn.Module:
        """Its module with those of the settings that it takes, and further fields.

        Raises:
          SettingsError: lists the settings that are out of their ranges.
        """
        return self.module(**self.fixed, **{name: v for name, v in settings.items() if self.takes(name)}, **more)


def passed_on(module: nn.Module, part: type[nn.Module], **more: Any) -> Callable[..., nn.Module]:
    """What makes parts of a module, `part(...)`, with those of its fields that the part has by the same names."""
    own = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}
    fields = {field.name: getattr(module, field.name) for field in dataclasses.fields(part) if field.name in own}
    return functools.partial(part, **fields, **more)


def streams(
    stages: Callable[..., nn.Module], images: Mapping[str, jax.Array], *, shared_from: int, count: int, train: bool
) -> jax.Array:
    """Passes each modality through stages of its own, and both in one batch through the others.

    So the statistics of normalizations in shared stages mix the modalities. For the `__call__` of a backbone's module.

    Args:
      stages: (stages=numbers, name=...) -> a module of these consecutive stages, none of which is the identity, to be
        called with an array and `train`.
      images: modality -> images, of one modality or both.
      shared_from: the first shared stage: 0 shares all, `count` none.
      count: of all stages.
      train: whether the network is trained.

    Returns:
      What the last stage makes of the visible, then of the infrared images.
    """
    own, shared = tuple(range(shared_from)), tuple(range(shared_from, count))
    maps = [stages(stages=own, name=m)(images[m], train=train) for m in MODALITIES if m in images]
    return stages(stages=shared, name="shared")(jnp.concatenate(maps), train=train)
