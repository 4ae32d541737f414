"""What reading every image of a data set tells: which are broken, stored twice, or of the other modality."""

import collections
import concurrent.futures
import hashlib
import os
import pathlib
import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from jax_mspac.data import images, listing
from jax_mspac.data.data_set import Found, ImageFile
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE

# Medians of `colorfulness` over a folder. Pedestrians by day reach 7 to 16, infrared images stored as color JPEG with
# a tint of a tenth 4, plain ones less than 1.
COLORED, GRAY = 6.0, 2.0

# Median over a folder of the gray levels between the 1 and 99 percentiles, below which its images count as flat.
FLAT = 16

_SHOWN = 5  # warnings of a kind


class Findings(NamedTuple):
    """One line per thing that is wrong, and per thing that may be; and path -> line of images that cannot be read."""

    problems: list[str]
    warnings: list[str]
    unreadable: dict[str, str]


class _Read(NamedTuple):
    file: ImageFile
    problem: str | None = None
    digest: bytes = b""
    colorfulness: float = 0.0
    contrast: float = 255.0
    is_16_bit: bool = False


def check(
    found: Found,
    *,
    layout: str = "",
    folder_of: Callable[[ImageFile], str] = lambda file: posixpath.dirname(posixpath.dirname(file.path)),
    false_color: bool = False,
) -> None:
    """Examines the images and adds what they give reason to warn of to `found.warnings`.

    Where `found.skip_bad_images`, those that cannot be read are listed in `found.skipped`, and else in the error.

    Args:
      found: what is going to be stored.
      layout: ends the error.
      folder_of: see `examine`; by default the folder of the identities' folders.
      false_color: see `examine`.

    Raises:
      UserError: lists `found.problems` and those of the images, if there are any.
    """
    assert found.root is not None  # images that are examined lie in a folder
    files = found.images
    findings = examine(found.root, files, folder_of=folder_of, false_color=false_color)
    found.warnings += findings.warnings
    problems, unreadable = [*found.problems, *findings.problems], listing.shorten(list(findings.unreadable.values()))
    if found.skip_bad_images and len(findings.unreadable) < len(files):
        # The metadata of the set refer to this list.
        found.skipped[:] = sorted(findings.unreadable)
        found.warnings += [f"left out: {line}" for line in unreadable]
    else:
        problems += unreadable
    if problems:
        raise listing.report(f"{found.root} cannot be prepared", problems, layout)


def examine(
    root: pathlib.Path,
    files: Sequence[ImageFile],
    *,
    folder_of: Callable[[ImageFile], str],
    false_color: bool = False,
) -> Findings:
    """Reads every image in full, once, with a progress bar.

    Args:
      root: the folder of the set.
      files: what is going to be stored.
      folder_of: the folder, such as a camera's, whose images are of one modality.
      false_color: whether infrared images may well be in color, as those of some thermal cameras. Then folders that
        look swapped are a warning and no problem.

    Returns:
      Swapped folders as problems; equal files, 16-bit samples, flat and colored infrared images as warnings; and images
      that cannot be read.
      Folders are not compared where infrared images are simulated.
    """
    read = _read_all(root, files)
    unreadable = {image.file.path: image.problem for image in read if image.problem}
    whole = [image for image in read if not image.problem]
    remarks = [*_equal_lines(whole), *_range_lines(whole, folder_of)]
    simulated = any(file.simulated for file in files)
    swapped, tinted = ([], []) if simulated else _color_lines(whole, folder_of)
    if false_color:
        return Findings([], remarks + swapped + tinted, unreadable)
    return Findings(swapped, remarks + tinted, unreadable)


def colorfulness(image: np.ndarray) -> float:
    """Mean absolute deviation of the differences between neighboring channels from their medians.

    0 for gray images; small for evenly tinted ones, unlike the differences themselves.

    Args:
      image: uint8 [H, W, 3]; pixels of a grid of about 32 x 32 are looked at.
    """
    pixels = image[:: max(1, image.shape[0] // 32), :: max(1, image.shape[1] // 32)].astype(np.float32)
    differences = np.diff(pixels, axis=-1).reshape(-1, 2)
    return float(np.abs(differences - np.median(differences, axis=0, keepdims=True)).mean())


def _read_all(root: pathlib.Path, files: Sequence[ImageFile]) -> list[_Read]:
    with concurrent.futures.ThreadPoolExecutor() as pool:  # the decoders of PIL run outside the interpreter lock
        lines = pool.map(lambda file: _read(root, file), files)
        bar = {"desc": "Checking images", "total": len(files), "unit": " images", "leave": False, "disable": None}
        try:
            return list(tqdm.tqdm(lines, **bar))
        except BaseException:
            # A signal: the images that are left would be read first.
            pool.shutdown(cancel_futures=True)
            raise


def _read(root: pathlib.Path, file: ImageFile) -> _Read:
    path = root / file.path
    try:
        os.fspath(path).encode()
        data, pixels = images.read_file(path)
    except UnicodeEncodeError:
        return _Read(file, f"{os.fspath(path)!r}: the name is not UTF-8 text; rename it")
    except UserError as error:
        return _Read(file, str(error))
    contrast = float(np.subtract(*np.percentile(pixels[..., 1], (99, 1))))
    return _Read(file, None, hashlib.sha256(data).digest(), colorfulness(pixels), contrast, images.is_16_bit(data))


def _equal_lines(read: Iterable[_Read]) -> list[str]:
    """One line per file that is there more than once; those that stand for different things come first."""
    copies = collections.defaultdict(list)
    for image in read:
        copies[image.digest].append(image.file)
    contradicting, harmless = [], []
    for group in copies.values():
        if len(group) < 2:
            continue
        names = ", ".join(file.path for file in group[:3]) + (", ..." if len(group) > 3 else "")
        identities = sorted({file.identity for file in group})
        modalities = sorted({file.modality for file in group})
        if len(identities) > 1 or len(modalities) > 1:
            meaning = f"identities {', '.join(identities)}" if len(identities) > 1 else " and ".join(modalities)
            contradicting.append(
                f"{names}: one and the same image stands for different things ({meaning}), which spoils training and "
                "scores; compare with the original copy and delete it where it does not belong"
            )
        else:
            harmless.append(f"{names}: the same image is stored {len(group)} times; keep one, unless it came so")
    return [*listing.shorten(contradicting, _SHOWN), *listing.shorten(harmless, _SHOWN)]


def _range_lines(read: Iterable[_Read], folder_of: Callable[[ImageFile], str]) -> list[str]:
    """A line on 16-bit images, and one on folders of infrared images that are nearly flat."""
    contrasts, deep = collections.defaultdict(list), 0
    for image in read:
        deep += image.is_16_bit
        if image.file.modality == INFRARED:
            contrasts[folder_of(image.file)].append(image.contrast)
    flat = [name for name, group in sorted(contrasts.items()) if np.median(group) < FLAT]
    lines = []
    if deep:
        low, high = images.PERCENTILES
        lines.append(
            f"{deep} images have 16-bit samples, which become 8-bit ones: from the range of config.data.range_16_bit "
            f"where it is given, else from the {low} to the {high} percentile of each image"
        )
    if flat:
        lines.append(
            f"{', '.join(flat)}: the images are nearly flat, most pixels of half of them within {FLAT} of 256 gray "
            "levels; scale the samples to a wider range, or store the 16 bits that the camera gives"
        )
    return lines


def _color_lines(read: Iterable[_Read], folder_of: Callable[[ImageFile], str]) -> tuple[list[str], list[str]]:
    """A line if infrared folders are in color while visible ones are gray; otherwise one if the former are."""
    values = collections.defaultdict(list)
    for image in read:
        values[image.file.modality, folder_of(image.file)].append(image.colorfulness)
    medians = {key: float(np.median(group)) for key, group in sorted(values.items())}
    colored = ", ".join(name for (kind, name), value in medians.items() if kind == INFRARED and value >= COLORED)
    gray = ", ".join(name for (kind, name), value in medians.items() if kind == VISIBLE and value <= GRAY)
    if colored and gray:
        return [
            f"{colored}: should hold infrared images, but they are in color, and {gray}: should hold visible images, "
            "but they are gray. The folders look swapped: give each the images of the other"
        ], []
    if colored:
        return [], [
            f"{colored}: should hold infrared images, but they are in color; compare with the original copy, and "
            "move the images of visible cameras to their folders"
        ]
    return [], []
