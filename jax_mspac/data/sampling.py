"""Which images the batch of step s holds: a function of (seed, s) alone, so that resuming is slicing."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.settings import Problem, SettingsError, at_least, problems, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Identities x (visible + infrared) images per step, over all devices."""

    identities: int = setting(8, at_least(2, "2 or more: the losses compare identities"))
    visible: int = setting(4, at_least(0, "1 or more, or 0 for infrared images alone"))
    infrared: int = setting(4, at_least(0, "1 or more, or 0 for visible images alone"))
    group_devices: int = setting(0, at_least(0), "neighbors that share a batch, see docs/scaling.md; 0: all devices")

    def __post_init__(self):
        found = problems(self)
        if self.visible == 0 and self.infrared == 0:
            found.append(Problem("visible", 0, "1 or more where batch.infrared is 0"))
        if found:
            raise SettingsError(found)


@dataclasses.dataclass(frozen=True)
class IdentitySampler:
    """Batches of P identities with K visible and K' infrared images each.

    Identities come in passes: each pass is a random order of all of them, cut into batches of P (a remainder waits for
    another pass). Images of an identity are drawn without replacement within a batch as long as it has enough.

    Attributes:
      image_set: the training images.
      seed: of the order.
      identities: P.
      images: K per modality, in the order of MODALITIES.
    """

    image_set: ImageSet
    seed: int
    identities: int
    images: tuple[int, int]

    def __post_init__(self):
        present = self._eligible
        if len(present) < self.identities:
            needed = "images in both modalities" if all(self.images) else f"{MODALITIES[self._drawn[0]]} images"
            raise UserError(
                f"config.batch.identities is {self.identities}, but only {len(present)} of the "
                f"{self.image_set.num_identities} training identities have {needed}; lower it or add identities"
            )

    @property
    def batch_size(self) -> int:
        return self.identities * sum(self.images)

    @property
    def never_drawn(self) -> list[str]:
        """Names of the identities without images in a modality that batches have."""
        names = self.image_set.identity_names
        return [names[rank] for rank in sorted(set(range(len(names))) - set(self._eligible.tolist()))]

    @property
    def _drawn(self) -> list[int]:
        """The modalities that batches have images of."""
        return [modality for modality, count in enumerate(self.images) if count]

    @functools.cached_property
    def _eligible(self) -> np.ndarray:
        image_set = self.image_set
        sides = [image_set.identities[image_set.modalities == m] for m in self._drawn]
        return functools.reduce(np.intersect1d, sides[1:], np.unique(sides[0]))

    def batches(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions in the image set for steps start..stop-1: int32 [P, K] visible and [P, K'] infrared."""
        steps_per_pass = len(self._eligible) // self.identities
        step = start
        while step < stop:
            number, first = divmod(step, steps_per_pass)
            plan = self._pass(number)
            for i in range(first, min(steps_per_pass, first + stop - step)):
                rows = slice(i * self.identities, (i + 1) * self.identities)
                yield plan[0][rows], plan[1][rows]
                step += 1

    def _pass(self, number: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self._eligible)
        plan = []
        for modality, count in enumerate(self.images):
            positions = np.flatnonzero(self.image_set.modalities == modality)
            # A random order within each identity: sort by (identity, random key).
            labels = self.image_set.identities[positions]
            by_identity = np.lexsort((rng.random(len(positions)), labels))
            positions, labels = positions[by_identity], labels[by_identity]
            first = np.searchsorted(labels, order, side="left")
            available = np.searchsorted(labels, order, side="right") - first
            # Fewer images than asked for: start over, so that none is repeated more often than it must be.
            offsets = np.arange(count)[None, :] % available[:, None]
            plan.append(positions[first[:, None] + offsets].astype(np.int32))
        return plan
