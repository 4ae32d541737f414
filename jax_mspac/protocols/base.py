"""What a protocol is: which images are queries, which are gallery, and which pairs are left out."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE

Exclusion = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
RankUnit = Literal["identity", "image"]

# The names of both search directions.
DIRECTIONS = (f"{VISIBLE}->{INFRARED}", f"{INFRARED}->{VISIBLE}")


def check_rank_unit(unit: str) -> None:
    """Raises a ValueError for what is no rank unit."""
    if unit not in get_args(RankUnit):
        raise ValueError(f"rank_unit is {unit!r}; expected 'identity' or 'image'")


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One search: every query is ranked against the whole gallery.

    Attributes:
      queries: int64 [Q], positions in the arrays of the test set.
      gallery: int64 [G], positions in the arrays of the test set, strictly ascending: equal distances rank in this
        order, so it must not depend on how the gallery was drawn.
    """

    queries: np.ndarray
    gallery: np.ndarray

    def __post_init__(self):
        if np.any(np.diff(self.gallery) <= 0):
            raise ValueError("the gallery of a trial must be strictly ascending positions")


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalProtocol:
    """One row of a results table.

    Attributes:
      name: which rule drew the galleries, such as "official", "seeded" or "folder".
      mode: search mode, such as "all" or "indoor"; "-" where a data set has one mode only.
      shots: gallery images per identity and camera; None where the gallery is every image.
      direction: "<query modality>-><gallery modality>".
      trials: the searches whose mean and deviation are reported.
      excluded: function of (query identities [Q], query cameras [Q], gallery identities [G], gallery cameras [G]) that
        gives bool [Q, G], the pairs that do not count; None where every pair counts.
      rank_unit: "identity": a rank is an identity, represented by its nearest image. "image": a rank is an image.

    Raises:
      UserError: there is no trial, or one without queries or without gallery.
      ValueError: the rank unit is unknown.
    """

    name: str
    mode: str
    shots: int | None
    direction: str
    trials: tuple[Trial, ...]
    excluded: Exclusion | None
    rank_unit: RankUnit

    def __post_init__(self):
        check_rank_unit(self.rank_unit)
        where = f"protocol {self.name!r}, mode {self.mode!r}, {self.direction}"
        if not self.trials:
            raise UserError(f"{where}: no trials; set the number of trials to 1 or more")
        for role in ("queries", "gallery"):
            if any(getattr(trial, role).size == 0 for trial in self.trials):
                raise UserError(
                    f"{where}: the test set has no image for the {role}; "
                    "check the cameras and modalities of the test set, or leave this mode out"
                )

    @property
    def labels(self) -> dict[str, Any]:
        """What tells its rows from those of other protocols."""
        return {"protocol": self.name, "mode": self.mode, "shots": self.shots, "direction": self.direction}

    def excluded_pairs(
        self, identities: np.ndarray, cameras: np.ndarray, queries: np.ndarray, gallery: np.ndarray
    ) -> np.ndarray | None:
        """What `excluded` says of queries [Q] and gallery images [G], positions in a test set of labels int [N]."""
        if self.excluded is None:
            return None
        return self.excluded(identities[queries], cameras[queries], identities[gallery], cameras[gallery])


def directions(modalities: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Both search directions over whole modalities: (name, queries int64 [Q], gallery images int64 [G])."""
    for query, gallery in ((VISIBLE, INFRARED), (INFRARED, VISIBLE)):
        yield direction(query, gallery), of_modality(modalities, query), of_modality(modalities, gallery)


def direction(query: str, gallery: str) -> str:
    """The name of the search for `gallery` images with `query` images."""
    return f"{query}->{gallery}"


def of_modality(modalities: np.ndarray, modality: str) -> np.ndarray:
    """Positions (int64, ascending) of the images of one modality."""
    return np.flatnonzero(np.asarray(modalities) == MODALITIES.index(modality))


def images_by_identity_and_camera(
    identities: np.ndarray, cameras: np.ndarray, positions: np.ndarray
) -> dict[tuple[int, int], list[int]]:
    """The given positions, in their order, under (identity, camera); pairs in ascending order."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position in positions.tolist():
        groups.setdefault((int(identities[position]), int(cameras[position])), []).append(position)
    return dict(sorted(groups.items()))


def seeded_gallery(
    identities: np.ndarray,
    cameras: np.ndarray,
    positions: np.ndarray,
    *,
    camera_order: Sequence[int],
    shots: int,
    seed: int,
) -> np.ndarray:
    """Draws `shots` images of each identity in each camera, the same ones for the same seed.

    Python's `random` is seeded once; then, for each identity in ascending order and each camera in the given order, one
    image is `random.choice` of its images in path order. This is the rule of the public code bases for one shot. Theirs
    is not repeatable for several shots; here those are `random.sample`, without replacement, and fewer where there
    are fewer.

    Args:
      identities, cameras: int [N] of the test set.
      positions: int64, ascending: the images to draw from.
      camera_order: cameras to draw from.
      shots: images per identity and camera, 1 or more.
      seed: the number of the trial.

    Returns:
      int64 [G], ascending positions.

    Raises:
      UserError: `shots` is less than 1.
    """
    if shots < 1:
        raise UserError(f"shots is {shots}; expected 1 or more gallery images per identity and camera")
    groups = images_by_identity_and_camera(identities, cameras, positions)
    rng = random.Random(seed)
    gallery: list[int] = []
    for identity in sorted({identity for identity, _ in groups}):
        for camera in camera_order:
            images = groups.get((identity, camera))
            if images:
                gallery += [rng.choice(images)] if shots == 1 else rng.sample(images, min(shots, len(images)))
    return np.array(sorted(gallery), np.int64)


def same_identity_and_camera(
    query_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_identities: np.ndarray,
    gallery_cameras: np.ndarray,
) -> np.ndarray:
    """Excludes gallery images of the query's identity that its own camera took: bool [Q, G]."""
    same_identity = query_identities[:, None] == gallery_identities[None, :]
    return same_identity & (query_cameras[:, None] == gallery_cameras[None, :])
