"""The entries of a store that are most similar to a feature."""

import dataclasses
from typing import Any

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.metrics.search import search
from jax_mspac.protocols.base import direction
from jax_mspac.search.entries import Filter, Hit
from jax_mspac.search.store import Store

_FIELDS = [field.name for field in dataclasses.fields(Hit) if field.name not in ("rank", "similarity", "match")]


def nearest(store: Store, feature: np.ndarray, modality: str, wanted: Filter, *, top: int) -> list[Hit]:
    """Ranks the entries that fit a filter by exact search. Call it under `reading`.

    Args:
      store: of an index that is not empty.
      feature: float [1, D] or [D], of any length.
      modality: of the query; thresholds depend on it.
      wanted: the filter.
      top: how many; fewer where fewer fit.

    Returns:
      In descending similarity, equal ones in the order of their rows.

    Raises:
      UserError: the feature is of other dimensions, or `top` is less than 1.
    """
    if top < 1:
        raise UserError(f"top is {top}; expected 1 or more")
    feature, features = unit(np.atleast_2d(feature)), store.features()
    if feature.shape != (1, features.shape[1]):
        raise UserError(f"a feature is {list(feature.shape)}; the index holds features of {features.shape[1]} numbers")
    positions = store.positions(wanted)
    if not positions.size:
        return []
    without_gaps = positions[-1] + 1 == positions.size
    gallery: Any = features[: positions.size] if without_gaps else _Rows(features, positions)
    similarities, found = search(feature, gallery, k=min(top, positions.size))
    thresholds = store.fact("thresholds") or {}
    hits = []
    for rank, (similarity, entry) in enumerate(
        zip(similarities[0].tolist(), store.entries(positions[found[0]]), strict=True), 1
    ):
        calibrated = thresholds.get(direction(modality, entry.modality))
        match = None if calibrated is None else similarity >= calibrated["threshold"]
        labels = {name: getattr(entry, name) for name in _FIELDS}
        hits.append(Hit(**labels, rank=rank, similarity=similarity, match=match))
    return hits


class _Rows:
    """Some rows of features, copied block by block as they are asked for."""

    def __init__(self, features: np.ndarray, positions: np.ndarray):
        self._features, self._positions = features, positions
        self.shape, self.ndim = (len(positions), features.shape[1]), 2

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, block: slice) -> np.ndarray:
        return self._features.take(self._positions[block], axis=0)
