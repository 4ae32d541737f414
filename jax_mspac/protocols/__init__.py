"""Evaluation protocols: which images are queries, which are gallery, which pairs do not count.

Each is a function of (identities [N], cameras [N], modalities [N], **settings), images in path order, that lists
`RetrievalProtocol`s; a data set says which is its own.
"""

from jax_mspac.protocols.base import RetrievalProtocol, Trial

__all__ = ["RetrievalProtocol", "Trial"]
