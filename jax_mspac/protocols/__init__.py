"""Evaluation protocols: which images are queries, which are gallery, which pairs do not count."""

from collections.abc import Callable

from jax_mspac.protocols import folder, llcm, regdb, sysu_mm01
from jax_mspac.protocols.base import RetrievalProtocol, Trial

# For each data set a function of (identities [N], cameras [N], modalities [N], **options), images in path order.
PROTOCOLS: dict[str, Callable[..., list[RetrievalProtocol]]] = {
    "sysu_mm01": sysu_mm01.protocols,
    "regdb": regdb.protocols,
    "llcm": llcm.protocols,
    "folder": folder.protocols,
    "synthetic": folder.protocols,
}

__all__ = ["PROTOCOLS", "RetrievalProtocol", "Trial"]
