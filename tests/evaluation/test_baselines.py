"""Features without learning."""

import numpy as np

from jax_mspac.evaluation import baselines


def test_random_features_are_seeded():
    np.testing.assert_array_equal(baselines.random_features(3, seed=1), baselines.random_features(3, seed=1))
    assert not np.array_equal(baselines.random_features(3, seed=1), baselines.random_features(3, seed=2))


def test_pixels_are_the_image():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 2, 3), np.uint8)
    features = baselines.pixel_features(images)
    np.testing.assert_allclose(features.reshape(images.shape) * 255, images, atol=1e-4)


def test_hog_sees_edges_and_neither_color_nor_brightness():
    stripes = np.zeros((32, 16, 3), np.uint8)
    stripes[::4] = 100
    brighter, turned = stripes // 2 + 60, np.repeat(np.swapaxes(stripes[:16], 0, 1), 2, axis=0)
    red = np.zeros_like(stripes)
    red[..., 0] = stripes[..., 0]
    plain, bright, colored, other = baselines.BASELINES["hog"](np.stack([stripes, brighter, red, turned]))
    np.testing.assert_allclose(bright, plain, atol=0.02)
    np.testing.assert_allclose(colored, plain, atol=0.02)
    assert np.abs(other - plain).max() > 0.1
