"""MPANet's loss of its masks: no two of them should pick the same pixels.

The form is that of the public code of Wu et al. (CVPR 2021), github.com/DoubtedSteam/MPANet.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses.base import Examples, Loss


def separation(masks: jax.Array) -> jax.Array:
    """The inner product of two masks of a map, the mean over all pairs and all maps; 0 of a single mask.

    Masks are [n, K, pixels]. It is a sum over the pixels, so that it grows with the size of the map.
    """
    masks = masks.astype(jnp.float32)
    _, count, _ = masks.shape
    products = jnp.einsum("nkp,nlp->nkl", masks, masks)
    pairs = max(count * (count - 1) // 2, 1)
    return jnp.sum(jnp.triu(products, 1)) / (len(masks) * pairs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Separation(Loss):
    """How much the masks of a network with `model.pattern_masks` overlap."""

    feature: str = dataclasses.field(default="masks", init=False)
    needs = "model.pattern_masks"

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        return separation(examples.features[self.feature])
