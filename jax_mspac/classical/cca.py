"""Canonical correlation analysis (Hotelling, 1936): the directions in which the two modalities agree about a person."""

import numpy as np

from jax_mspac.classical import projections


@projections.metric(pca_dims=100)
def fit(sample: projections.Sample, *, dims: int, shrinkage: float = 0.01) -> projections.Projection:
    """W_v = C_vv^-1/2 U and W_i = C_ii^-1/2 V with U S V^T the SVD of C_vv^-1/2 C_vi C_ii^-1/2.

    The covariances are over all pairs of a visible and an infrared image of the same person, computed from sums (a
    reading of ours: the original has one partner for each sample). Each modality has its own mean. Columns are by
    falling correlation. All weigh the same, so that more than tell persons apart do harm. At most one less than the
    identities seen in both modalities are not zero, as no more correlate. `shrinkage` is the share of the identity
    matrix, times the mean variance of the components, in C_vv and C_ii.
    """
    means, auto, cross = pair_covariances(sample)
    whitening = [_inverse_root(projections.shrink(each, shrinkage, scale=sample.scale)) for each in auto]
    left, correlations, right = np.linalg.svd(whitening[0] @ cross @ whitening[1])
    found = correlations > 1e-6
    matrices = np.stack([whitening[0] @ left[:, found], whitening[1] @ right[found].T])
    return projections.compose(sample, matrices, dims=dims, centers=means)


def pair_covariances(sample: projections.Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over the cross-modality pairs of each identity: means [2, k], covariances [2, k, k], cross-covariance [k, k]."""
    counts, sums = sample.class_sums()
    pairs = counts[0] @ counts[1]
    means = np.stack([counts[1] @ sums[0], counts[0] @ sums[1]]) / pairs
    auto = []
    for index in range(2):
        x, ids = sample.of(index)
        auto.append((x.T * counts[1 - index][ids]) @ x / pairs - np.outer(means[index], means[index]))
    return means, np.stack(auto), sums[0].T @ sums[1] / pairs - np.outer(means[0], means[1])


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors / np.sqrt(values)) @ vectors.T
