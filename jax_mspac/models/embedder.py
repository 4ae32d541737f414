"""The network that turns images into embeddings: all that inference needs."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.kernels import KERNELS
from jax_mspac.modalities import MODALITIES
from jax_mspac.models import input_forms
from jax_mspac.models.attention import COUNTS, FORMS, ODD, CascadedPartAttention
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.frequency import spectral_statistics
from jax_mspac.models.input_forms import INPUT_FORMS
from jax_mspac.models.layers import STARTS, BatchNorm
from jax_mspac.models.multi_scale import EMBEDDINGS
from jax_mspac.models.patterns import PatternMasks
from jax_mspac.models.pooling import EXPONENT, GeneralizedMeanPool, average_pool, split_stripes
from jax_mspac.settings import Problem, SettingsError, at_least, defaults, one_of, problems, setting

POOLINGS = ("average", "gem")
NECKS = ("bnneck", "affine", "relu")
# What goes to the backbone, as far as it takes it.
_OF_BACKBONE = (
    "width",
    "last_stride",
    "shared_from",
    "nonlocal_blocks",
    "nonlocal_channels",
    "multi_scale",
    "diverse_embeddings",
    "modality_alleviation",
    "frequency_bands",
    "frequency_channels",
    "patch_stride",
    "tokens",
    "drop_path",
    "dropout",
    "norm_epsilon",
    "dtype",
    "axis_name",
    "norm_devices",
    "kernels",
    "remat",
)


def flatten_parts(features: jax.Array) -> jax.Array:
    """Concatenates the parts of each image's feature: [N, P, D] to [N, P * D]."""
    return features.reshape(features.shape[0], -1)


class Embedder(nn.Module):
    """Backbone, part attention in a cascade, pooling, an optional linear layer and a batch normalization neck.

    The neck is BNNeck (Luo et al., arXiv 1903.07071), whose bias stays zero, or that of systems from before it: batch
    normalization with a bias, and ReLU. The number of parts P is 1, `stripes`, or one more with `global_part`; with
    `diverse_embeddings` it is that of the embeddings of an image, which share the neck. What `pattern_masks` pick is
    joined with the pooled feature to one part. `frequency_statistics` follow it as a second one.
    That the `part` identity loss sees the final map in equal stripes, each pooled and normalized on its own, is our
    reading of the paper. Top-level names: backbone, attention, pooling, patterns, embedding_{i}, neck.

    Features per part come from a linear layer for each part, without bias, which the neck would take out again.
    Features are float32 whatever the dtype.

    Attributes:
      stripes: n > 0 for one feature per stripe, 0 for one global feature.
      global_part: whether stripes are followed by a feature of the whole map, as in RLE's network.
      axis_name: mapped axis for synchronized batch normalization while training.
      norm_devices: how many devices along it share statistics; 0: all.
    """

    backbone: str = setting("resnet18", one_of(BACKBONES))
    width: int = setting(64, None, "channels of the first stage; 64 is the published size")
    last_stride: int = setting(1, None, "of layer 4")
    shared_from: int = setting(1, None, "0: all layers shared ... 1: own stems ... 5: two networks")
    nonlocal_blocks: bool = setting(False, None, "AGW's, behind the second half of layers 2 and 3")
    nonlocal_channels: int = setting(0, at_least(0), "inner channels of these; 0: half of their channels")
    multi_scale: bool = setting(False, None, "DEEN's attention to the map before each of layers 1 to 3")
    diverse_embeddings: bool = setting(False, None, "DEEN's: two further embeddings of an image, from layer 4 on")
    modality_alleviation: int = setting(0, None, "MPANet's, behind this many of layers 4 and 3: 0, 1 or 2")
    pattern_masks: int = setting(0, at_least(0), "MPANet's: means of so many masked maps join the pooled feature")
    frequency_bands: int = setting(0, None, "MFEN's experts of so many octaves, behind layers 2 and 3; 1: of the whole")
    frequency_channels: int = setting(64, None, "inner channels of these")
    frequency_statistics: bool = setting(False, None, "MFEN's: amplitudes of the final map are a part of their own")
    patch_stride: int = setting(16, None, "pixels from patch to patch of a ViT; less than 16: they overlap")
    tokens: str = setting("patches", None, "of a ViT. patches: a map of them; class: the class token alone")
    drop_path: float = setting(0.0, None, "of a ViT: an image skips a branch of the last block, rising from the first")
    dropout: float = setting(0.0, None, "of a ViT's layers")
    norm_epsilon: float = setting(1e-6, None, "of a ViT's normalizations")
    input_form: str = setting(
        "rgb",
        one_of(INPUT_FORMS),
        "zero_padding: two channels, one per modality; four_channels: RGB and infrared; local_normalization and "
        "gradient_orientation: what other cameras show alike",
    )
    parts: tuple[int, ...] = setting((6, 3, 1), COUNTS, "stripes per level of the cascade; (): no attention")
    attention_form: str = setting("mask", one_of(FORMS), "mask: x (1 + CH SP); literal: the slides' x + x (x CH SP)")
    attention_kernel: int = setting(7, ODD, "of the spatial gate")
    attention_rank: int = setting(0, at_least(0), "of the channel gates' map W_F; 0: a full matrix")
    pooling: str = setting("average", one_of(POOLINGS))
    gem_exponent: float = setting(3.0, EXPONENT, "of GeM pooling, at the start if it is learned")
    gem_learned: bool = setting(True, None, "learn it, within this range, at a rate of its own")
    embedding_dim: int = setting(0, at_least(0), "features per part; 0: the pooled feature itself")
    embedding_start: str = setting("lecun", one_of(STARTS), "of these features' layers: variance 1 or 2 over a fan")
    neck: str = setting("bnneck", one_of(NECKS), "bnneck: without bias; affine: with one; relu: affine and ReLU")
    dtype: str = setting("float32", one_of(("float32", "bfloat16")), "of the computation; parameters stay float32")
    kernels: str = setting("auto", one_of(KERNELS), "auto: faster forms on CPUs; native: XLA's; plain: for converters")
    remat: bool = setting(False, None, "less memory, more time: the backward pass computes each block again")
    stripes: int = 0
    global_part: bool = False
    axis_name: str | None = None
    norm_devices: int = 0

    def __post_init__(self):
        super().__post_init__()
        if found := problems(self) + self._problems_of_backbone():
            raise SettingsError(found)

    def _problems_of_backbone(self) -> list[Problem]:
        if self.backbone not in BACKBONES:
            return []
        found = []
        for name, default in defaults(Embedder).items():
            value = getattr(self, name)
            if name in _OF_BACKBONE and value != default and not BACKBONES[self.backbone].takes(name):
                found.append(Problem(name, value, f"{default!r}, because {self.backbone} has no such setting"))
        try:
            _backbone(self, parent=None)
        except SettingsError as error:
            found += error.problems
        return found

    def misfits(self, height: int) -> list[Problem]:
        """Settings that do not fit each other, or images of this height in pixels."""
        found = []
        if self.input_form == "zero_padding" and self.shared_from != 0:
            found.append(Problem("shared_from", self.shared_from, "0, because input_form is 'zero_padding'"))
        if self.diverse_embeddings and self.stripes:
            found.append(Problem("diverse_embeddings", True, "False, because the embedding is one of stripes"))
        if self.pattern_masks and self.stripes:
            found.append(Problem("pattern_masks", self.pattern_masks, "0, because the embedding is one of stripes"))
        apart = {
            "diverse_embeddings is True": self.diverse_embeddings,
            "there are pattern_masks": self.pattern_masks,
            "the embedding is one of stripes": self.stripes,
        }
        found += [
            Problem("frequency_statistics", True, f"False, because {reason}")
            for reason, holds in apart.items()
            if holds and self.frequency_statistics
        ]
        of, module = BACKBONES[self.backbone], _backbone(self, parent=None)
        counts = {"parts": self.parts, "stripes": (self.stripes or 1,)}
        rows, divisor = of.rows_of(module, height), math.lcm(*itertools.chain(*counts.values()))
        if not rows:
            return [*found, Problem("backbone", self.backbone, f"one for images of height {height}: they are too low")]
        work = (rows // divisor * divisor, rows // divisor * divisor + divisor)
        heights = " or ".join(str(of.height_of(module, number)) for number in work if number)
        fits = f"what divides the {rows} rows that images of height {height} leave; heights that work: {heights}"
        if of.pooled(module):
            fits = "1 or none, because model.tokens is 'class': with 'patches' there is a map to divide"
        wrong = [name for name, numbers in counts.items() if any(rows % number for number in numbers)]
        return found + [Problem(name, getattr(self, name), fits) for name in wrong]

    @nn.compact
    def __call__(self, images: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """Embeds images of one modality or both.

        Args:
          images: modality -> normalized float images [n, H, W, 3]. `init` needs both modalities. With "four_channels"
            they may be [n, H, W, 4], of what the other modality would have seen: see `input_forms`.
          train: whether batch normalization uses and updates the statistics of the batch.

        Returns:
          "before_neck" and "after_neck", float32 [N, P, D] each; visible images before infrared ones. While training,
          pattern masks are there as "masks", float32 [N, K, pixels]; with `diverse_embeddings` a row is one of these.

        Raises:
          SettingsError: the settings do not fit each other or the images.
        """
        if not 0 < len(images) == len(images.keys() & set(MODALITIES)) >= (2 if self.is_initializing() else 1):
            raise ValueError(f"images of {list(images)}: expected {list(MODALITIES)}, or one of them after init")
        if misfits := [problem for x in images.values() for problem in self.misfits(x.shape[1])]:
            raise SettingsError(dict.fromkeys(misfits))
        images = {modality: input_forms.formed(x, self.input_form, modality=modality) for modality, x in images.items()}
        x = _backbone(self, name="backbone")(images, train=train)
        x = CascadedPartAttention(
            parts=self.parts,
            form=self.attention_form,
            kernel_size=self.attention_kernel,
            rank=self.attention_rank,
            name="attention",
        )(x)
        pool = average_pool
        if self.pooling == "gem":
            pool = GeneralizedMeanPool(self.gem_exponent, self.gem_learned, name="pooling")
        features = pool(split_stripes(x, self.stripes or 1))
        if self.stripes and self.global_part:
            features = jnp.concatenate([features, pool(split_stripes(x, 1))], axis=1)
        if self.pattern_masks:
            parts, masks = PatternMasks(self.pattern_masks, x.dtype, name="patterns")(x)
            features = jnp.concatenate([parts, features], axis=1).reshape(x.shape[0], 1, -1)
        if self.frequency_statistics:
            features = jnp.stack([features[:, 0], spectral_statistics(x, kernels=self.kernels)], axis=1)
        num_parts = features.shape[1]
        if self.embedding_dim:
            start = STARTS[self.embedding_start]
            layers = [
                nn.Dense(self.embedding_dim, use_bias=False, kernel_init=start, name=f"embedding_{i}")
                for i in range(num_parts)
            ]
            features = jnp.stack([layer(features[:, i]) for i, layer in enumerate(layers)], axis=1)
        # One normalization of all P * D features is a neck per part. Pooled features lie far from zero, hence the
        # two-pass variance; they are few.
        neck = BatchNorm(
            train=train,
            axis_name=self.axis_name,
            norm_devices=self.norm_devices,
            use_bias=self.neck != "bnneck",
            use_fast_variance=False,
            name="neck",
        )
        normalized = neck(flatten_parts(features)).reshape(features.shape)
        if self.neck == "relu":
            normalized = nn.relu(normalized)
        if self.diverse_embeddings:
            features, normalized = (x.reshape(-1, EMBEDDINGS, x.shape[-1]) for x in (features, normalized))
        made = {"before_neck": features, "after_neck": normalized}
        return {**made, "masks": masks} if self.pattern_masks and train else made


def _backbone(embedder: Embedder, **more: Any) -> nn.Module:
    settings = {name: getattr(embedder, name) for name in _OF_BACKBONE}
    return BACKBONES[embedder.backbone].build(settings, **more)
