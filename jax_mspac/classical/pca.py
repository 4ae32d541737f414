"""Principal components alone: the baseline that the other metrics, which all begin with them, are read against."""

import numpy as np

from jax_mspac.classical import projections


@projections.metric(pca_dims=None)
def fit(sample: projections.Sample, *, dims: int) -> projections.Projection:
    """Both modalities on the principal components of all images together."""
    identity = np.eye(sample.coordinates.shape[1])
    return projections.compose(sample, np.stack([identity, identity]), dims=dims)
