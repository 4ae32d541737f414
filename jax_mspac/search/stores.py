"""Which store an index is in: a folder, or a collection on a server."""

import os
import re

from jax_mspac.errors import UserError
from jax_mspac.search.base import Store


def opened(index: str | os.PathLike, *, create: bool) -> Store:
    """The store of an index.

    Args:
      index: a folder, or an address that begins with "qdrant+http://" or "qdrant+https://": see `qdrant_store`.
      create: whether to begin an index where there is none.

    Raises:
      UserError: there is no index, or none can begin there.
    """
    name = os.fspath(index)
    scheme = re.match(r"([a-z][a-z0-9.+-]*)://", name)
    if scheme is None:
        from jax_mspac.search.store import Store as FolderStore

        return FolderStore(index, create=create)
    if not scheme[1].startswith("qdrant+"):
        raise UserError(
            f"{name}: no store of an index is called {scheme[1]}; expected a folder, or the address of a collection on "
            "a Qdrant server, such as qdrant+http://localhost:6333/people"
        )
    from jax_mspac.search.qdrant_store import QdrantStore

    return QdrantStore(name, create=create)
