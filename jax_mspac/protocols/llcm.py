"""LLCM: each modality searches one seeded image per identity and camera of the other."""

import numpy as np

from jax_mspac.modalities import INFRARED, VISIBLE
from jax_mspac.protocols import folder
from jax_mspac.protocols.base import RetrievalProtocol, Trial, direction


def protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    modalities: np.ndarray,
    *,
    trials: int = 10,
    drawn_queries: bool = False,
) -> list[RetrievalProtocol]:
    """Both directions, single-shot; images of the query's identity from its own camera do not count.

    Two tables of visible -> infrared figures circulate. The authors' training script searches as said here. Their test
    script swaps queries and gallery: the infrared images that were drawn search all visible ones, which is another
    search, in the other direction, under the same name; with `drawn_queries` it is listed too, as mode "drawn queries".

    `identities`, `cameras` (1 to 9) and `modalities` are as for `folder.protocols`.
    """
    listed = folder.protocols(
        identities, cameras, modalities, shots=(1,), trials=trials, exclude_same_camera=True, name="llcm"
    )
    if drawn_queries:
        (there,) = (protocol for protocol in listed if protocol.direction == direction(VISIBLE, INFRARED))
        listed.append(
            RetrievalProtocol(
                name="llcm",
                mode="drawn queries",
                shots=None,
                direction=direction(INFRARED, VISIBLE),
                trials=tuple(Trial(trial.gallery, trial.queries) for trial in there.trials),
                excluded=there.excluded,
                rank_unit=there.rank_unit,
            )
        )
    return listed
