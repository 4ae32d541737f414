"""Local Fisher discriminant analysis (Sugiyama, JMLR 2007; for persons, Pedagadi et al., CVPR 2013)."""

import numpy as np
import scipy.linalg
from scipy.spatial import distance

from jax_mspac.classical import projections


@projections.metric(pca_dims=100)
def fit(sample: projections.Sample, *, dims: int, neighbor: int = 7, shrinkage: float = 0.01) -> projections.Projection:
    """Solves S_lb v = l S_lw v; columns v sqrt(l), v^T S_lw v = 1, by falling l.

    Both modalities share the projection, and images of one person in the two are neighbors or not as any others. The
    distance to the nearest image number `neighbor` of the same identity (the furthest, where there are fewer) is the
    local scale of an image. `shrinkage` is the share of the identity matrix, times the mean variance of the components,
    in S_lw.
    """
    within, between = local_scatters(sample.coordinates, sample.ids, neighbor=neighbor)
    values, vectors = scipy.linalg.eigh(between, projections.shrink(within, shrinkage, scale=sample.scale))
    factor = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    return projections.compose(sample, np.stack([factor, factor]), dims=dims)


def local_scatters(x: np.ndarray, ids: np.ndarray, *, neighbor: int) -> tuple[np.ndarray, np.ndarray]:
    """S_lw and S_lb of Sugiyama, divided by n: half the mean over images i of sum_j W_ij (x_i - x_j)(x_i - x_j)^T.

    Within a class of n_c images, W_lw = A_ij / n_c and W_lb = A_ij (1/n - 1/n_c) with the affinity
    A_ij = exp(-|x_i - x_j|^2 / (s_i s_j)), the scale s of an image its distance to the nearest one number `neighbor`;
    between classes 0 and 1/n. S_lw + S_lb is the total scatter but for what A leaves out within classes, so that only
    classes need affinities. Of x float64 [n, k] and ids int [n] both are float64 [k, k].
    """
    centerd = x - x.mean(axis=0)
    within, mixture = np.zeros((x.shape[1],) * 2), centerd.T @ centerd
    for identity in np.unique(ids):
        members = x[ids == identity]
        affinity = _affinities(members, neighbor)
        within += _laplacian_form(members, affinity) / len(members)
        mixture -= _laplacian_form(members, 1 - affinity) / len(x)
    return within / len(x), (mixture - within) / len(x)


def _affinities(x: np.ndarray, neighbor: int) -> np.ndarray:
    squares = distance.cdist(x, x, "sqeuclidean")
    scales = np.sqrt(np.sort(squares, axis=1)[:, min(neighbor, len(x) - 1)])
    product = np.outer(scales, scales)
    # A scale of 0 is that of many equal images: they are near each other and far from all others.
    return np.where(product > 0, np.exp(-squares / np.where(product > 0, product, 1)), squares == 0)


def _laplacian_form(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """1/2 sum_ij w_ij (x_i - x_j)(x_i - x_j)^T for symmetric weights."""
    return (x.T * weights.sum(axis=0)) @ x - x.T @ weights @ x
