"""What the losses need on top of an embedding, and inference does not."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def unit_rows(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Initializer: rows of Euclidean length 1 in random directions."""
    rows = jax.random.normal(key, shape, dtype)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


class Heads(nn.Module):
    """A linear classifier without bias for each part, and the centers of the classes.

    Attributes:
      num_classes: number of identities C.
      centers: whether there are centers.
    """

    num_classes: int
    centers: bool = True

    @nn.compact
    def __call__(self, features: jax.Array) -> dict[str, jax.Array]:
        """Heads on the features after the neck.

        Args:
          features: float32 [N, P, D].

        Returns:
          "logits", float32 [N, P, C], and with `centers` the parameter "centers", float32 [C, P * D]. The rows of
          the centers are unit at initialization; whoever trains them keeps them so.
        """
        _, parts, dim = features.shape
        classifier = self.param("classifier", nn.initializers.normal(0.001), (parts, dim, self.num_classes))
        outputs = {"logits": jnp.einsum("npd,pdc->npc", features, classifier)}
        if self.centers:
            outputs["centers"] = self.param("centers", unit_rows, (self.num_classes, parts * dim))
        return outputs
