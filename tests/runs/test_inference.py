"""A loaded model embeds images in the forms that people have them in, and names what is none."""

import pathlib

import numpy as np
import pytest
from helpers import small_runs
from PIL import Image

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.training import loop


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    small_runs.register()
    folder = small_runs.draw(tmp_path_factory.mktemp("inference"))
    changes = {"train.steps": 1, "eval.every": 0, "checkpoint.every": 1, "data.range_16_bit": "1000,2020"}
    loop.train(small_runs.config_of(folder, **changes), folder / "run")
    return jax_mspac.load(folder / "run")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)


def test_one_image_is_a_list_of_one(model, pixels, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    expected = model.embed([pixels], "visible")
    assert expected.shape[0] == 1 and expected.dtype == np.float32
    for one in (str(path), path, Image.fromarray(pixels), pixels, [path], (p for p in [path])):
        np.testing.assert_array_equal(model.embed(one, "visible"), expected)
    many = model.embed([path, pixels, Image.open(path)], "visible", batch=2)
    np.testing.assert_allclose(many, np.repeat(expected, 3, axis=0), atol=1e-6)
    np.testing.assert_array_equal(model.embed(np.stack([pixels]), "visible"), expected)


def test_gray_and_sixteen_bit_images_are_those_of_training(model, pixels):
    gray = pixels[..., 0]
    expected = model.embed(np.repeat(gray[..., None], 3, axis=2), "infrared")
    for image in (gray, Image.fromarray(gray), 1000 + 4 * gray.astype(np.uint16)):
        np.testing.assert_array_equal(model.embed([image], "infrared"), expected)


def test_rotation_palette_and_color_spaces_of_pil_count(model, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = model.embed([np.rot90(pixels, -1)], "visible")
    for image in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        np.testing.assert_array_equal(model.embed(image, "visible"), turned)
    upright = model.embed(pixels, "visible")
    for image in (Image.fromarray(pixels).convert("YCbCr"), Image.fromarray(pixels).convert("RGBA")):
        assert (model.embed(image, "visible") * upright).sum() > 0.999


def test_images_of_pil_that_break_are_named(model, pixels, tmp_path):
    Image.fromarray(np.tile(pixels, (8, 8, 1))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-2000])
    for image in (Image.open(tmp_path / "cut.jpg"), Image.new("F", (8, 8))):
        with image, pytest.raises(UserError, match="an image of PIL cannot be read"):
            model.embed(image, "visible")


@pytest.mark.parametrize(
    "images, message",
    [
        ([np.zeros((0, 8, 3), np.uint8)], r"uint8 \[0, 8, 3\]; expected .*at least one pixel"),
        ([np.zeros((8, 8, 4), np.uint8)], r"uint8 \[8, 8, 4\]; expected uint8 \[height, width, 3\]"),
        ([np.zeros((8, 8, 3), np.uint16)], r"uint16 \[8, 8, 3\]; expected"),
        ([7], "an image is a int; expected a path"),
        ("/nowhere/a.png", "/nowhere/a.png: cannot be read"),
        (pathlib.Path("/nowhere/a.png"), "/nowhere/a.png: cannot be read"),
    ],
)
def test_what_is_no_image_is_named(model, images, message):
    with pytest.raises(UserError, match=message):
        model.embed(images, "visible")


def test_impossible_batches_checkpoints_and_folders_are_named(model, pixels, tmp_path):
    for batch in (0, -1):
        with pytest.raises(UserError, match=f"batch is {batch}; expected 1 or more"):
            model.embed(pixels, "visible", batch=batch)
    workdir = pathlib.Path(model.config.data.source).parent / "run"
    with pytest.raises(UserError, match=r"checkpoint 'newest': expected 'latest', 'best' or a step"):
        jax_mspac.load(workdir, checkpoint="newest")
    with pytest.raises(UserError, match=r"config.json is a file; expected the folder of a training run"):
        jax_mspac.load(workdir / "config.json")
