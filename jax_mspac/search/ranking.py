"""The entries of a store that are most similar to a feature."""

import dataclasses

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.protocols.base import direction
from jax_mspac.search.base import Store
from jax_mspac.search.entries import Filter, Hit

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
      In descending similarity.

    Raises:
      UserError: the feature is of other dimensions, or `top` is less than 1.
    """
    if top < 1:
        raise UserError(f"top is {top}; expected 1 or more")
    feature, dimensions = unit(np.atleast_2d(feature)), store.fact("dimensions")
    if feature.shape != (1, dimensions):
        raise UserError(f"a feature is {list(feature.shape)}; the index holds features of {dimensions} numbers")
    found = store.nearest(feature, wanted, top=top)
    thresholds = store.fact("thresholds") or {}
    hits = []
    for rank, (entry, similarity) in enumerate(found, 1):
        calibrated = thresholds.get(direction(modality, entry.modality))
        match = None if calibrated is None else similarity >= calibrated["threshold"]
        labels = {name: getattr(entry, name) for name in _FIELDS}
        hits.append(Hit(**labels, rank=rank, similarity=similarity, match=match))
    return hits
