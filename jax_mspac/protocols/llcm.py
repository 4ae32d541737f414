"""LLCM: each modality searches one seeded image per identity and camera of the other."""

import numpy as np

from jax_mspac.protocols import folder
from jax_mspac.protocols.base import RetrievalProtocol


def protocols(
    identities: np.ndarray, cameras: np.ndarray, modalities: np.ndarray, *, trials: int = 10
) -> list[RetrievalProtocol]:
    """Both directions, single-shot; images of the query's identity from its own camera do not count.

    `identities`, `cameras` (1 to 9) and `modalities` are as for `folder.protocols`.
    """
    return folder.protocols(
        identities, cameras, modalities, shots=(1,), trials=trials, exclude_same_camera=True, name="llcm"
    )
