"""What only the pixels and bytes of images tell: swapped modalities and equal files."""

import shutil

import numpy as np
import pytest
from helpers import sets, trees
from helpers.damage import BUILDERS, IMAGES, draw, prepared, problems, the_line
from PIL import Image

from jax_mspac.data import checks

# Folders of the two kinds, cut off above the identities.
SIDES = {
    "sysu_mm01": (("cam1", "cam2", "cam4", "cam5"), ("cam3", "cam6")),
    "regdb": (("Visible",), ("Thermal",)),
    "llcm": (("vis", "test_vis/cam1", "test_vis/cam3", "test_vis/cam9"), ("nir", "test_nir/cam1", "test_nir/cam9")),
    "folder": (("rgb",), ("ir",)),
}


@pytest.fixture(params=BUILDERS)
def name(request):
    return request.param


@pytest.fixture
def root(name, tmp_path):
    return draw(name, tmp_path / "set")


def recolor(files, convert):
    """Replaces pixels float [H, W, 3] by convert(pixels), as JPEG would store them."""
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"), np.float64)
        Image.fromarray(convert(pixels).clip(0, 255).round().astype(np.uint8)).save(file)


def files_in(root, folders):
    return [file for folder in folders for file in sorted((root / folder).rglob("*.*"))]


def gray(pixels):
    return np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)


def tinted(pixels):
    return gray(pixels) * [1.0, 0.9, 0.95]


def false_color(pixels):
    value = pixels.mean(axis=-1)
    return np.stack([value, 255 - value, 2 * np.abs(value - 128)], axis=-1)


def test_swapped_modalities(name, root, tmp_path):
    visible, infrared = SIDES[name]
    recolor(files_in(root, visible), gray)
    recolor(files_in(root, infrared), lambda pixels: pixels[..., :1] * [1.0, 0.5, 0.0] + pixels[::-1] * [0, 0, 1.0])
    if name == "folder":  # a thermal camera may well store false colors
        lines = prepared(name, root, tmp_path).builder_config.found.warnings
    else:
        lines = problems(name, root, tmp_path)
    line = the_line(lines, "The folders look swapped: give each the images of the other")
    for folder in (*visible, *infrared):
        assert folder in line
    assert line.index(infrared[0]) < line.index("should hold infrared") < line.index("should hold visible")


def test_two_cameras_of_six_swapped(tmp_path):
    root = draw("sysu_mm01", tmp_path / "set")
    for old, new in (("cam2", "x"), ("cam6", "cam2"), ("x", "cam6")):
        (root / old).rename(root / new)
    line = the_line(problems("sysu_mm01", root, tmp_path), "look swapped")
    assert "cam6: should hold infrared" in line and "cam2: should hold visible" in line
    assert not any(camera in line for camera in ("cam1", "cam3", "cam4", "cam5"))


@pytest.mark.parametrize("side, convert", [(0, gray), (1, tinted), (1, gray)], ids=["gray", "tint", "plain"])
def test_gray_visible_or_tinted_infrared_images_are_nothing(name, side, convert, root, tmp_path):
    recolor(files_in(root, SIDES[name][side]), convert)
    assert prepared(name, root, tmp_path).builder_config.found.warnings == []


def test_gray_visible_and_tinted_infrared_images_are_nothing(name, root, tmp_path):
    recolor(files_in(root, SIDES[name][0]), gray)
    recolor(files_in(root, SIDES[name][1]), tinted)
    assert prepared(name, root, tmp_path).builder_config.found.warnings == []


def test_infrared_folders_in_color_alone_are_a_warning(name, root, tmp_path):
    folder = SIDES[name][1][0]
    recolor(files_in(root, [folder]), false_color)
    (line,) = prepared(name, root, tmp_path).builder_config.found.warnings
    assert line.startswith(f"{folder}: should hold infrared images, but they are in color")


def test_simulated_infrared_is_not_compared(tmp_path):
    root = draw("folder", tmp_path / "set")
    recolor(files_in(root, ["rgb"]), gray)
    recolor(files_in(root, ["ir"]), false_color)
    builder = sets.build("folder", source=str(root), data_dir=str(tmp_path / "tfds"), simulate_infrared=True)
    builder.download_and_prepare()
    assert builder.builder_config.found.warnings == []


def test_colorfulness():
    ramp = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None], 40, axis=0)
    plain = np.stack([ramp] * 3, axis=-1)
    assert checks.colorfulness(plain) == 0.0
    assert checks.colorfulness(plain + np.array([5, 0, 2], np.uint8)) == 0.0  # an even tint
    halves = np.zeros((20, 20, 3), np.uint8)
    halves[:10, :, 0] = 60
    # Red minus green is 60 in one half and 0 in the other: 30 from the median; green minus blue is always 0.
    assert checks.colorfulness(halves) == 15.0
    assert checks.colorfulness(np.zeros((1, 1, 3), np.uint8)) == 0.0


def test_equal_files_of_one_identity_are_a_mild_warning(name, root, tmp_path):
    if name == "regdb":
        first = root / IMAGES[name][0]
        copy = first.with_name("copy.bmp")
        with open(root / "idx/train_visible_1.txt", "a") as file:
            file.write(f"{copy.relative_to(root).as_posix()} 0\n")
    elif name == "llcm":
        first = root / "test_vis/cam1/0004/0004_c01_s185535_f7010_vis.jpg"
        copy = first.with_name("copy.jpg")
    else:
        first = root / IMAGES[name][0]
        copy = first.with_name(f"copy{first.suffix}")
    shutil.copy(first, copy)
    (line,) = prepared(name, root, tmp_path).builder_config.found.warnings
    assert first.relative_to(root).as_posix() in line and copy.relative_to(root).as_posix() in line
    assert "the same image is stored 2 times; keep one" in line


@pytest.mark.parametrize("other, meaning", [(2, "identities "), (1, "infrared and visible")])
def test_equal_files_that_stand_for_different_things_are_a_grave_one(name, other, meaning, root, tmp_path):
    first, second = IMAGES[name][0], IMAGES[name][other]
    shutil.copy(root / first, root / second)
    line = next(
        line for line in prepared(name, root, tmp_path).builder_config.found.warnings if "one and the same" in line
    )
    assert first in line and second in line and meaning in line and "delete it where it does not belong" in line


def test_many_equal_files_end_in_a_count(tmp_path):
    root = trees.draw_folder_tree(tmp_path / "set", identities=[f"p{i}" for i in range(8)], images=1)
    for file in sorted((root / "rgb").rglob("*.png")):
        shutil.copy(file, file.with_name("copy.png"))
    shutil.copy(root / "rgb/p7/0.png", root / "rgb/p6/other.png")
    warnings = prepared("folder", root, tmp_path).builder_config.found.warnings
    assert "identities p6, p7" in warnings[0]
    assert len(warnings) == 7 and warnings[-1] == "... and 2 more"


def test_flat_infrared_images_and_sixteen_bits_are_told(name, root, tmp_path):
    infrared = files_in(root, SIDES[name][1])
    recolor(infrared, lambda pixels: 115 + gray(pixels) / 40)
    warnings = the_line(prepared(name, root, tmp_path / "flat").builder_config.found.warnings, "nearly flat")
    assert SIDES[name][1][0] in warnings and "of 256 gray levels" in warnings
    if name == "folder":
        for file in infrared:
            samples = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
            file.unlink()
            Image.fromarray(29500 + 6 * samples).save(file.with_suffix(".png"))
        warnings = prepared(name, root, tmp_path / "deep").builder_config.found.warnings
        assert f"{len(infrared)} images have 16-bit samples" in the_line(warnings, "16-bit")
        assert not any("flat" in line for line in warnings)
