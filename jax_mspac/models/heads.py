"""What training needs on top of an embedding, and inference does not."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Heads(nn.Module):
    """A linear classifier without bias for each part, and the parameters that losses own.

    Attributes:
      num_classes: number of identities C.
      owned: name of a loss -> a function of (key, dim=..., num_identities=...) that makes its parameters.
    """

    num_classes: int
    owned: Mapping[str, Callable[..., Any]]

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Logits float32 [N, P, C] of features float32 [N, P, D].

        The parameters are "classifier", [P, D, C], and those of each loss under its name.
        """
        _, parts, dim = features.shape
        classifier = self.param("classifier", nn.initializers.normal(0.001), (parts, dim, self.num_classes))
        for name, make in self.owned.items():
            self.param(name, lambda key, make=make: make(key, dim=parts * dim, num_identities=self.num_classes))
        return jnp.einsum("npd,pdc->npc", features, classifier)
