"""What training needs on top of an embedding, and inference does not."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Heads(nn.Module):
    """A linear classifier for each part, and the parameters that losses own.

    Attributes:
      num_classes: number of identities C.
      use_bias: whether the classifiers have a bias.
      shared: whether all parts have one classifier.
      slope: of a leaky ReLU before the classifiers, as Zhu et al. (arXiv 1910.09830) have it; 1 for none.
      owned: name of a loss -> a function of (key, dim=..., num_identities=...) that makes its parameters.
    """

    num_classes: int
    use_bias: bool = False
    shared: bool = False
    slope: float = 1.0
    owned: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Logits float32 [N, P, C] of features float32 [N, P, D].

        The parameters are "classifier", [P, D, C], "classifier_bias", [P, C], and those of each loss under its name; P
        is 1 there with `shared`.
        """
        _, parts, dim = features.shape
        own = 1 if self.shared else parts
        classifier = self.param("classifier", nn.initializers.normal(0.001), (own, dim, self.num_classes))
        for name, make in self.owned.items():
            self.param(name, lambda key, make=make: make(key, dim=parts * dim, num_identities=self.num_classes))
        features = features if self.slope == 1 else nn.leaky_relu(features, self.slope)
        logits = jnp.einsum("npd,pdc->npc", features, jnp.broadcast_to(classifier, (parts, *classifier.shape[1:])))
        if self.use_bias:
            logits += self.param("classifier_bias", nn.initializers.zeros, (own, self.num_classes))[None]
        return logits
