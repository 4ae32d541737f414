"""KISSME (Köstinger et al., CVPR 2012): how much likelier a difference is between images of one person than of two."""

import numpy as np

from jax_mspac.classical import projections


@projections.metric(pca_dims=100)
def fit(sample: projections.Sample, *, dims: int, shrinkage: float = 0.01) -> projections.Projection:
    """M = inv(Sigma_same) - inv(Sigma_diff), its negative eigenvalues set to 0; the projection is L with M = L L^T.

    Sigma is the second moment of the differences of pairs. A pair is a visible and an infrared image, as in a search
    (a reading of ours: the original takes pairs as they are given). Columns are eigenvectors of M by falling
    eigenvalue. `shrinkage` is the share of the identity matrix, times the mean variance of the components, in both
    Sigmas.
    """
    same, different = (projections.shrink(moment, shrinkage, scale=sample.scale) for moment in pair_moments(sample))
    values, vectors = np.linalg.eigh(np.linalg.inv(same) - np.linalg.inv(different))
    factor = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    return projections.compose(sample, np.stack([factor, factor]), dims=dims)


def pair_moments(sample: projections.Sample) -> tuple[np.ndarray, np.ndarray]:
    """Mean of (x - y)(x - y)^T over the cross-modality pairs of the same and of different identities: [k, k] each.

    Without listing pairs: the sum over x in A and y in B is |B| sum x x^T + |A| sum y y^T - S_A S_B^T - S_B S_A^T with
    S the sums, for one identity as for all.
    """
    x = sample.coordinates
    counts, sums = sample.class_sums()
    other = 1 - sample.modalities
    product = sums[0].T @ sums[1]
    same = (x.T * counts[other, sample.ids]) @ x - product - product.T
    product = np.outer(sums[0].sum(axis=0), sums[1].sum(axis=0))
    every = (x.T * counts.sum(axis=1)[other]) @ x - product - product.T
    same_pairs = counts[0] @ counts[1]
    return same / same_pairs, (every - same) / (np.prod(counts.sum(axis=1)) - same_pairs)
