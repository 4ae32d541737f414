"""Draws small image trees in the layouts of the data sets."""

import colorsys
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

VISIBLE_CAMERAS, INFRARED_CAMERAS = (1, 2, 4, 5), (3, 6)
VAL_CAMERAS = (3, 4, 5)


def draw_person(
    identity: int, camera: int, shot: int, *, infrared: bool, size: tuple[int, int] = (24, 48)
) -> Image.Image:
    """A standing figure whose clothes tell the identity, on a background that tells the camera.

    In infrared the clothes keep their brightness, which differs between identities, and lose their color.
    """
    rng = np.random.default_rng([identity, camera, shot])
    width, height = size
    brightness = [0.3 + 0.7 * ((identity * step) % 1.0) for step in (0.618, 0.382)]
    hues = [(identity * step) % 1.0 for step in (0.27, 0.71)]
    coat, trousers = (
        tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.0 if infrared else 0.8, value))
        for hue, value in zip(hues, brightness, strict=True)
    )
    image = Image.new("RGB", size, (20 * camera,) * 3)
    draw = ImageDraw.Draw(image)
    left = width // 4 + int(rng.integers(-width // 12, width // 12 + 1))
    right = left + width // 2
    draw.ellipse((left + width // 8, 1, right - width // 8, height // 5), fill=(180, 180, 180))
    draw.rectangle((left, height // 5, right, height * 3 // 5), fill=coat)
    draw.rectangle((left + width // 12, height * 3 // 5, right - width // 12, height - 2), fill=trousers)
    return image


def draw_sysu_tree(
    root: pathlib.Path,
    *,
    train: Sequence[int] = (1, 2, 5),
    val: Sequence[int] = (3,),
    test: Sequence[int] = (4, 6),
    images: int = 2,
) -> pathlib.Path:
    """Draws cam1..cam6 and exp as SYSU-MM01 has them: `images` per identity and camera, val in cameras 3 to 5 only.

    Returns:
      `root`.
    """
    for camera in range(1, 7):
        for identity in (*train, *val, *test):
            if identity in val and camera not in VAL_CAMERAS:
                continue
            folder = root / f"cam{camera}" / f"{identity:04d}"
            folder.mkdir(parents=True)
            for shot in range(1, images + 1):
                image = draw_person(identity, camera, shot, infrared=camera in INFRARED_CAMERAS)
                image.save(folder / f"{shot:04d}.jpg", quality=90)
    (root / "exp").mkdir()
    for split, identities in (("train", train), ("val", val), ("test", test)):
        (root / "exp" / f"{split}_id.txt").write_text(",".join(map(str, identities)) + "\n")
    return root


def draw_folder_tree(
    root: pathlib.Path,
    *,
    identities: Sequence[str] = ("anna", "ben", "carl", "dora", "emil"),
    tops: Sequence[str] = ("rgb", "ir"),
    cameras: Sequence[str] = ("",),
    images: int = 2,
    suffix: str = ".png",
) -> pathlib.Path:
    """Draws <top>/<identity>/[<camera>/]<image> for the folder builder; the top called "ir" is infrared.

    Returns:
      `root`.
    """
    for top in tops:
        for i, identity in enumerate(identities):
            for j, camera in enumerate(cameras):
                folder = root / top / identity / camera
                folder.mkdir(parents=True)
                for shot in range(images):
                    draw_person(i, j, shot, infrared=top == "ir").save(folder / f"{shot}{suffix}")
    return root


def draw_regdb_tree(
    root: pathlib.Path,
    *,
    train: Sequence[int] = (3, 1, 12),
    test: Sequence[int] = (7, 2, 5),
    images: int = 2,
    trials: int = 1,
) -> pathlib.Path:
    """Draws Visible, Thermal and idx as RegDB has them: BMP files in a folder per identity, lists for trials 1, 2, ...

    As in the real lists, labels count from 0 in each split, in the order of `train` and `test`. Every second trial has
    train and test swapped.

    Returns:
      `root`.
    """
    (root / "idx").mkdir(parents=True)
    for split, identities in (("train", train), ("test", test)):
        for top, letter in (("Visible", "v"), ("Thermal", "t")):
            lines = []
            for label, identity in enumerate(identities):
                folder = root / top / str(identity)
                folder.mkdir(parents=True)
                for shot in range(images):
                    file = folder / f"male_front_{letter}_{100 * identity + shot:05d}_{identity}.bmp"
                    draw_person(identity, 1 + (letter == "t"), shot, infrared=letter == "t").save(file)
                    lines.append(f"{file.relative_to(root).as_posix()} {label}\n")
            for trial in range(1, trials + 1):
                part = split if trial % 2 else {"train": "test", "test": "train"}[split]
                (root / "idx" / f"{part}_{top.lower()}_{trial}.txt").write_text("".join(lines))
    return root


def draw_llcm_tree(
    root: pathlib.Path,
    *,
    train: Sequence[int] = (2, 5, 9),
    test: Sequence[int] = (4, 6),
    cameras: Sequence[int] = (1, 3, 9),
    images: int = 2,
) -> pathlib.Path:
    """Draws vis, nir, test_vis, test_nir and idx as LLCM has them; camera 3 took no near-infrared image.

    Returns:
      `root`.
    """
    (root / "idx").mkdir(parents=True)
    for modality in ("vis", "nir"):
        lines = []
        for identity in (*train, *test):
            for camera in cameras:
                if modality == "nir" and camera == 3:
                    continue
                name = f"{identity:04d}"
                folder = root / (modality if identity in train else f"test_{modality}/cam{camera}") / name
                folder.mkdir(parents=True, exist_ok=True)
                for shot in range(images):
                    file = folder / f"{name}_c{camera:02d}_s185535_f{7010 + shot}_{modality}.jpg"
                    draw_person(identity, camera, shot, infrared=modality == "nir").save(file, quality=90)
                    if identity in train:
                        lines.append(f"{file.relative_to(root).as_posix()} {train.index(identity)}\n")
        (root / "idx" / f"train_{modality}.txt").write_text("".join(lines))
    (root / "idx" / "test_id.txt").write_text(",".join(map(str, test)) + "\n")
    return root
