"""Image files of every kind read alike, and broken ones are named."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jax_mspac.data import images
from jax_mspac.errors import UserError

ROTATE_CLOCKWISE = 6


def gradient(height=6, width=4):
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, 255 - red], axis=-1).astype(np.uint8)


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif_rotation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_rgb_is_read_exactly_from_path_and_bytes(tmp_path):
    pixels = gradient()
    (tmp_path / "a.PNG").write_bytes(images.encode_png(pixels))
    for source in (tmp_path / "a.PNG", str(tmp_path / "a.PNG"), images.encode_png(pixels)):
        read = images.read_rgb(source)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_gray_becomes_three_equal_channels(mode):
    samples = np.where(np.arange(12).reshape(4, 3) % 2, 255, 0).astype(np.uint8)
    read = images.read_rgb(encode(Image.fromarray(samples).convert(mode), "PNG"))
    np.testing.assert_array_equal(read, np.repeat(samples[..., None], 3, -1))


def test_palette_and_cmyk_give_their_colors():
    red = np.full((2, 3, 3), (255, 0, 0), np.uint8)
    np.testing.assert_array_equal(images.read_rgb(encode(Image.fromarray(red).convert("P"), "PNG")), red)
    cmyk = Image.new("CMYK", (3, 2), (0, 255, 255, 0))
    np.testing.assert_array_equal(images.read_rgb(encode(cmyk, "TIFF")), red)
    np.testing.assert_allclose(images.read_rgb(encode(cmyk, "JPEG", quality=100)), red, atol=3)


def test_sixteen_bits_keep_their_brightness_in_every_container():
    samples = np.array([[0, 257, 25700], [32896, 65278, 65535]], np.uint16)
    expected = np.repeat(np.array([[0, 1, 100], [128, 254, 255]], np.uint8)[..., None], 3, -1)
    for form in ("PNG", "TIFF", "PPM"):
        read = images.read_rgb(encode(Image.fromarray(samples), form), (0, 65535))
        np.testing.assert_array_equal(read, expected)


def test_sixteen_bits_fill_the_range_from_the_percentiles_of_the_image(tmp_path):
    """Counts of a thermal camera: 256 steps of 6 among 65,536, and two broken pixels."""
    samples = np.repeat(29500 + 6 * np.arange(256), 20).astype(np.uint16).reshape(64, 80)
    samples[0, 0], samples[-1, -1] = 0, 65535
    low, high = np.percentile(samples, 0.1), np.percentile(samples, 99.9)
    expected = np.rint(np.clip((samples - low) / (high - low), 0, 1) * 255)
    read = images.read_rgb(encode(Image.fromarray(samples), "PNG"))
    np.testing.assert_array_equal(read[..., 0], expected)
    assert np.unique(read).size == 256
    (tmp_path / "thermal.png").write_bytes(encode(Image.fromarray(samples), "PNG"))
    stored = images.stored_bytes(tmp_path / "thermal.png", (29500, 30520))
    np.testing.assert_array_equal(images.read_rgb(stored)[..., 0], np.rint(np.clip((samples - 29500.0) / 4, 0, 255)))
    flat = images.read_rgb(encode(Image.fromarray(np.full((4, 4), 30000, np.uint16)), "PNG"))
    assert np.unique(flat).size == 1


@pytest.mark.parametrize("text", ["1", "a,b", "5,5", "0,70000", "-1,5"])
def test_impossible_ranges_are_named(text):
    with pytest.raises(UserError, match=r"config.data.range_16_bit is .*expected LOW,HIGH"):
        images.parsed_range(text)


def test_transparent_pixels_show_white_whatever_lies_under_them():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [(10, 20, 30, 255), (10, 20, 30, 0), (0, 0, 0, 51)]
    expected = np.array([[(10, 20, 30), (255, 255, 255), (204, 204, 204)]], np.uint8)
    np.testing.assert_array_equal(images.read_rgb(encode(Image.fromarray(rgba), "PNG")), expected)


def test_rotation_of_the_camera_is_undone():
    pixels = gradient()
    data = encode(Image.fromarray(pixels), "PNG", exif=exif_rotation(ROTATE_CLOCKWISE))
    np.testing.assert_array_equal(images.read_rgb(data), np.rot90(pixels, -1))


def test_one_pixel_and_the_first_frame_of_an_animation():
    assert images.read_rgb(encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]
    frames = [Image.new("RGB", (2, 2), color) for color in ((255, 0, 0), (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.read_rgb(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not a known image format"),
        (encode(Image.fromarray(gradient(64, 64)), "JPEG")[:-40], "truncated"),
        (encode(Image.fromarray(gradient(64, 64)), "PNG")[:-40], "cannot be read"),
        (encode(Image.fromarray(gradient().astype(np.float32)[..., 0]), "TIFF"), "convert it to 8 or 16 bits"),
        (encode(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"), "convert it to 8 or 16 bits"),
    ],
)
def test_broken_files_are_named(tmp_path, data, reason):
    file = tmp_path / "person.jpg"
    file.write_bytes(data)
    for read in (images.read_rgb, images.stored_bytes):
        with pytest.raises(UserError, match=reason) as caught:
            read(file)
        assert str(file) in str(caught.value)


def test_every_cut_of_a_file_is_refused_or_stored_so_that_tensorflow_decodes_it(tmp_path):
    file = tmp_path / "cut"
    for form in ("JPEG", "PNG"):
        whole = encode(Image.fromarray(gradient(8, 8)), form)
        refused = 0
        for length in (*range(0, len(whole) - 16, 7), *range(len(whole) - 16, len(whole))):
            file.write_bytes(whole[:length])
            try:
                stored = images.stored_bytes(file)
            except UserError:
                refused += 1
            else:
                np.testing.assert_array_equal(decode_with_tensorflow(stored), images.read_rgb(whole))
        assert refused > 10


def test_a_damaged_checksum_is_found(tmp_path):
    data = bytearray(images.encode_png(gradient(32, 32)))
    data[data.index(b"IEND") - 5] ^= 255  # the pixels stay whole, and TensorFlow refuses them all the same
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.png"):
        images.stored_bytes(tmp_path / "a.png")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nobody\.png: cannot be read \(No such file"):
        images.read_rgb(tmp_path / "nobody.png")


def test_a_hundred_megapixels_are_read_and_stored_as_they_are(tmp_path):
    pixels = np.zeros((10_000, 10_000), np.uint8)
    pixels[5_000:, 2_500:] = 200
    (tmp_path / "large.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))
    read = images.read_rgb(tmp_path / "large.png")
    assert read.shape == (10_000, 10_000, 3)
    np.testing.assert_array_equal(read[::1_000, ::1_000, 1], pixels[::1_000, ::1_000])
    stored = images.stored_bytes(tmp_path / "large.png")
    assert stored == (tmp_path / "large.png").read_bytes()
    # What training reads.
    decoded = tf.io.decode_jpeg(stored, channels=3)
    np.testing.assert_array_equal(decoded[::1_000, ::1_000, 2].numpy(), pixels[::1_000, ::1_000])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [13_400, 19_000])  # PIL warns of the first and refuses the second
def test_enormous_images_are_refused(side):
    with pytest.raises(UserError, match="pixels"):
        images.read_rgb(encode(Image.new("1", (side, side)), "PNG"))


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "JPEG", {}),
        ("L", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("RGB", "JPEG", {"exif": exif_rotation(1)}),
    ],
)
def test_plain_files_are_stored_byte_for_byte(tmp_path, mode, form, options):
    data = encode(Image.fromarray(gradient(16, 16)).convert(mode), form, **options)
    (tmp_path / "a").write_bytes(data)
    assert images.stored_bytes(tmp_path / "a") == data
    np.testing.assert_allclose(decode_with_tensorflow(data).astype(int), images.read_rgb(data), atol=1)


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("CMYK", "JPEG", {}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("I;16", "PNG", {}),
        ("RGB", "BMP", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "JPEG", {"exif": exif_rotation(ROTATE_CLOCKWISE)}),
        ("RGB", "PNG", {"transparency": (0, 0, 255)}),
        ("RGB", "PNG", {"exif": exif_rotation(ROTATE_CLOCKWISE)}),
    ],
)
def test_other_files_are_stored_without_loss(tmp_path, mode, form, options):
    image = Image.fromarray(gradient(16, 12))
    image = Image.fromarray(gradient(16, 12)[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    (tmp_path / "a").write_bytes(encode(image, form, **options))
    stored = images.stored_bytes(tmp_path / "a")
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_with_tensorflow(stored), images.read_rgb(tmp_path / "a"))


def test_resize_takes_height_before_width_and_keeps_a_flat_image_flat():
    image = np.full((10, 20, 3), (7, 99, 200), np.uint8)
    np.testing.assert_array_equal(images.resize(image, 30, 5), np.full((30, 5, 3), (7, 99, 200), np.uint8))
    assert images.resize(image[:1, :1], 3, 2).shape == (3, 2, 3)


@pytest.mark.parametrize("differs", [None, (30, 0), (0, 1), (14, 1), (30, 2)])  # row and channel; 30 is the middle row
def test_resize_of_a_gray_image_is_that_of_its_channels_among_others(differs):
    rng = np.random.default_rng(6)
    gray, color = rng.integers(0, 256, (61, 37)).astype(np.uint8), rng.integers(0, 256, (61, 37)).astype(np.uint8)
    channels = [gray, gray, gray]
    if differs:  # in a single pixel: no gray image
        row, channel = differs
        channels[channel] = gray.copy()
        channels[channel][row, 20] ^= 255
    resized = images.resize(np.stack(channels, axis=2), 96, 24)
    assert resized.flags.c_contiguous
    for place, channel in enumerate(channels):
        among_others = images.resize(np.stack([color, channel, 255 - color], axis=2), 96, 24)
        np.testing.assert_array_equal(resized[..., place], among_others[..., 1])


def decode_with_tensorflow(data):
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()


@pytest.mark.parametrize("size", [(24, 12), (61, 37), (96, 48), (140, 75)])
def test_resize_is_the_lanczos_filter_of_tensorflow(size):
    image = np.random.default_rng(5).integers(0, 256, (61, 37, 3)).astype(np.uint8)
    expected = tf.image.resize(image.astype(np.float32), size, method="lanczos3", antialias=True)
    expected = np.clip(np.round(expected), 0, 255).astype(int)
    resized = images.resize(image, *size)
    # Only what lies halfway between two levels may fall on either side.
    assert resized.dtype == np.uint8 and resized.flags.c_contiguous
    assert np.abs(resized - expected).max() <= 1 and (resized != expected).mean() < 0.002
