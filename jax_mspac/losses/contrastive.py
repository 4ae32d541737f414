"""Contrastive loss: pairs of a visible and an infrared image, of one person together, of two apart."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Loss
from jax_mspac.settings import NOT_NEGATIVE, setting


def contrastive(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.5,
) -> jax.Array:
    """Contrastive loss of TONE (Ye et al., AAAI 2018) over the cross-modality pairs of a batch.

    With d the Euclidean distance of unit features, a pair of one identity costs d^2 / 2 and a pair of two identities
    max(margin - d, 0)^2 / 2. TONE draws its pairs, about half of them of one identity. Taking all pairs of the batch,
    so that those of one identity and the others weigh half each, is a reading of ours. Where there is no pair of a
    kind, that half is 0.
    """
    visible, infrared = distances.unit(visible), distances.unit(infrared)
    same = visible_labels[:, None] == infrared_labels[None, :]
    together = _mean(distances.squared_euclidean(visible, infrared), same)
    apart = _mean(jnp.square(jnp.maximum(margin - distances.euclidean(visible, infrared), 0.0)), ~same)
    return 0.25 * (together + apart)


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values in the mask; 0 for an empty one."""
    return jnp.sum(values, where=mask) / jnp.maximum(jnp.sum(mask), 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(Loss):
    """TONE's loss."""

    margin: float = setting(0.5, NOT_NEGATIVE, "distance beyond which a pair of two identities costs nothing")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return contrastive(*examples.sides(self.feature), margin=self.margin)
