"""CRAFT (Chen, Zhu, Zheng and Lai, TPAMI 2018, arXiv 1703.08837): features augmented by how alike the views are.

Views are cameras in the paper; here they are the two modalities, so that an image of an unseen camera has a projection.
The paper kernelizes by the Bhattacharyya kernel; here the kernel is linear, on principal components, so that what was
learned is a matrix.
"""

import numpy as np
import scipy.linalg
import scipy.sparse

from jax_mspac.classical import projections

_ROWS = 1024  # images whose distances to all others are in memory at once


@projections.metric(pca_dims=100)
def fit(
    sample: projections.Sample,
    *,
    dims: int,
    subspace_dims: int = 50,
    discrepancy: float = 0.6,
    same_neighbors: int = 10,
    other_neighbors: int = 30,
    shrinkage: float = 0.01,
) -> projections.Projection:
    """Marginal Fisher analysis (Yan et al., TPAMI 2007) of augmented features: S_b w = l S_w w, by falling l.

    An image x of view m becomes the blocks a_m1 x, a_m2 x (see `augmentation`). S_w is the scatter between an image and
    its nearest ones of the same identity, S_b that between an image and its nearest ones of other identities; both in
    the other modality. That is a reading of ours: the original does not ask for the other view, but has few images of a
    person in each; with many, all neighbors would be of the same view, and the views never compared.

    Args:
      subspace_dims: principal components of each modality that are compared. At most half of the components that were
        found, as larger subspaces always meet.
      discrepancy: weight, in [0, 1), of the paper's penalty on differences between the modalities' projections.
      same_neighbors: nearest images of the same identity, in the other modality, that an image is joined to in S_w.
      other_neighbors: nearest images of other identities, in the other modality, that it is joined to in S_b.
      shrinkage: share of the identity matrix, times the mean variance of the augmented features, in S_w.
    """
    blocks = augmentation(sample, subspace_dims=subspace_dims, discrepancy=discrepancy)
    augmented = (blocks[sample.modalities][:, :, None] * sample.coordinates[:, None, :]).reshape(len(sample.ids), -1)
    same = sample.ids[:, None] == sample.ids
    across = sample.modalities[:, None] != sample.modalities
    within = _scatter(augmented, neighbor_graph(sample.coordinates, same & across, count=same_neighbors))
    between = _scatter(augmented, neighbor_graph(sample.coordinates, ~same & across, count=other_neighbors))
    scale = float(np.mean(augmented**2))
    values, vectors = scipy.linalg.eigh(between, projections.shrink(within, shrinkage, scale=scale))
    directions = vectors[:, ::-1].reshape(2, sample.coordinates.shape[1], -1)
    return projections.compose(sample, np.einsum("mj,jkr->mkr", blocks, directions), dims=dims)


def augmentation(sample: projections.Sample, *, subspace_dims: int, discrepancy: float) -> np.ndarray:
    """Factors a of the blocks of the augmented features: float64 [2 modalities, 2 blocks].

    The rows of omega, whitened: a = omega C^-1/2. omega_12 is the mean cosine of the principal angles between the
    modalities' subspaces and omega_ii = 2 - omega_12. C = [[1, -b], [-b, 1]] is the penalty w^T C w on projections that
    differ, b the discrepancy; to whiten by it turns the penalty into the plain norm that shrinkage stands for.
    """
    limit = max(1, min(subspace_dims, sample.coordinates.shape[1] // 2))
    subspaces = []
    for index in range(2):
        x, _ = sample.of(index)
        _, lengths, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        subspaces.append(axes[:limit][lengths[:limit] > 1e-6 * lengths[0]])
    cosines = scipy.linalg.svdvals(subspaces[0] @ subspaces[1].T) if all(map(len, subspaces)) else np.ones(1)
    likeness = float(np.mean(cosines))
    omega = np.array([[2 - likeness, likeness], [likeness, 2 - likeness]])
    values, vectors = np.linalg.eigh(np.array([[1, -discrepancy], [-discrepancy, 1]]))
    return omega @ (vectors / np.sqrt(values)) @ vectors.T


def neighbor_graph(x: np.ndarray, allowed: np.ndarray, *, count: int) -> scipy.sparse.csr_array:
    """Joins each image of x float64 [n, k] to its nearest allowed ones, in both directions: 0 or 1, sparse [n, n].

    `allowed` is bool [n, n]; an image is never its own neighbor. Where fewer than `count` are allowed it has fewer.
    """
    squares = np.sum(x**2, axis=1)
    count = min(count, len(x) - 1)
    rows, columns = [], []
    for start in range(0, len(x), _ROWS):
        images = np.arange(start, min(start + _ROWS, len(x)))
        distances = squares - 2 * x[images] @ x.T
        distances[~allowed[images]] = np.inf
        distances[np.arange(len(images)), images] = np.inf
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        row, place = np.nonzero(np.isfinite(np.take_along_axis(distances, nearest, axis=1)))
        rows.append(images[row])
        columns.append(nearest[row, place])
    edges = np.concatenate(rows), np.concatenate(columns)
    graph = scipy.sparse.csr_array((np.ones(len(edges[0])), edges), shape=(len(x), len(x)))
    return graph.maximum(graph.T)


def _scatter(x: np.ndarray, graph: scipy.sparse.csr_array) -> np.ndarray:
    """Half the mean of (x_i - x_j)(x_i - x_j)^T over the edges of a graph."""
    return ((x.T * graph.sum(axis=0)) @ x - x.T @ (graph @ x)) / max(graph.sum(), 1)
