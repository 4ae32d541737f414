"""Distances between features of a test set, a block of queries at a time."""

from collections.abc import Callable, Iterator

import numpy as np

from jax_mspac.errors import UserError

# Pairs ranked, or numbers copied, at a time. A pair takes some 50 bytes: 0.2 GB, however large the gallery.
BUDGET = 2**22
# Distances of queries int [Q] and gallery images int [G], both positions in the test set: float [Q, G].
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cosine_distances(features: np.ndarray, gallery_features: np.ndarray | None = None) -> Distances:
    """One minus the cosine between features, for `evaluate_protocol`. Float32 features are not copied.

    Args:
      features: float [N, D] of the test set, of any length; a zero feature is at distance 1 of everything.
      gallery_features: float [G, D], where the gallery has an array of its own; gallery positions then count in it.

    Raises:
      UserError: a feature is not finite.
    """
    features = np.asarray(features, np.float32)
    lengths = _lengths(features)
    if gallery_features is None:
        gallery_features, gallery_lengths = features, lengths
    else:
        gallery_features = np.asarray(gallery_features, np.float32)
        gallery_lengths = _lengths(gallery_features)

    def distances(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        units = features[queries] / lengths[queries, None]
        table = np.empty((queries.size, gallery.size), np.float32)
        # A slice of the features is a view; other rows are copied, within the budget.
        consecutive = np.all(np.diff(gallery) == 1)
        for columns in blocks(gallery.size, width=1 if consecutive else features.shape[1]):
            rows = gallery[columns]
            images = gallery_features[rows[0] : rows[-1] + 1] if consecutive else gallery_features[rows]
            table[:, columns] = units @ images.T / gallery_lengths[rows]
        return np.subtract(1, table, out=table)

    return distances


def unit(features: np.ndarray) -> np.ndarray:
    """Features [N, D] at length 1, or 0 where they are 0: float32. Raises a UserError where one is not finite."""
    features = np.asarray(features, np.float32)
    return features / _lengths(features)[:, None]


def _lengths(features: np.ndarray) -> np.ndarray:
    """The Euclidean length of each feature, at least the smallest normal number: float32 [N]."""
    limits = np.finfo(np.float32)
    # In double precision the squares neither overflow nor vanish.
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    broken = np.flatnonzero(~(lengths <= limits.max))
    if broken.size:
        raise UserError(
            f"features: {broken.size} of {len(features)} images have a feature that is not finite, the first at "
            f"position {broken[0]}. The model has diverged: go back to an earlier checkpoint or lower the learning rate"
        )
    return np.maximum(lengths, limits.tiny).astype(np.float32)


def blocks(count: int, *, width: int) -> Iterator[slice]:
    """Slices of `count` rows of `width` numbers, each within the budget or of one row."""
    step = max(1, BUDGET // max(1, width))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
