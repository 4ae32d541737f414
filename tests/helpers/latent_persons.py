"""Drawn features of persons in two modalities, for the tests of the metric learners."""

import numpy as np
from scipy.spatial import distance

from jax_mspac.classical import projections


def persons(identities=8, images=3, dim=6, *, seed=0, noise=0.5):
    """Latent persons, seen through a different linear map in each modality: features, ids, modalities.

    The number of images varies, and the last identity is seen in the visible only.
    """
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((identities, 4))
    maps = rng.standard_normal((4, dim)) + 0.5 * rng.standard_normal((2, 4, dim))
    counts = images + rng.integers(0, 2, (identities, 2))
    counts[-1, 1] = 0
    ids = np.concatenate([np.full(sum(each), index) for index, each in enumerate(counts)])
    modalities = np.concatenate([np.repeat([0, 1], each) for each in counts])
    clean = np.einsum("nl,nld->nd", latent[ids], maps[modalities])
    features = clean + noise * rng.standard_normal(clean.shape) + 2 * modalities[:, None]
    order = rng.permutation(len(ids))
    return features[order], 10 * ids[order] + 3, modalities[order]


def sample_of(data, **options):
    features, ids, modalities = data
    return projections.reduce(features, ids, modalities, **({"pca_dims": 99, "max_images": 10**6, "seed": 0} | options))


def pairs_of(ids, modalities):
    """Positions of all cross-modality pairs: of the same identity, of different ones."""
    pairs = [(i, j) for i in np.nonzero(modalities == 0)[0] for j in np.nonzero(modalities == 1)[0]]
    return [p for p in pairs if ids[p[0]] == ids[p[1]]], [p for p in pairs if ids[p[0]] != ids[p[1]]]


def distances_after(name, projection, features, modalities):
    """Distances of infrared to visible images after a projection."""
    projected = [projections.project(projection, features[modalities == index], index) for index in (1, 0)]
    return distance.cdist(*projected, "cosine" if name == "cca" else "euclidean")
