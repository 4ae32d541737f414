"""Features without learning: chance, raw pixels and HOG. The scores of a trained model are read against theirs."""

import numpy as np

from jax_mspac.classical import hog


def random_features(count: int, *, seed: int = 0, dim: int = 64) -> np.ndarray:
    """Features without information, whose scores are chance: float32 [count, dim]."""
    return np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)


def pixel_features(images: np.ndarray) -> np.ndarray:
    """The image itself as a feature: uint8 [n, H, W, 3] -> float32 [n, H * W * 3] in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


# Name -> function of uint8 images [n, H, W, 3] that gives features float32 [n, D].
BASELINES = {"pixels": pixel_features, "hog": hog.extract}
