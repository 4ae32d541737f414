import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.methods.augmentation import Augmentation, augment, normalize, sample_keys


def only(**switches):
    """The augmentation with these switches and no others."""
    return Augmentation(**{"pad": 0, "flip": 0.0, "erasing": 0.0, **switches})


COLORS = {"channel_exchange": 0.4, "random_gray": 0.3, "moderate_enhancement": 0.5, "radical_enhancement": 0.5}
ALL = only(pad=2, flip=0.5, erasing=0.5, **COLORS)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
augment = jax.jit(augment, static_argnames=("modality", "augmentation"))


def _images(n=8, height=12, width=6):
    return np.random.default_rng(0).integers(0, 256, size=(n, height, width, 3), dtype=np.uint8)


def _keys(n=8, step=3):
    return sample_keys(0, step, jnp.arange(n))


def _normalized(images):
    return ((images.astype(np.float64) / 255 - MEAN.reshape(1, 1, 1, 3)) / STD.reshape(1, 1, 1, 3)).astype(np.float32)


def _pixels(normalized):
    """Back to the scale of uint8."""
    return (np.asarray(normalized) * STD.reshape(1, 1, 1, 3) + MEAN.reshape(1, 1, 1, 3)) * 255


def _one(**switch):
    """Augments 1,000 small images without pixels of the mean color; returns input and output."""
    images = _images(1, 8, 4).repeat(1000, axis=0)
    return images, np.asarray(augment(images, _keys(1000), modality="visible", augmentation=only(**switch)))


def _assert_frequency(hits, probability):
    """Within four standard deviations of a binomial."""
    assert abs(np.mean(hits) - probability) <= 4 * np.sqrt(probability * (1 - probability) / len(hits))


def test_normalize_is_imagenets():
    images = _images()
    np.testing.assert_allclose(normalize(images), _normalized(images), atol=1e-5)
    np.testing.assert_array_equal(normalize(images), normalize(images.astype(np.float32)))


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_without_switches_only_normalizes(modality):
    images = _images()
    result = augment(images, _keys(), modality=modality, augmentation=only())
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, _normalized(images), atol=1e-5)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_result_depends_on_image_and_key_alone(modality):
    images, keys = _images(), _keys()
    whole = augment(images, keys, modality=modality, augmentation=ALL)
    order = np.random.default_rng(1).permutation(8)
    reordered = augment(images[order], keys[order], modality=modality, augmentation=ALL)
    np.testing.assert_allclose(reordered, whole[order], atol=1e-6)

    def step(images, slots):
        return augment(images, sample_keys(0, 3, slots), modality=modality, augmentation=ALL)

    shards = jax.pmap(step)(images.reshape(4, 2, 12, 6, 3), jnp.arange(8).reshape(4, 2))
    np.testing.assert_allclose(shards.reshape(whole.shape), whole, atol=1e-6)


def test_keys_differ_by_seed_step_and_slot():
    keys = [sample_keys(seed, step, jnp.arange(50)) for seed in (0, 1) for step in (0, 1, 2)]
    data = np.concatenate([jax.random.key_data(k) for k in keys])
    assert len(np.unique(data, axis=0)) == 300
    np.testing.assert_array_equal(jax.random.key_data(sample_keys(1, 2, jnp.array([7]))), data[-43:-42])


def test_modalities_with_the_same_slots_are_augmented_independently():
    images = _images(1, 8, 4).repeat(1000, axis=0)
    augmentation = only(flip=0.5)
    visible, infrared = (
        augment(images, _keys(1000), modality=m, augmentation=augmentation) for m in ("visible", "infrared")
    )
    _assert_frequency(np.all(visible == infrared, axis=(1, 2, 3)), 0.5)


def test_one_switch_does_not_change_what_another_does():
    images = _images()
    erased = augment(images, _keys(), modality="infrared", augmentation=only(erasing=1.0))
    both = augment(images, _keys(), modality="infrared", augmentation=only(erasing=1.0, flip=1.0))
    np.testing.assert_array_equal(both == 0, erased == 0)


def test_flip_mirrors_left_and_right_with_its_probability():
    images, result = _one(flip=0.3)
    expected = _normalized(images)
    flipped = np.all(np.isclose(result, expected[:, :, ::-1], atol=1e-5), axis=(1, 2, 3))
    kept = np.all(np.isclose(result, expected, atol=1e-5), axis=(1, 2, 3))
    assert np.all(flipped ^ kept)
    _assert_frequency(flipped, 0.3)


def test_crop_is_a_shifted_window_and_every_shift_is_as_likely():
    images, result = _one(pad=2)
    padded = np.pad(_normalized(images[:1])[0], ((2, 2), (2, 2), (0, 0)))
    windows = np.stack([padded[y : y + 8, x : x + 4] for y in range(5) for x in range(5)])
    matches = np.all(np.isclose(result[:, None], windows[None], atol=1e-5), axis=(2, 3, 4))
    np.testing.assert_array_equal(np.sum(matches, axis=1), 1)
    for shift in range(25):
        _assert_frequency(matches[:, shift], 1 / 25)


def test_crop_and_flip_fill_the_right_side():
    images = np.full((500, 8, 4, 3), 255, np.uint8)
    crop = augment(images, _keys(500), modality="infrared", augmentation=only(pad=2))
    both = augment(images, _keys(500), modality="infrared", augmentation=only(pad=2, flip=1.0))
    np.testing.assert_allclose(both, crop[:, :, ::-1])


@pytest.mark.parametrize("height, width", [(96, 48), (16, 64)])
def test_erased_rectangles_fit_and_keep_to_their_ranges(height, width):
    images = np.full((300, height, width, 3), 255, np.uint8)
    augmentation = only(erasing=0.5, erasing_area=(0.1, 0.3), erasing_aspect=(0.5, 2.0))
    erased = np.asarray(augment(images, _keys(300), modality="infrared", augmentation=augmentation)[..., 0] == 0)
    hit = np.any(erased, axis=(1, 2))
    _assert_frequency(hit, 0.5)

    tops = []
    for mask in erased[hit]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert np.all(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]), "a full rectangle"
        # Each side is rounded by half a pixel at most.
        low, high = (len(rows) - 0.5) * (len(columns) - 0.5), (len(rows) + 0.5) * (len(columns) + 0.5)
        assert low <= 0.3 * height * width and high >= 0.1 * height * width
        if height > width:
            low = (len(rows) - 0.5) / (len(columns) + 0.5)
            high = (len(rows) + 0.5) / (len(columns) - 0.5)
            assert low <= 2.0 and high >= 0.5
        tops.append(rows[0] / max(height - len(rows), 1))
    # The position is uniform between the two borders.
    assert min(tops) < 0.1 and max(tops) > 0.9 and abs(np.mean(tops) - 0.5) < 4 / np.sqrt(12 * len(tops)) + 0.5 / height


def test_rectangles_follow_the_law_of_the_original():
    # The original: area and aspect uniform, drawn anew until the rectangle fits.
    height, width, count = 96, 48, 2000
    images = np.full((count, height, width, 3), 255, np.uint8)
    erased = np.asarray(augment(images, _keys(count), modality="infrared", augmentation=only(erasing=1.0))[..., 0] == 0)
    found = np.stack([erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)], axis=1)
    rng, drawn = np.random.default_rng(0), []
    while len(drawn) < count:
        area, aspect = rng.uniform(0.02, 0.4) * height * width, rng.uniform(0.3, 1 / 0.3)
        size = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if size[0] < height and size[1] < width:
            drawn.append(size)
    for one, other in zip(found.T, np.array(drawn).T, strict=True):
        deviation = np.hypot(one.std(), other.std()) / np.sqrt(count)
        assert abs(one.mean() - other.mean()) < 4 * deviation
        np.testing.assert_allclose(np.quantile(one, [0.1, 0.5, 0.9]), np.quantile(other, [0.1, 0.5, 0.9]), atol=3)


@pytest.mark.parametrize(("name", "value"), [("black", 0), ("gray", 127)])
def test_a_border_may_be_black_or_gray(name, value):
    images = _images()
    mean, filled = (
        np.asarray(augment(images, _keys(), modality="infrared", augmentation=only(pad=3, border=border)))
        for border in ("mean", name)
    )
    border = np.all(mean == 0, axis=-1)
    np.testing.assert_array_equal(mean[~border], filled[~border])
    expected = np.broadcast_to((value / 255 - MEAN) / STD, filled[border].shape)
    np.testing.assert_allclose(filled[border], expected, atol=1e-5)


# The shares of each channel, of gray, and of images that stay as they are. For infrared images: those of CAJ's code
# (7/8), of CAJ+'s (0.9), and a probability that leaves none for gray.
@pytest.mark.parametrize(
    ("modality", "switches", "shares"),
    [
        ("visible", {"channel_exchange": 1.0, "exchange_normalized": True}, (1 / 3, 0, 0)),
        ("infrared", {"infrared_exchange": 7 / 8}, (1 / 4, 1 / 8, 1 / 8)),
        ("infrared", {"infrared_exchange": 0.9}, (1 / 4, 0.15, 0.1)),
        ("infrared", {"infrared_exchange": 0.6}, (0.2, 0, 0.4)),
    ],
)
def test_channels_may_be_exchanged_after_normalization(modality, switches, shares):
    images = _images(1, 8, 4).repeat(1000, axis=0)
    normalized = _normalized(images)
    result = np.asarray(augment(images, _keys(1000), modality=modality, augmentation=only(**switches)))
    gray = np.sum(normalized * np.array([0.299, 0.587, 0.114]).reshape(1, 1, 1, 3), axis=-1, keepdims=True)
    kinds = [normalized[..., c : c + 1] for c in range(3)] + [gray, normalized]
    for kind, share in zip(kinds, (*[shares[0]] * 3, *shares[1:]), strict=True):
        _assert_frequency(np.all(np.abs(result - kind) < 1e-5, axis=(1, 2, 3)), share)


def test_gray_comes_before_normalization_where_exchanged_channels_come_after():
    images, result = _one(channel_exchange=0.5, random_gray=0.5, exchange_normalized=True)
    pixels, normalized = _pixels(result), _normalized(images)
    luma = np.sum(images * np.array([0.299, 0.587, 0.114]).reshape(1, 1, 1, 3), axis=-1, keepdims=True)
    _assert_frequency(np.all(np.abs(pixels - luma) < 0.01, axis=(1, 2, 3)), 0.25)
    for channel in range(3):
        equal = np.abs(result - normalized[..., channel : channel + 1]) < 1e-5
        _assert_frequency(np.all(equal, axis=(1, 2, 3)), 1 / 6)


def test_infrared_images_may_be_erased_less_often():
    images = _images(1, 8, 4).repeat(1000, axis=0)
    for modality, share in (("visible", 0.6), ("infrared", 0.5)):
        augmentation = only(erasing=0.6, infrared_erasing_factor=5 / 6)
        result = np.asarray(augment(images, _keys(1000), modality=modality, augmentation=augmentation))
        _assert_frequency(np.any(np.all(result == 0, axis=-1), axis=(1, 2)), share)


def test_erasing_fills_with_the_mean_and_leaves_the_rest():
    images, result = _one(erasing=1.0)
    erased = np.all(result == 0, axis=-1, keepdims=True)
    assert np.all(np.any(erased, axis=(1, 2, 3)))
    np.testing.assert_allclose(result, np.where(erased, 0.0, _normalized(images)), atol=1e-5)


def test_channel_exchange_replicates_each_channel_equally_often():
    images, result = _one(channel_exchange=0.6)
    pixels = _pixels(result)
    hits = np.stack([np.all(np.abs(pixels - images[..., c : c + 1]) < 0.01, axis=(1, 2, 3)) for c in range(3)])
    untouched = np.all(np.abs(pixels - images) < 0.01, axis=(1, 2, 3))
    np.testing.assert_array_equal(np.sum(hits, axis=0) + untouched, 1)
    for channel in hits:
        _assert_frequency(channel, 0.2)


def test_gray_is_the_luma():
    images, result = _one(random_gray=0.25)
    pixels = _pixels(result)
    luma = np.sum(images * np.array([0.299, 0.587, 0.114]).reshape(1, 1, 1, 3), axis=-1, keepdims=True)
    gray = np.all(np.abs(pixels - luma) < 0.01, axis=(1, 2, 3))
    np.testing.assert_allclose(pixels[~gray], images[~gray], atol=0.01)
    _assert_frequency(gray, 0.25)


def test_an_exchanged_channel_is_not_turned_gray():
    images, result = _one(channel_exchange=1.0, random_gray=1.0)
    closest = np.min(np.abs(_pixels(result)[..., :1] - images), axis=-1)
    assert np.max(closest) < 0.01


def test_color_switches_leave_infrared_alone():
    images, augmentation = _images(), only(channel_exchange=1.0, random_gray=1.0)
    result = augment(images, _keys(), modality="infrared", augmentation=augmentation)
    np.testing.assert_allclose(result, _normalized(images), atol=1e-5)


@pytest.mark.parametrize(
    "name, value",
    [
        ("pad", -1),
        ("flip", 1.5),
        ("erasing", -0.1),
        ("channel_exchange", float("nan")),
        ("random_gray", 2),
        ("erasing_area", (0.0, 0.4)),
        ("erasing_area", (0.4, 1.1)),
        ("erasing_aspect", (2.0, 0.5)),
        ("moderate_enhancement", 1.5),
        ("radical_enhancement", -0.5),
        ("moderate_beta", 0.0),
        ("radical_beta", 1.5),
        ("radical_darkest", 1.0),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} is .*; expected"):
        dataclasses.replace(ALL, **{name: value})
