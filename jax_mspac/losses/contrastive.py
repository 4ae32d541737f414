"""Contrastive loss: pairs of a visible and an infrared image, of one person together, of two apart."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average
from jax_mspac.settings import NOT_NEGATIVE, setting


def contrastive(
    visible: jax.Array,
    visible_labels: jax.Array,
    infrared: jax.Array,
    infrared_labels: jax.Array,
    *,
    margin: float = 0.5,
    gather: Gather = alone,
) -> jax.Array:
    """Contrastive loss of TONE (Ye et al., AAAI 2018) over the cross-modality pairs of a batch.

    With d the Euclidean distance of unit features, a pair of one identity costs d^2 / 2 and a pair of two identities
    max(margin - d, 0)^2 / 2. TONE draws its pairs, about half of them of one identity. Taking all pairs of the batch,
    so that those of one identity and the others weigh half each, is a reading of ours. Where there is no pair of a
    kind, that half is 0.

    Several devices give their own examples and `gather`: each compares its visible examples with all infrared ones.
    """
    visible, infrared = distances.unit(visible), gather(distances.unit(infrared))
    same = visible_labels[:, None] == gather(infrared_labels)[None, :]
    together = _mean(distances.squared_euclidean(visible, infrared), same, gather)
    apart = _mean(jnp.square(jnp.maximum(margin - distances.euclidean(visible, infrared), 0.0)), ~same, gather)
    return 0.25 * (together + apart)


def _mean(values: jax.Array, mask: jax.Array, gather: Gather) -> jax.Array:
    """Mean of the values in the mask, as the mean over the devices; 0 for an empty one."""
    count = average(jnp.sum(mask, dtype=jnp.float32), gather)
    return jnp.sum(values, where=mask) / jnp.maximum(count, 1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(Loss):
    """TONE's loss."""

    margin: float = setting(0.5, NOT_NEGATIVE, "distance beyond which a pair of two identities costs nothing")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return contrastive(*examples.own_sides(self.feature), margin=self.margin, gather=examples.gather)
