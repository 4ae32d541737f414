"""Random linear enhancement against the law of RLE's public code and what follows from its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jax_mspac.methods import linear_enhancement
from jax_mspac.methods.augmentation import Augmentation, augment, sample_keys

HEIGHT, WIDTH = 96, 48
# 40,000 draws of each kind by the classes of github.com/stone96123/RLE at c3245b3 (`random_erasing.py`; shapes 0.3 and
# 0.4, least factor 0.1, probability 1): the mean, and the 10, 25, 50, 75 and 90 % quantiles.
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
WEIGHT = (0.33333, [0.00426, 0.07505, 0.33414, 0.49278, 0.71614])
LARGEST_WEIGHT, SQUARED_WEIGHT = 0.62139, 0.18248
RADICAL = {
    "visible": {
        "changed": (0.30512, [0.09115, 0.18424, 0.30773, 0.40413, 0.51454]),
        "brighter": (0.08549, [0.0, 0.01440, 0.07234, 0.12782, 0.19929]),
        "red": (0.23695, [0.17961, 0.20731, 0.24130, 0.26930, 0.28644]),
        "green of the upper half": (0.14224, [0.09195, 0.11635, 0.14779, 0.16146, 0.18459]),
        "red - green": (0.18711, [0.14830, 0.17000, 0.18955, 0.20607, 0.22176]),
        "least factor": (0.02503, [0.00019, 0.00208, 0.01295, 0.04161, 0.07210]),
    },
    "infrared": {
        "changed": (0.33007, [0.10612, 0.20725, 0.33247, 0.44293, 0.54839]),
        "brighter": (0.14961, [0.02257, 0.07031, 0.13386, 0.21962, 0.28776]),
        "red": (0.13771, [0.09480, 0.11207, 0.13419, 0.16211, 0.18525]),
        "green of the upper half": (0.08826, [0.04962, 0.06460, 0.07992, 0.10653, 0.13611]),
        "red - green": (0.04908, [0.00635, 0.01975, 0.04427, 0.07341, 0.09852]),
        "least factor": (0.02567, [0.00021, 0.00214, 0.01371, 0.04302, 0.07298]),
    },
}


def pixels(modality):
    """Noise that grows brighter downward; infrared has one channel three times, at half the brightness."""
    noise = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3))
    image = (noise * np.linspace(0.1, 1, HEIGHT)[:, None, None]).astype(np.uint8)
    return np.repeat(image[..., :1] // 2, 3, axis=-1) if modality == "infrared" else image


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


_moderate = jax.jit(linear_enhancement.moderate, static_argnames=("beta",))
_radical = jax.jit(linear_enhancement.radical, static_argnames=("beta",))
augment = jax.jit(augment, static_argnames=("modality", "augmentation"))


def moderate(images, **changes):
    return np.asarray(_moderate(images, keys(len(images)), **{"probability": 1.0, "beta": 0.3, **changes}))


def radical(images, **changes):
    options = {"probability": 1.0, "beta": 0.4, "darkest": 0.1, **changes}
    return np.asarray(_radical(images, keys(len(images)), **options))


def assert_same_law(sample, mean, quantiles, name=""):
    """The mean within 4 standard errors of both samples; below each quantile about as many as there."""
    error = np.std(sample) * np.sqrt(1 / len(sample) + 1 / 40_000)
    assert abs(np.mean(sample) - mean) < 4 * error + 1e-5, (name, np.mean(sample), mean)
    for share, quantile in zip(QUANTILES, quantiles, strict=True):
        # Rounding of the printed quantiles moves none across; ties are counted on either side.
        below, most = np.mean(sample < quantile - 1e-5), np.mean(sample <= quantile + 1e-5)
        slack = 4 * np.sqrt(share * (1 - share) * (1 / len(sample) + 1 / 40_000))
        assert below - slack <= share <= most + slack, (name, share, below, most)


def test_moderate_weights_follow_the_law_of_the_original():
    # A pixel of each primary color shows the three weights.
    primaries = np.broadcast_to(np.eye(3, dtype=np.float32), (8000, 1, 3, 3))
    result = moderate(primaries)
    np.testing.assert_array_equal(result, np.repeat(result[..., :1], 3, axis=-1))
    weights = result[:, 0, :, 0]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    for channel in weights.T:
        assert_same_law(channel, *WEIGHT)
    for statistic, mean in ((weights.max(axis=1), LARGEST_WEIGHT), ((weights**2).mean(axis=1), SQUARED_WEIGHT)):
        assert abs(statistic.mean() - mean) < 4 * statistic.std() / np.sqrt(len(weights))


@pytest.mark.parametrize("modality", RADICAL)
def test_radical_changes_follow_the_law_of_the_original(modality):
    image = pixels(modality).astype(np.float32)
    before = image / 255
    after = radical(np.broadcast_to(image, (1500, *image.shape))) / np.float32(255)
    ratio = np.where(before > 0, after / np.maximum(before, np.float32(1e-9)), np.float32(1))
    found = {
        "changed": np.mean(np.any(np.abs(after - before) > 1e-6, axis=-1), axis=(1, 2)),
        "brighter": np.mean(ratio > 1.0001, axis=(1, 2, 3)),
        "red": np.mean(after[..., 0], axis=(1, 2)),
        "green of the upper half": np.mean(after[:, : HEIGHT // 2, :, 1], axis=(1, 2)),
        "red - green": np.mean(np.abs(after[..., 0] - after[..., 1]), axis=(1, 2)),
        "least factor": np.min(ratio, axis=(1, 2, 3)),
    }
    for name, sample in found.items():
        assert_same_law(sample, *RADICAL[modality][name], name)


def test_moderate_leaves_infrared_as_it_is_and_radical_gives_it_colors():
    images = np.broadcast_to(pixels("infrared").astype(np.float32), (50, HEIGHT, WIDTH, 3))
    np.testing.assert_allclose(moderate(images), images, rtol=1e-5)
    result = radical(images)
    changed = np.any(result != images, axis=(1, 2, 3))
    assert np.all(changed) and np.all(np.any(result[..., 0] != result[..., 1], axis=(1, 2)))
    assert result.min() >= 0 and result.max() <= 255


@pytest.mark.parametrize("enhance", [moderate, radical])
def test_as_many_images_change_as_the_probability_says(enhance):
    images = np.broadcast_to(pixels("visible")[::4, ::4].astype(np.float32), (2000, HEIGHT // 4, WIDTH // 4, 3))
    result = enhance(images, probability=0.3)
    changed = np.any(result != images, axis=(1, 2, 3))
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.21 / 2000)
    np.testing.assert_array_equal(enhance(images[:50], probability=0.0), images[:50])


def test_a_channel_that_is_black_stays_black():
    images = np.zeros((16, HEIGHT, WIDTH, 3), np.float32)
    np.testing.assert_array_equal(radical(images), images)
    images[..., 1] = 200
    result = radical(images)
    np.testing.assert_array_equal(result[..., [0, 2]], 0)
    assert np.isfinite(result).all() and np.all(np.any(result != images, axis=(1, 2, 3)))


def test_rectangles_are_added_until_one_is_dark_enough():
    images = np.full((100, HEIGHT, WIDTH, 3), 255, np.float32)
    for darkest in (0.5, 0.1):
        least = radical(images, darkest=darkest).min(axis=(1, 2, 3)) / 255
        assert np.all(least < darkest)
    # A least factor of nearly 1 is reached by the first rectangle that fits, whose shape is then to be seen.
    one = np.any(radical(images, darkest=0.999) != images, axis=-1)
    for mask in one:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert np.all(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        assert 0.015 < mask.mean() < 0.42


@pytest.mark.parametrize("shape", [0.02, 0.3, 1.0])
def test_draws_follow_the_beta_distribution(shape):
    count = 20_000
    logs = np.asarray(jax.jit(linear_enhancement.log_beta, static_argnums=(1, 2))(jax.random.key(2), shape, (count,)))
    assert np.isfinite(logs).all() and logs.max() <= 0
    for point in (0.001, 0.1, 0.5, 0.8):
        share = scipy.stats.beta.cdf(point, shape, shape)
        found = np.mean(logs < np.log(point))
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / count), (point, found, share)


def test_switches_act_before_normalization_and_by_keys_of_their_own():
    images, image_keys = np.stack([pixels("visible")] * 100), sample_keys(0, 3, jnp.arange(100))

    def augmented(**switches):
        augmentation = Augmentation(pad=0, flip=0.0, erasing=0.0, **switches)
        return np.asarray(augment(images, image_keys, modality="visible", augmentation=augmentation))

    plain, both = augmented(), augmented(moderate_enhancement=0.5, radical_enhancement=0.5)
    moderate, radical = augmented(moderate_enhancement=0.5), augmented(radical_enhancement=0.5)
    mixed, scaled, either = (np.abs(x - plain).max(axis=(1, 2, 3)) > 0.01 for x in (moderate, radical, both))
    np.testing.assert_array_equal(either, mixed | scaled)
    assert np.any(mixed & ~scaled) and np.any(mixed & scaled) and np.any(~mixed & scaled)
    np.testing.assert_allclose(both[mixed & ~scaled], moderate[mixed & ~scaled], atol=1e-4)
    np.testing.assert_allclose(both[scaled & ~mixed], radical[scaled & ~mixed], atol=1e-4)
    # A gray image in [0, 255] has three normalized values that differ by the channels' means and deviations.
    gray = moderate[mixed] * np.array([0.229, 0.224, 0.225]) + np.array([0.485, 0.456, 0.406])
    np.testing.assert_allclose(gray, gray[..., :1].repeat(3, axis=-1), atol=1e-5)
