"""The network that turns images into embeddings: all that inference needs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.errors import UserError
from jax_mspac.models.attention import CascadedPartAttention, check_partition
from jax_mspac.models.input_forms import INPUT_FORMS, zero_padded
from jax_mspac.models.layers import BatchNorm
from jax_mspac.models.pooling import GeneralizedMeanPool, average_pool, split_stripes
from jax_mspac.models.resnet import ResNet

POOLINGS = ("average", "gem")


def flatten_parts(features: jax.Array) -> jax.Array:
    """Concatenates the parts of each image's feature: [N, P, D] to [N, P * D]."""
    return features.reshape(features.shape[0], -1)


class Embedder(nn.Module):
    """Backbone, part attention in a cascade, pooling, an optional linear layer and a batch normalization neck.

    The neck is BNNeck (Luo et al., arXiv 1903.07071): its bias stays zero. The number of parts P is 1, or `stripes`.
    That the `part` identity loss sees the final map in equal stripes, each pooled and normalized on its own, is our
    reading of the paper. Top-level names: backbone, attention, pooling, embedding_{i}, neck.

    Attributes:
      backbone: "resnet18", "resnet34" or "resnet50".
      width, last_stride, shared_from, nonlocal_blocks: see `ResNet`.
      input_form: "rgb", or "zero_padding" for `input_forms.zero_padded`, whose two channels enter one shared network.
      parts, attention_form, attention_kernel: see `CascadedPartAttention`; parts=() is the plain backbone.
      pooling: "average" or "gem".
      embedding_dim: features per part, by a linear layer for each part (without bias, which the neck would take out
        again); None keeps the backbone's channels.
      stripes: 0 for one global feature, n > 0 for one feature per stripe.
      dtype: dtype of the computation up to pooling; features are float32.
      axis_name: mapped axis for synchronized batch normalization while training.
    """

    backbone: str = "resnet50"
    width: int = 64
    last_stride: int = 1
    shared_from: int = 1
    nonlocal_blocks: bool = False
    input_form: str = "rgb"
    parts: tuple[int, ...] = (6, 3, 1)
    attention_form: str = "mask"
    attention_kernel: int = 7
    pooling: str = "average"
    embedding_dim: int | None = None
    stripes: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """Embeds images of one modality or both.

        Args:
          images: modality -> normalized float images [n, H, W, 3]. `init` needs both modalities.
          train: whether batch normalization uses and updates the statistics of the batch.

        Returns:
          "before_neck" and "after_neck", float32 [N, P, D] each; visible images before infrared ones.

        Raises:
          UserError: if a field is out of its range, or the parts or stripes do not divide the feature map.
        """
        if self.pooling not in POOLINGS:
            raise UserError(f"pooling {self.pooling!r} does not exist; choose one of {', '.join(POOLINGS)}")
        if self.input_form not in INPUT_FORMS:
            raise UserError(f"input_form {self.input_form!r} does not exist; choose one of {', '.join(INPUT_FORMS)}")
        if self.input_form == "zero_padding":
            if self.shared_from != 0:
                raise UserError(
                    f"shared_from is {self.shared_from}; input_form 'zero_padding' is for one network: expected 0"
                )
            images = {modality: zero_padded(x, modality=modality) for modality, x in images.items()}
        num_parts = self.stripes or 1
        for x in images.values():
            check_partition(x.shape[1], stride=16 * self.last_stride, parts=(*self.parts, num_parts))
        x = ResNet(
            architecture=self.backbone,
            width=self.width,
            last_stride=self.last_stride,
            shared_from=self.shared_from,
            nonlocal_blocks=self.nonlocal_blocks,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="backbone",
        )(images, train=train)
        x = CascadedPartAttention(
            parts=self.parts, form=self.attention_form, kernel_size=self.attention_kernel, name="attention"
        )(x)
        pool = average_pool if self.pooling == "average" else GeneralizedMeanPool(name="pooling")
        features = pool(split_stripes(x, num_parts))
        if self.embedding_dim is not None:
            layers = [nn.Dense(self.embedding_dim, use_bias=False, name=f"embedding_{i}") for i in range(num_parts)]
            features = jnp.stack([layer(features[:, i]) for i, layer in enumerate(layers)], axis=1)
        # One normalization of all P * D features is a neck per part. Pooled features lie far from zero, hence the
        # two-pass variance; they are few.
        neck = BatchNorm(train=train, axis_name=self.axis_name, use_bias=False, use_fast_variance=False, name="neck")
        normalized = neck(flatten_parts(features)).reshape(features.shape)
        return {"before_neck": features, "after_neck": normalized}
