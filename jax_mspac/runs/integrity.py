"""What tells that a checkpoint holds what was saved: the shape and the checksum of every array, in a sealed record."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jax_mspac.errors import UserError

PyTree = Any
# Name of an array -> its type and shape, and its checksum.
Arrays = Mapping[str, tuple[str, int]]


class DamagedCheckpoint(UserError):
    """A checkpoint does not hold what was saved."""


def sealed(record: Mapping[str, Any]) -> dict[str, str]:
    """A record with its checksum, for `opened`."""
    text = json.dumps(record)
    return {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def opened(seal: Any) -> dict[str, Any]:
    """The record in a seal.

    Raises:
      ValueError: there is none, or it was altered.
    """
    try:
        text, digest = seal["text"], seal["sha256"]
    except (KeyError, TypeError):
        raise ValueError("it has no record of what was saved") from None
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError("the checksum of its record does not fit")
    return json.loads(text)


def describe(tree: PyTree) -> dict[str, tuple[str, int]]:
    """Type and shape, and checksum, of each array by its name."""
    return {name: (_shape(leaf), _checksum(leaf)) for name, leaf in _leaves(tree)}


def shapes(tree: PyTree) -> dict[str, str]:
    """Type and shape of each array by its name."""
    return {name: _shape(leaf) for name, leaf in _leaves(tree)}


def altered(tree: PyTree, arrays: Arrays) -> list[str]:
    """The names of the arrays whose checksums do not fit."""
    return [name for name, leaf in _leaves(tree) if _checksum(leaf) != arrays[name][1]]


def differences(saved: Mapping[str, str], expected: Mapping[str, str], shown: int = 10) -> list[str]:
    """One line per array that is missing, unexpected or of another shape; the first `shown`, and a count."""
    names = [name for name in sorted(saved.keys() | expected.keys()) if saved.get(name) != expected.get(name)]
    lines = [
        f"  {name}: saved {saved.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}" for name in names
    ]
    return lines[:shown] + ([f"  and {len(lines) - shown} more"] if len(lines) > shown else [])


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _shape(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _checksum(leaf: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
