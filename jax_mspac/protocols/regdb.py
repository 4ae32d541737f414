"""RegDB: each modality searches the whole other one. One test set per split; the mean of ten splits is ten runs."""

from typing import Any

import numpy as np

from jax_mspac.protocols import folder
from jax_mspac.protocols.base import RetrievalProtocol


def protocols(identities: np.ndarray, cameras: np.ndarray, modalities: np.ndarray) -> list[RetrievalProtocol]:
    """Both directions, all images against all, CMC over images; the arguments are as for `folder.protocols`."""
    options: dict[str, Any] = {"shots": (0,), "trials": 1, "exclude_same_camera": False}
    return folder.protocols(identities, cameras, modalities, **options, name="regdb", rank_unit="image")
