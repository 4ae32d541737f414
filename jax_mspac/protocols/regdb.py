"""RegDB: each modality searches the whole other one. One test set per split; the mean of ten splits is ten runs."""

import numpy as np

from jax_mspac.protocols.base import RetrievalProtocol, Trial, directions


def protocols(identities: np.ndarray, cameras: np.ndarray, modalities: np.ndarray) -> list[RetrievalProtocol]:
    """Both directions, all images against all, CMC over images.

    Args:
      identities: int [N]; unused, as nothing is drawn per identity.
      cameras: int [N]; unused.
      modalities: int [N], positions in `MODALITIES`.
    """
    del identities, cameras
    return [
        RetrievalProtocol(
            name="regdb",
            mode="-",
            shots=None,
            direction=name,
            trials=(Trial(queries, gallery),),
            excluded=None,
            rank_unit="image",
        )
        for name, queries, gallery in directions(modalities)
    ]
