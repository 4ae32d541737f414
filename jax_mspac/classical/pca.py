"""Principal components alone: the baseline that the other metrics, which all begin with them, are read against."""

import numpy as np

from jax_mspac.classical import projections


def fit(
    features: np.ndarray,
    ids: np.ndarray,
    modalities: np.ndarray,
    *,
    dims: int,
    max_images: int = 4000,
    seed: int = 0,
) -> projections.Projection:
    """Both modalities on the principal components of all images together.

    Args:
      features: float [N, D].
      ids: int [N].
      modalities: int [N].
      dims: columns of the projection.
      max_images: at most this many are fitted on, see `projections.subset`.
      seed: picks those images, and starts the randomized SVD.

    Raises:
      UserError: see `projections.reduce`.
    """
    sample = projections.reduce(features, ids, modalities, pca_dims=dims, max_images=max_images, seed=seed)
    identity = np.eye(sample.coordinates.shape[1])
    return projections.compose(sample, np.stack([identity, identity]), dims=dims)
