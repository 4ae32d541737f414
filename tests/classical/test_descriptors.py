"""Descriptors made by hand, against histograms known by hand and a plain transcription."""

import colorsys

import numpy as np
import pytest
import skimage.feature

from jax_mspac.classical import FEATURES, hog, lomo
from jax_mspac.errors import UserError

RED, BLUE = (255, 0, 0), (0, 0, 255)
RED_BIN, BLUE_BIN = (7 * 8 + 7) * 8 + 0, (7 * 8 + 7) * 8 + 5  # value, saturation, hue: 0 and 2/3 of 8 bins


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def plain_lomo(image):
    """LOMO of one image, pixel by pixel and block by block; colors are binned by the module, see their own test."""
    image = image.astype(np.float32) / 255
    parts = [[], [], []]
    for scale in range(3):
        if scale:
            height, width = image.shape[0] // 2, image.shape[1] // 2
            blocks = [[image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] for x in range(width)] for y in range(height)]
            image = np.array([[(b[0, 0] + b[0, 1] + b[1, 0] + b[1, 1]) / 4 for b in row] for row in blocks])
        height, width = image.shape[:2]
        gray = np.array([[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in image])
        maps = [(lomo.color_codes(image[None])[0], 512)]
        for radius in (3, 5):
            codes = np.zeros((height, width), int)
            for y in range(height):
                for x in range(width):
                    for dy, dx in ((0, 1), (-1, 0), (0, -1), (1, 0)):
                        ny = min(max(y + radius * dy, 0), height - 1)
                        nx = min(max(x + radius * dx, 0), width - 1)
                        digit = 1 if gray[ny, nx] > 1.3 * gray[y, x] else 2 if gray[ny, nx] < 0.7 * gray[y, x] else 0
                        codes[y, x] = 3 * codes[y, x] + digit
            maps.append((codes, 81))
        for part, (codes, bins) in zip(parts, maps, strict=True):
            for top in range(0, height - 9, 5):
                row = [codes[top : top + 10, left : left + 10] for left in range(0, width - 9, 5)]
                part.append(np.max([np.bincount(block.ravel(), minlength=bins) for block in row], axis=0))
    logs = [np.log(1 + np.concatenate(part)) for part in parts]
    return np.concatenate([log / np.sqrt(np.sum(log**2)) for log in logs])


def test_lomo_is_its_plain_transcription():
    images = random_images(2, 53, 47)
    images[1] = images[1] // 4 + 90  # where neighbors differ by less than the tolerance
    features = lomo.extract(images)
    assert features.shape == (2, lomo.dim(53, 47))
    for image, row in zip(images, features, strict=True):
        np.testing.assert_allclose(row, plain_lomo(image), atol=1e-6)


def test_lomo_of_one_color():
    image = np.full((1, 128, 48, 3), RED, np.uint8)
    (feature,) = lomo.extract(image)
    assert feature.shape == (26960,) == (lomo.dim(128, 48),)
    assert feature.dtype == np.float32
    colors, near, far = np.split(feature, [512 * 40, 512 * 40 + 81 * 40])
    for part, bins, full in ((colors, 512, RED_BIN), (near, 81, 0), (far, 81, 0)):
        expected = np.zeros((40, bins))
        expected[:, full] = 1 / np.sqrt(40)  # each of 40 stripes of blocks holds one code alone
        np.testing.assert_allclose(part.reshape(40, bins), expected, atol=1e-7)


def test_lomo_keeps_the_most_of_each_color_in_a_stripe():
    image = np.full((1, 128, 48, 3), RED, np.uint8)
    image[:, :, 24:] = BLUE
    colors = lomo.extract(image)[0, : 512 * 40].reshape(40, 512)
    # Blocks begin at columns 0, 5, 10, ...; the border is at 24 of 48, 12 of 24 and 6 of 12 columns.
    counts = {RED_BIN: (100, 100, 60), BLUE_BIN: (100, 80, 40)}
    expected = np.zeros((40, 512))
    for scale, rows in enumerate((slice(0, 24), slice(24, 35), slice(35, 40))):
        for code, count in counts.items():
            expected[rows, code] = np.log(1 + count[scale])
    np.testing.assert_allclose(colors, expected / np.linalg.norm(expected), atol=1e-6)


def test_siltp_of_a_step_edge():
    gray = np.full((1, 12, 12), 0.2, np.float32)
    gray[:, :, 6:] = 0.8
    codes = lomo.siltp_codes(gray, 3)
    expected = np.zeros((12, 12), int)
    expected[:, 3:6] = 27  # the right neighbor, the first of four digits, is brighter
    expected[:, 6:9] = 2 * 3  # the left one, the third, is darker
    np.testing.assert_array_equal(codes[0], expected)
    np.testing.assert_array_equal(lomo.siltp_codes(gray.swapaxes(1, 2), 3)[0].T[:, [5, 6]], [[1, 2 * 9]] * 12)


def test_siltp_of_black_finds_nothing_darker():
    assert not lomo.siltp_codes(np.zeros((1, 9, 9), np.float32), 3).any()


def test_siltp_ignores_the_scale_of_the_light():
    gray = np.random.default_rng(0).random((2, 20, 15), dtype=np.float32)
    for factor in (0.25, 0.5):
        np.testing.assert_array_equal(lomo.siltp_codes(gray, 5), lomo.siltp_codes(factor * gray, 5))


def test_colors_are_binned_as_by_colorsys():
    pixels = np.random.default_rng(0).random((1, 50, 40, 3)).astype(np.float32)
    codes = lomo.color_codes(pixels)[0].ravel()
    scaled = 8 * np.array([colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in pixels.reshape(-1, 3)])
    clear = np.all(np.abs(scaled - np.round(scaled)) > 1e-4, axis=1)  # rounding cannot change the bin
    assert clear.mean() > 0.9
    hue, saturation, value = np.floor(scaled).astype(int).T
    np.testing.assert_array_equal(codes[clear], ((value * 8 + saturation) * 8 + hue)[clear])
    white = lomo.color_codes(np.ones((1, 1, 1, 3), np.float32))
    assert white.item() == (7 * 8 + 0) * 8 + 0


def test_lomo_is_blind_to_a_shift_by_a_step_inside_a_stripe():
    image = np.full((1, 40, 60, 3), 128, np.uint8)
    moved = image.copy()
    patch = random_images(40, 10)
    image[0, :, 20:30], moved[0, :, 25:35] = patch, patch
    stripes = [lomo.row_maxima(lomo.color_codes(x.astype(np.float32) / 255), 512) for x in (image, moved)]
    np.testing.assert_array_equal(*stripes)


@pytest.mark.parametrize("name", FEATURES)
def test_images_do_not_depend_on_their_batch(name):
    images = random_images(lomo.BATCH + 3, 40, 40)
    features = FEATURES[name].extract(images)
    assert features.shape == (len(images), FEATURES[name].dim(40, 40))
    for index in (0, lomo.BATCH - 1, lomo.BATCH, lomo.BATCH + 2):
        np.testing.assert_array_equal(FEATURES[name].extract(images[index : index + 1])[0], features[index])
    assert FEATURES[name].extract(images[:0]).shape == (0, FEATURES[name].dim(40, 40))


def test_hog_is_scikit_image_on_the_gray_image_and_the_floor():
    images = random_images(3, 33, 27)
    features = hog.extract(images)
    expected = [
        skimage.feature.hog(image.mean(axis=2), orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
        for image in images
    ]
    np.testing.assert_allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize(("name", "height", "width"), [("lomo", 39, 48), ("lomo", 128, 39), ("hog", 15, 48)])
def test_small_images_are_refused(name, height, width):
    least = {"lomo": 40, "hog": 16}[name]
    with pytest.raises(UserError, match=f"at least {least} x {least} pixels, these are {height} x {width}"):
        FEATURES[name].extract(random_images(1, height, width))
    assert FEATURES[name].extract(random_images(1, max(height, least), max(width, least))).shape[1] > 0
