"""Features without learning: chance, raw pixels and HOG. The scores of a trained model are read against theirs."""

from collections.abc import Iterable

import numpy as np

from jax_mspac.classical import hog


def random_features(count: int, *, seed: int = 0, dim: int = 64) -> np.ndarray:
    """Features without information, whose scores are chance: float32 [count, dim]."""
    return np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)


def pixel_features(images: Iterable[np.ndarray]) -> np.ndarray:
    """The image itself as a feature.

    Args:
      images: batches of uint8 [n, H, W, 3].

    Returns:
      float32 [N, H * W * 3] in [0, 1].
    """
    return np.concatenate([batch.reshape(len(batch), -1).astype(np.float32) / 255 for batch in images])


def hog_features(images: Iterable[np.ndarray]) -> np.ndarray:
    """Histograms of oriented gradients of the gray image, see `handcrafted.hog`.

    Args:
      images: batches of uint8 [n, H, W, 3] with H and W at least 16.

    Returns:
      float32 [N, D].
    """
    return np.concatenate([hog.extract(batch) for batch in images])


BASELINES = {"pixels": pixel_features, "hog": hog_features}
