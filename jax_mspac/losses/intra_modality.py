"""A triplet loss inside each modality, where images of the other one play no part: the first stage of PMT."""

import dataclasses
import functools
from typing import Any

import jax

from jax_mspac.losses.base import Examples, Loss
from jax_mspac.losses.triplet import batch_hard
from jax_mspac.settings import NOT_NEGATIVE, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntraModality(Loss):
    """The sum of the batch-hard triplet losses of the visible and of the infrared images."""

    margin: float = setting(0.3, NOT_NEGATIVE, "of the distances")

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        loss, gather = functools.partial(batch_hard, margin=self.margin), examples.gather
        visible, visible_labels, infrared, infrared_labels = examples.own_sides(self.feature)
        of_visible = loss(visible, visible_labels, gather(visible), gather(visible_labels))
        return of_visible + loss(infrared, infrared_labels, gather(infrared), gather(infrared_labels))
