"""Images of every kind in a set: what is stored of those that can be read, and what becomes of the others."""

import io

import numpy as np
import pytest
import tensorflow as tf
from helpers import damage, sets
from helpers.sets import load_split
from helpers.trees import draw_folder_tree
from PIL import Image

from jax_mspac import prepare
from jax_mspac.data import preparation
from jax_mspac.errors import UserError

BROKEN = {"rgb/anna/empty.png": b"", "rgb/ben/text.jpg": b"no image", "ir/carl/cut.png": None}


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(height=40, width=24):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([6 * rows, 10 * columns, 3 * (rows + columns)], axis=-1).astype(np.uint8)


def odd_images():
    """File name -> bytes and the pixels that must be stored."""
    pixels = gradient()
    gray = pixels[..., 0]
    rgb = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(0)
    cmyk = rgb.convert("CMYK")
    repeated = np.repeat(gray[..., None], 3, axis=-1)
    low, high = np.percentile(gray, (0.1, 99.9))
    stretched = np.rint((repeated - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return {
        "gray.png": (encoded(Image.fromarray(gray), "PNG"), repeated),
        "sixteen.png": (encoded(deep, "PNG"), stretched),
        "sixteen.tif": (encoded(deep, "TIFF"), stretched),
        "alpha.png": (encoded(alpha, "PNG"), np.full_like(pixels, 255)),
        "cmyk.tif": (encoded(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB"))),
        "turned.png": (encoded(rgb, "PNG", exif=exif), np.rot90(pixels, -1)),
        "one.png": (encoded(rgb.crop((3, 3, 4, 4)), "PNG"), pixels[3:4, 3:4]),
        "huge.png": (encoded(Image.new("L", (10_000, 10_000), 90), "PNG"), None),
    }


def test_every_kind_of_image_is_stored_with_its_pixels(tmp_path):
    draw_folder_tree(tmp_path / "tree", images=1)
    for name, (data, _) in odd_images().items():
        (tmp_path / "tree" / "rgb" / "anna" / name).write_bytes(data)
    builder = damage.prepared("folder", tmp_path / "tree", tmp_path)
    stored = {}
    for split in builder.info.splits:
        image_set = load_split(builder, split)
        stored |= dict(zip(image_set.paths, image_set.images, strict=True))
    for name, (_, pixels) in odd_images().items():
        image = tf.io.decode_jpeg(stored[f"rgb/anna/{name}"], channels=3).numpy()
        if pixels is None:
            assert image.shape == (10_000, 10_000, 3) and (image[::999, ::999] == 90).all()
        else:
            np.testing.assert_array_equal(image, pixels, err_msg=name)


@pytest.fixture
def tree(tmp_path):
    """Two images per identity and modality, and three files that are none."""
    root = draw_folder_tree(tmp_path / "tree", images=2)
    for name, data in BROKEN.items():
        (root / name).write_bytes((root / "ir/carl/0.png").read_bytes()[:60] if data is None else data)
    return root


def build(root, tmp_path, **options):
    return sets.build("folder", source=str(root), data_dir=str(tmp_path / "tfds"), **options)


def test_images_that_cannot_be_read_are_named_together(tree, tmp_path):
    lines = damage.problems("folder", tree, tmp_path)
    for name in BROKEN:
        damage.the_line(lines, str(tree / name))


def test_they_are_left_out_and_counted_if_that_is_wished(tree, tmp_path):
    builder = build(tree, tmp_path, skip_bad_images=True)
    builder.download_and_prepare()
    assert sorted(builder.builder_config.found.skipped) == sorted(BROKEN)
    assert sum(builder.info.splits[split].num_examples for split in builder.info.splits) == 20
    paths = {path for split in builder.info.splits for path in load_split(builder, split).paths}
    assert len(paths) == 20 and not paths & set(BROKEN)
    # From the files of the set, as a later run sees it.
    again = build(tree, tmp_path, skip_bad_images=True)
    assert again.is_prepared() and sorted(again.info.metadata["skipped_images"]) == sorted(BROKEN)
    assert preparation.notes(again) == ["Left out: 3 images that cannot be read."]
    # It stays another set than the one that has to be whole.
    with pytest.raises(UserError, match="cannot be prepared"):
        build(tree, tmp_path).download_and_prepare()


def test_the_command_says_what_was_left_out(tree, tmp_path, capsys):
    for _ in range(2):
        prepare.prepare("folder", source=str(tree), data_dir=str(tmp_path / "tfds"), skip_bad_images=True)
        said = capsys.readouterr().out
        assert "Left out: 3 images that cannot be read." in said
        assert "--config.data.skip_bad_images=True" in said


def test_sound_sets_have_nothing_to_say(tmp_path):
    root = draw_folder_tree(tmp_path / "tree", images=1)
    builder = build(root, tmp_path, skip_bad_images=True)
    builder.download_and_prepare()
    assert preparation.notes(builder) == [] and builder.builder_config.found.warnings == []


@pytest.mark.parametrize("name", damage.BUILDERS)
def test_every_data_set_can_leave_images_out(name, tmp_path):
    root = damage.draw(name, tmp_path / "set")
    (root / damage.IMAGES[name][0]).write_bytes(b"")
    builder = sets.build(
        name, source=str(root), data_dir=str(tmp_path / "tfds"), skip_bad_images=True, **damage.TRIAL.get(name, {})
    )
    builder.download_and_prepare()
    assert builder.info.metadata["skipped_images"] == [damage.IMAGES[name][0]]


def test_a_set_of_nothing_but_broken_images_is_refused(tmp_path):
    root = draw_folder_tree(tmp_path / "tree", images=1)
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be prepared"):
        build(root, tmp_path, skip_bad_images=True).download_and_prepare()
