"""SYSU-MM01: infrared searches visible, in all cameras or in the indoor ones, with the two galleries in circulation.

`official` galleries follow the permutations of `rand_perm_cam.mat`, as most papers do. `seeded` ones follow Python's
`random`, as the AGW code base and its forks do. Their figures differ, so a table must say which one it used.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE
from jax_mspac.protocols.base import (
    RetrievalProtocol,
    Trial,
    direction,
    images_by_identity_and_camera,
    of_modality,
    seeded_gallery,
)
from jax_mspac.protocols.sysu_lists import TRIALS, Permutations

GALLERIES = ("official", "seeded")
# Query cameras and gallery cameras. Validation identities were filmed by cameras 3, 4 and 5 only.
MODES = {"all": ((3, 6), (1, 2, 4, 5)), "indoor": ((3, 6), (1, 2)), "validation": ((3,), (4, 5))}
# Cameras 2 and 3 look at the same place. Index 0 is unused: cameras count from 1.
PLACE_OF_CAMERA = np.array([0, 1, 2, 2, 4, 5, 6])


def protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    modalities: np.ndarray,
    *,
    galleries: Sequence[str],
    modes: Sequence[str],
    shots: Sequence[int],
    trials: int,
    permutations: Permutations | None = None,
    identity_numbers: Sequence[int] | None = None,
) -> list[RetrievalProtocol]:
    """The protocols of a SYSU-MM01 test set, images in the order of their sorted paths.

    Probes without an image of their identity in the gallery stay in the query list and are dropped by the metrics.

    Args:
      identities: int [N], ranks of the identity numbers.
      cameras: int [N], 1 to 6.
      modalities: int [N], positions in `MODALITIES`.
      galleries: which of "official" and "seeded".
      modes: which of "all", "indoor" and, for the validation identities, "validation".
      shots: gallery images per identity and camera, one protocol each; the data set defines 1 and 10.
      trials: galleries per protocol, at most 10 for "official".
      permutations: `sysu_lists.load_permutations`; "official" needs it.
      identity_numbers: the number, as in the data set's folders, of each rank; "official" needs it.

    Raises:
      UserError: an option is unknown or missing, or the lists do not fit the images.
    """
    identities, cameras = np.asarray(identities), np.asarray(cameras)
    for option, values, known in (("galleries", galleries, GALLERIES), ("modes", modes, tuple(MODES))):
        unknown = [value for value in values if value not in known]
        if unknown:
            raise UserError(f"SYSU-MM01 {option}: unknown {unknown}; expected some of {list(known)}")
    if "official" in galleries:
        if permutations is None or identity_numbers is None:
            raise UserError(
                "SYSU-MM01 galleries: 'official' needs the permutations of rand_perm_cam.mat and the identity numbers; "
                "give both, or choose galleries=('seeded',)"
            )
        if trials > TRIALS:
            raise UserError(
                f"SYSU-MM01 trials: {trials}, but the official lists have {TRIALS}; set trials to at most that"
            )

    listed = []
    for gallery, mode, count in itertools.product(galleries, modes, shots):
        query_cameras, gallery_cameras = MODES[mode]
        queries = _taken_by(cameras, of_modality(modalities, INFRARED), query_cameras)
        candidates = _taken_by(cameras, of_modality(modalities, VISIBLE), gallery_cameras)
        if gallery == "official":
            assert permutations is not None and identity_numbers is not None  # as checked above
            drawn = official_galleries(identities, cameras, candidates, count, trials, permutations, identity_numbers)
        else:
            drawn = [
                seeded_gallery(identities, cameras, candidates, camera_order=gallery_cameras, shots=count, seed=trial)
                for trial in range(trials)
            ]
        listed.append(
            RetrievalProtocol(
                name=gallery,
                mode=mode,
                shots=count,
                direction=direction(INFRARED, VISIBLE),
                trials=tuple(Trial(queries, chosen) for chosen in drawn),
                excluded=same_place,
                rank_unit="identity",
            )
        )
    return listed


def official_galleries(
    identities: np.ndarray,
    cameras: np.ndarray,
    candidates: np.ndarray,
    shots: int,
    trials: int,
    permutations: Permutations,
    identity_numbers: Sequence[int],
) -> list[np.ndarray]:
    """The galleries of the first trials: int64 [G] each, the first `shots` entries of row t of each permutation.

    Raises:
      UserError: an identity has another number of images in a camera than the lists say.
    """
    galleries: list[list[int]] = [[] for _ in range(trials)]
    for (identity, camera), images in images_by_identity_and_camera(identities, cameras, candidates).items():
        number = identity_numbers[identity]
        rows = permutations[camera].get(number, np.empty((TRIALS, 0), np.int64))
        if rows.shape[1] != len(images):
            raise UserError(
                f"SYSU-MM01 identity {number}, camera {camera}: the test set has {len(images)} images, "
                f"rand_perm_cam.mat lists {rows.shape[1]}. Prepare the data set again from the original folders"
            )
        for gallery, row in zip(galleries, rows, strict=False):
            gallery.extend(images[entry] for entry in row[:shots])
    return [np.array(sorted(gallery), np.int64) for gallery in galleries]


def same_place(
    query_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_identities: np.ndarray,
    gallery_cameras: np.ndarray,
) -> np.ndarray:
    """Excludes gallery images, of any identity, from the place of the query's camera: bool [Q, G]."""
    del query_identities, gallery_identities
    return PLACE_OF_CAMERA[query_cameras][:, None] == PLACE_OF_CAMERA[gallery_cameras][None, :]


def _taken_by(cameras: np.ndarray, positions: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    return positions[np.isin(cameras[positions], wanted)]
