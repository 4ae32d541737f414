"""Brightness, contrast and blur against Pillow and scipy, and how often each is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from jax_mspac.methods import distortion
from jax_mspac.methods.augmentation import Augmentation, augment, normalize, sample_keys


def images(n=4, height=30, width=24):
    return np.random.default_rng(0).integers(0, 256, size=(n, height, width, 3)).astype(np.uint8)


def test_blur_is_scipy_s():
    deviations = np.float32([0.1, 0.8, 1.7, 3.0])
    x = images().astype(np.float32)
    found = jax.jit(distortion._blurred)(x, deviations)
    for image, blurred, deviation in zip(x, found, deviations.tolist(), strict=True):
        wanted = ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="mirror", radius=10)
        np.testing.assert_allclose(blurred, wanted, atol=2e-3)


def test_brightness_and_contrast_are_pillow_s_but_for_rounding():
    x, factors = images(), np.float32([0.7, 0.9, 1.15, 1.3])
    bright = jax.jit(distortion._brightened)(x.astype(np.float32), factors)
    contrasted = jax.jit(distortion._contrasted)(x.astype(np.float32), factors)
    for i, factor in enumerate(factors.tolist()):
        pixels = Image.fromarray(x[i])
        np.testing.assert_allclose(bright[i], ImageEnhance.Brightness(pixels).enhance(factor), atol=1)
        np.testing.assert_allclose(contrasted[i], ImageEnhance.Contrast(pixels).enhance(factor), atol=1.5)


def test_half_is_jittered_and_half_blurred_each_image_by_its_key():
    x = np.tile(images(1, 12, 12), (400, 1, 1, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    make = jax.jit(distortion.distorted, static_argnames=("probability", "strength", "blur"))
    found = make(x, keys, probability=0.8, strength=0.3, blur=(2.0, 3.0))
    changed = np.abs(found - x).max(axis=(1, 2, 3)) > 0
    assert abs(changed.mean() - 0.8) < 4 * np.sqrt(0.16 / 400)
    # A blur takes most of the noise away, no jitter does.
    blurred = found.std(axis=(1, 2, 3)) < 0.5 * x.std()
    assert abs(blurred[changed].mean() - 0.5) < 4 * np.sqrt(0.25 / changed.sum())
    means = found[changed & ~blurred].mean(axis=(1, 2, 3)) / x.mean()
    assert 0.68 < means.min() < 0.75 and 1.1 < means.max() < 1.32
    again = make(x[:10], keys[:10], probability=0.8, strength=0.3, blur=(2.0, 3.0))
    np.testing.assert_allclose(again, found[:10], atol=1e-3)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_infrared_images_alone_are_distorted(modality):
    x = images(2)
    switches = Augmentation(pad=0, flip=0.0, erasing=0.0, infrared_distortion=1.0)
    made = augment(x, sample_keys(0, 0, jnp.arange(2)), modality=modality, augmentation=switches)
    same = [np.allclose(a, b, atol=1e-4) for a, b in zip(made, normalize(x), strict=True)]
    assert same == [modality == "visible"] * 2
