"""Test-time re-ranking: distances of one search that look beyond the pair.

A re-ranked distance depends on the other images of the gallery, and with `k_reciprocal` on the other queries too. So
it holds for one trial only (`evaluate_protocol` with `per_trial`), and its scores compare with re-ranked scores alone.
It sees neither labels nor cameras: the pairs that a protocol excludes take part, and are left out of the ranking
afterwards.

Everywhere the nearest images of an image are itself, then the others in ascending distance, equal distances by
position, queries before gallery.
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from jax_mspac.metrics.distances import Distances, unit

# Images whose neighbors are sorted at a time: bounds the memory beside the distances.
BLOCK = 256


def k_reciprocal(
    query: np.ndarray, gallery: np.ndarray, *, k1: int = 20, k2: int = 6, original_weight: float = 0.3
) -> np.ndarray:
    """k-reciprocal encoding: Zhong et al., CVPR 2017, arXiv 1701.08398.

    With N(p, k) the k nearest images of p besides itself, over queries and gallery together:

        R(p, k)  = {q in N(p, k): p in N(q, k)}, and p
        R*(p)    = R(p, k1), joined with R(q, k1 / 2) for each q in R(p, k1) with
                   |R(p, k1) & R(q, k1 / 2)| > 2/3 |R(q, k1 / 2)|
        V(p, g)  = exp(-d(p, g)) for g in R*(p), else 0; each row divided by its sum
        V*(p)    = mean of V over the k2 nearest images of p, itself included
        J(p, g)  = 1 - sum min(V*(p), V*(g)) / sum max(V*(p), V*(g))
        result   = (1 - original_weight) J + original_weight d

    Where the paper and its public code differ, this is the code, since published numbers come from it: d is the squared
    Euclidean distance of unit features divided by the largest from p to any query or gallery image (the paper has
    Mahalanobis and no division), the share must exceed 2/3 (the paper: reach it), and rows of V sum to one.

    3803 queries and 3010 gallery images of 2048 numbers take 4 to 8 seconds of one core and 330 MB, which grow with
    (Q + G)^2.

    Args:
      query: float [Q, D].
      gallery: float [G, D].
      k1: neighbors that may be reciprocal.
      k2: neighbors to average the encoding over; 1: no average.
      original_weight: lambda of the paper.

    Returns:
      float32 [Q, G].
    """
    count = len(query)
    distances = _squared_distances(np.concatenate([query, gallery]))
    distances /= np.maximum(distances.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    nearest = _nearest(distances, max(k1 + 1, k2))
    reciprocal, half = (_reciprocal(nearest[:, : k + 1]) for k in (k1, round(k1 / 2)))

    # Row p, column q in R(p, k1): the size of R(p, k1) & R(q, k1 / 2), and then whether q brings its own set in.
    brings = reciprocal.multiply(reciprocal @ half.T).tocsr()
    brings.data = (3 * brings.data > 2 * half.sum(axis=1)[brings.indices]).astype(np.float32)
    brings.eliminate_zeros()
    expanded = reciprocal + brings @ half

    row = np.repeat(np.arange(len(distances)), np.diff(expanded.indptr))
    kernel = np.exp(-distances[row, expanded.indices])
    expanded.data = kernel / np.bincount(row, kernel)[row].astype(np.float32)
    averaged = _members(nearest[:, :k2]) @ expanded / nearest[:, :k2].shape[1]
    jaccard, original = _jaccard(averaged[:count], averaged[count:]), distances[:count, count:]
    return (1 - original_weight) * jaccard + original_weight * original


def gallery_affinity(
    query: np.ndarray, gallery: np.ndarray, *, k: int = 6, temperature: float = 0.2, original_weight: float = 0.5
) -> np.ndarray:
    """Similarities averaged over each gallery image's neighbors in the gallery.

    Images of one modality compare more reliably than images of two, so a query is compared with a gallery image by way
    of the gallery images that are like it. With c the cosine and N(g) the k nearest gallery images of g, itself
    included:

        w(g, h) = exp(c(g, h) / temperature), over its sum for h in N(g)
        result  = 1 - (1 - original_weight) sum_h w(g, h) c(q, h) - original_weight c(q, g)

    The idea is that of the affinity inference of Fang, Yang and Fu ("Visible-infrared person re-identification via
    semantic alignment and affinity inference", ICCV 2023). The formula and its defaults are a reading of ours: theirs
    compares the vectors of affinities that the query and the gallery image have with the gallery, and adds the cosine
    with equal weight. Ours uses no other query, and equals averaging the unit features of N(g). The defaults were
    chosen on random clusters, not tuned on images.

    Args:
      query: float [Q, D].
      gallery: float [G, D].
      k: gallery images to average over; 1: the cosine distance itself.
      temperature: the smaller, the more an image counts above its neighbors.
      original_weight: share of the cosine itself, in [0, 1].

    Returns:
      float32 [Q, G].
    """
    distances = _squared_distances(gallery)
    nearest = _nearest(distances, k)
    # The squared distance of unit vectors is 2 - 2 c; the factor exp(1 / temperature) leaves with the sum.
    kernel = np.exp(-np.take_along_axis(distances, nearest, axis=1) / (2 * temperature))
    weights = _members(nearest)
    weights.data = (kernel / kernel.sum(axis=1, keepdims=True)).ravel()
    cosine = unit(query) @ unit(gallery).T
    return 1 - (1 - original_weight) * (weights @ cosine.T).T - original_weight * cosine


# Name -> function of query features [Q, D] and gallery features [G, D] that gives distances float32 [Q, G].
POSTPROCESSING: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "k_reciprocal": k_reciprocal,
    "gallery_affinity": gallery_affinity,
}


def reranked_distances(name: str, features: np.ndarray, gallery_features: np.ndarray | None = None) -> Distances:
    """Distances by the name in `POSTPROCESSING`, for `evaluate_protocol` with `per_trial`.

    The features, float [N, D], are as for `cosine_distances`.
    """
    gallery_features = features if gallery_features is None else gallery_features
    return lambda queries, gallery: POSTPROCESSING[name](features[queries], gallery_features[gallery])


def _squared_distances(features: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances between unit features, none negative: float32 [N, N]."""
    features = unit(features)
    distances = features @ features.T
    distances *= -2
    distances += 2
    np.maximum(distances, 0, out=distances)
    np.fill_diagonal(distances, 0)
    return distances


def _nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """The nearest images of each image, itself first: int64 [N, min(count, N)], of float32 [N, N], none negative."""
    size = len(distances)
    count = min(count, size)
    nearest = np.empty((size, count), np.int64)
    for start in range(0, size, BLOCK):
        block = distances[start : start + BLOCK].copy()
        rows = np.arange(len(block))
        block[rows, start + rows] = -1  # ahead of its duplicates
        # Integers that hold the distance in the upper half and the position in the lower one order as wanted.
        keys = (block.view(np.int32).astype(np.int64) << 32) | np.arange(size)
        nearest[start : start + BLOCK] = np.sort(np.partition(keys, count - 1, axis=1)[:, :count]) & 0xFFFFFFFF
    return nearest


def _members(sets: np.ndarray) -> sparse.csr_array:
    """Sets of positions int64 [N, k], without repetition, as the rows of a matrix of ones: float32 [N, N]."""
    size, count = sets.shape
    rows = np.arange(0, sets.size + 1, count)
    return sparse.csr_array((np.ones(sets.size, np.float32), sets.ravel(), rows), shape=(size, size))


def _reciprocal(nearest: np.ndarray) -> sparse.csr_array:
    """The neighbors int64 [N, k] that have the image among theirs, as the rows of a matrix of ones."""
    members = _members(nearest)
    return members.multiply(members.T).tocsr()


def _jaccard(queries: sparse.csr_array, gallery: sparse.csr_array) -> np.ndarray:
    """One minus intersection over union of non-negative rows that sum to one: float32 [Q, G]."""
    columns = gallery.tocsc()
    overlap = np.empty((queries.shape[0], gallery.shape[0]), np.float32)
    for row in range(len(overlap)):
        inside = slice(*queries.indptr[row : row + 2])
        # Only the columns where the query is not zero, each with its gallery rows.
        shared = columns[:, queries.indices[inside]]
        least = np.minimum(shared.data, np.repeat(queries.data[inside], np.diff(shared.indptr)))
        overlap[row] = np.bincount(shared.indices, least, minlength=overlap.shape[1])
    return 1 - overlap / (2 - overlap)
