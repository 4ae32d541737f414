"""Your own photographs, and the demo data: each modality searches the other."""

import itertools
from collections.abc import Sequence

import numpy as np

from jax_mspac.protocols import base


def protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    modalities: np.ndarray,
    *,
    shots: Sequence[int],
    trials: int,
    exclude_same_camera: bool,
    name: str = "folder",
    rank_unit: base.RankUnit = "identity",
) -> list[base.RetrievalProtocol]:
    """Both directions; queries are all images of one modality.

    Args:
      identities: int [N].
      cameras: int [N].
      modalities: int [N], positions in `MODALITIES`.
      shots: gallery images per identity and camera, drawn by `seeded_gallery`, one protocol each; 0 takes every image,
        in one trial.
      trials: galleries to draw, with seeds 0, 1, ...
      exclude_same_camera: whether gallery images of the query's identity from the query's own camera do not count, for
        cameras that take both modalities.
      name: what the protocol is called in tables.
      rank_unit: whether the CMC counts identities or images, see `base.RetrievalProtocol`.
    """
    identities, cameras = np.asarray(identities), np.asarray(cameras)
    listed = []
    for count, (direction, queries, candidates) in itertools.product(shots, base.directions(modalities)):
        if count == 0:
            galleries = [candidates]
        else:
            order = np.unique(cameras[candidates]).tolist()
            galleries = [
                base.seeded_gallery(identities, cameras, candidates, camera_order=order, shots=count, seed=trial)
                for trial in range(trials)
            ]
        listed.append(
            base.RetrievalProtocol(
                name=name,
                mode="-",
                shots=count or None,
                direction=direction,
                trials=tuple(base.Trial(queries, gallery) for gallery in galleries),
                excluded=base.same_identity_and_camera if exclude_same_camera else None,
                rank_unit=rank_unit,
            )
        )
    return listed
