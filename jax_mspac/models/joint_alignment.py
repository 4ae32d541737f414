"""What AlignGAN (Wang et al., ICCV 2019) has beside a backbone and the blocks of translation networks."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.models.layers import BatchNorm, Linear
from jax_mspac.models.translation import Convolution, PatchLayers


class JointDiscriminator(nn.Module):
    """Scores patches of an image together with a feature map: whether they are real, and of the same person.

    Layers are those of its public code (github.com/wangguanan/AlignGAN at b376862): three of PatchGAN for the image, a
    1x1 convolution with leaky ReLU for the map, which is resized to what these leave, and two further layers with a
    convolution for both. So many layers as `PatchDiscriminator` has.

    Attributes:
      width, layers: see `PatchDiscriminator`; two of the layers see both.
    """

    width: int = 64
    layers: int = 5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, maps: jax.Array) -> jax.Array:
        """Scores float32 [N, H / 2^layers, W / 2^layers] of images [N, H, W, C] and maps [N, h, w, D]."""
        alone = self.layers - 2
        x = PatchLayers(self.width, alone, dtype=self.dtype, name="image")(images)
        y = Convolution(self.width, 1, bias="uniform", dtype=self.dtype, name="feature")(maps)
        y = jax.image.resize(nn.leaky_relu(y, 0.2), (*x.shape[:3], self.width), "bilinear", antialias=False)
        both = PatchLayers(self.width * 2**alone, 2, first_normalized=0, dtype=self.dtype, name="both")
        x = both(jnp.concatenate([x, y], axis=-1))
        x = Convolution(1, 3, padding=1, dtype=self.dtype, name="score")(x)
        return x[..., 0].astype(jnp.float32)


class BottleneckHeads(nn.Module):
    """A classifier of identities behind a narrow layer, and an embedding for triplets, both of the pooled feature.

    Layers and starts are those of the public code: dropout, a linear layer, batch normalization, leaky ReLU, and a
    linear classifier; beside them a linear layer without any of these. Both are of training alone.

    Attributes:
      num_classes: number of identities C.
      units: of the narrow layer and of the embedding.
      slope: of the leaky ReLU.
      axis_name: see `BatchNorm`.
    """

    num_classes: int
    units: int = 256
    slope: float = 0.1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: jax.Array, kept: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [N, C] and embeddings float32 [N, units] of features float32 [N, D].

        `kept`, float32 [N, D], is what dropout multiplies the features of the classifier by. Normalization is by the
        statistics of the batch always.
        """
        dropped = features if kept is None else features * kept
        he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        x = nn.Dense(self.units, kernel_init=he_normal, name="bottleneck")(dropped)
        around_one = lambda *args: 1.0 + nn.initializers.normal(0.02)(*args)  # noqa: E731
        norm = BatchNorm(True, self.axis_name, use_fast_variance=False, scale_init=around_one, name="bottleneck_norm")
        x = nn.leaky_relu(norm(x), self.slope)
        shape = (self.units, self.num_classes)
        logits = x @ self.param("classifier", nn.initializers.normal(0.001), shape)
        logits += self.param("classifier_bias", nn.initializers.zeros, shape[1:])[None]
        return logits, Linear(self.units, name="embedding")(features)
