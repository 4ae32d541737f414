"""What training needs on top of an embedding, and inference does not."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jax_mspac.modalities import MODALITIES
from jax_mspac.models.layers import Linear, torch_uniform


class Heads(nn.Module):
    """A linear classifier for each part, and the parameters that losses own.

    Attributes:
      num_classes: number of identities C.
      use_bias: whether the classifiers have a bias.
      shared: whether all parts have one classifier.
      slope: of a leaky ReLU before the classifiers, as Zhu et al. (arXiv 1910.09830) have it; 1 for none.
      hidden: units of a linear layer with ReLU before each classifier, as cmGAN (Dai et al., IJCAI 2018) has it; 0 for
        none.
      start: of the classifiers, "small", a normal distribution of deviation 0.001; "torch",
        PyTorch's own, uniform within 1 / sqrt(D) of 0, which a `hidden` layer always has.
      owned: name of a loss -> a function of (key, dim=..., num_identities=...) that makes its parameters.
    """

    num_classes: int
    use_bias: bool = False
    shared: bool = False
    slope: float = 1.0
    hidden: int = 0
    start: str = "small"
    owned: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Logits float32 [N, P, C] of features float32 [N, P, D].

        The parameters are "classifier", [P, D or `hidden`, C], "classifier_bias", [P, C], "classifier_hidden_{i}" of
        part i, and those of each loss under its name; with `shared` there is one part of the first three.
        """
        _, parts, dim = features.shape
        own = 1 if self.shared else parts
        shape = (own, self.hidden or dim, self.num_classes)
        start = nn.initializers.normal(0.001)
        # Behind a hidden layer, a start this small would leave that layer without a gradient.
        if self.hidden or self.start == "torch":
            start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", batch_axis=(0,))
        classifier = self.param("classifier", start, shape)
        for name, make in self.owned.items():
            self.param(name, lambda key, make=make: make(key, dim=parts * dim, num_identities=self.num_classes))
        features = features if self.slope == 1 else nn.leaky_relu(features, self.slope)
        if self.hidden:
            layers = [Linear(self.hidden, name=f"classifier_hidden_{i}") for i in range(own)]
            hidden = [nn.relu(layers[i % own](features[:, i])) for i in range(parts)]
            features = jnp.stack(hidden, axis=1)
        logits = jnp.einsum("npd,pdc->npc", features, jnp.broadcast_to(classifier, (parts, *shape[1:])))
        if self.use_bias:
            logits += self.param("classifier_bias", nn.initializers.zeros, (own, self.num_classes))[None]
        return logits


class SpecificHeads(nn.Module):
    """A linear classifier of identities for each modality, and one of the modalities, for features of own layers.

    Attributes:
      num_classes: number of identities C.
    """

    num_classes: int

    @nn.compact
    def __call__(self, features: jax.Array, num_visible: int) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [N, C] of identities and [N, 2] of modalities.

        Of features float32 [N, D] the first `num_visible` are of visible images. The classifiers of identities are
        named by the modality, that of modalities is "view".
        """
        sides = dict(zip(MODALITIES, jnp.split(features, [num_visible]), strict=True))
        identities = [Linear(self.num_classes, name=modality)(x) for modality, x in sides.items()]
        return jnp.concatenate(identities), Linear(len(MODALITIES), name="view")(features)


class ModalityClassifiers(nn.Module):
    """A linear classifier of identities for each modality, without bias, named by the modality.

    Attributes:
      num_classes: number of identities C.
    """

    num_classes: int

    @nn.compact
    def __call__(self, features: jax.Array, num_visible: int, *, crossed: bool = False) -> jax.Array:
        """Logits float32 [N, C] of features float32 [N, D], the first `num_visible` of visible images.

        With `crossed`, images of a modality are classified by the other one's.
        """
        shape = features.shape[-1], self.num_classes
        kernels = [self.param(modality, torch_uniform, shape) for modality in MODALITIES]
        sides = jnp.split(features, [num_visible])
        order = kernels[::-1] if crossed else kernels
        return jnp.concatenate([x @ kernel for x, kernel in zip(sides, order, strict=True)])
