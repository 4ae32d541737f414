"""SYSU-MM01 (Wu et al., RGB-infrared cross-modality person re-identification, ICCV 2017)."""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_mspac.data import checks, listing, matlab, published
from jax_mspac.data.data_set import DataSet, Found, ImageFile, TestSet
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.images import stored_bytes
from jax_mspac.data.lists import COPY_AGAIN, find_root
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.protocols import sysu_lists, sysu_mm01
from jax_mspac.protocols.base import RetrievalProtocol

CAMERAS = ("cam1", "cam2", "cam3", "cam4", "cam5", "cam6")
SPLITS = ("train", "val", "test")
INFRARED_CAMERAS = (3, 6)
LISTS_FILE = "rand_perm_cam.mat"

_LAYOUT = (
    "Expected in it: cam1 to cam6, each with <4-digit identity>/<4-digit image>.jpg, and exp/{train,val,test}_id.txt"
)
_WHERE = (
    "SYSU-MM01 is given out by its authors alone: https://github.com/wuancong/SYSU-MM01 says where to send the signed "
    "agreement by e-mail. configs/demo.py needs no data at all"
)

# What `counts` finds in the complete set.
EXPECTED_COUNTS = {
    "train": {
        "identities": 296,
        "visible images": 20284,
        "infrared images": 9929,
        "images of camera 1": 4721,
        "images of camera 2": 5753,
        "images of camera 3": 5929,
        "images of camera 4": 4821,
        "images of camera 5": 4989,
        "images of camera 6": 4000,
    },
    "val": {
        "identities": 99,
        "visible images": 1974,
        "infrared images": 1980,
        "images of camera 1": 0,
        "images of camera 2": 0,
        "images of camera 6": 0,
    },
    "test": {
        "identities": 96,
        "visible images": 6775,
        "infrared images": 3803,
        "images of camera 3": 1883,
        "images of camera 6": 1920,
        "identities of camera 1": 56,
        "identities of camera 2": 56,
        "identities of camera 3": 93,
        "identities of camera 4": 94,
        "identities of camera 5": 95,
        "identities of camera 6": 96,
    },
}


def find(*, source: str, skip_bad_images: bool = False) -> Found:
    """What there is of SYSU-MM01 in a folder; the images are stored as the authors gave them.

    Args:
      source: the folder with cam1 to cam6 and exp, or the one above it.
      skip_bad_images: leave out images that cannot be read.

    Raises:
      UserError: the folder holds no image of SYSU-MM01.
    """
    root = find_root(source, CAMERAS, f"{_LAYOUT}. {_WHERE}")
    listed = listing.walk(root, CAMERAS, depth=1)
    images = [_image(file.path) for file in listed.images if file.path.count("/") == 2]
    if not images:
        raise UserError(f"{root}: no image in {CAMERAS[0]} to {CAMERAS[-1]}. {_LAYOUT}. {_WHERE}")
    split_of, list_problems = read_splits(root)
    absent = sorted(split_of.keys() - {image.identity for image in images})
    without_images = [
        f"exp/{split_of[name]}_id: identity {name} has no image in any camera; copy its folders from the original "
        "archive, or take it out of the list"
        for name in absent
    ]
    problems = [
        *listing.missing_folders(root, CAMERAS),
        *listing.unknown_cameras(root, "", CAMERAS),
        *list_problems,
        *listing.shorten(without_images),
    ]
    files = listed.images + listing.walk(root, ["exp"], depth=0).others
    return Found(
        # A folder of an unknown camera, whose files do not count, must be told of in a prepared set too.
        name=listing.fingerprint(root, files, {"problems": problems, "skip_bad_images": skip_bad_images}),
        description=f"SYSU-MM01 in {root.resolve()}",
        root=root,
        splits={split: [image for image in images if split_of.get(image.identity) == split] for split in SPLITS},
        cameras=CAMERAS,
        read=lambda image: stored_bytes(root / image.path),
        check=lambda found: checks.check(found, layout=_LAYOUT),
        problems=problems,
        skip_bad_images=skip_bad_images,
    )


def search(
    identities: np.ndarray,
    cameras: np.ndarray,
    modalities: np.ndarray,
    *,
    identity_names: Sequence[str],
    split: str = "test",
    galleries: Sequence[str] = ("seeded",),
    modes: Sequence[str] = ("all", "indoor"),
    shots: Sequence[int] = (1,),
    trials: int = 10,
    sysu_lists: str = "",
) -> list[RetrievalProtocol]:
    """The protocols of SYSU-MM01, see `protocols.sysu_mm01`; those of the validation split have settings of their own.

    Args:
      identities, cameras, modalities, identity_names, split: see `DataSet.search`.
      galleries: which of "official" and "seeded"; with `sysu_lists` the official ones in any case, first.
      modes: which of "all" and "indoor".
      shots: gallery images per identity and camera, one protocol each.
      trials: galleries to draw.
      sysu_lists: the folder with rand_perm_cam.mat, in it or in its exp folder; the official galleries need it.

    Raises:
      UserError: a setting is impossible, or the lists are missing or damaged.
    """
    if split == "val":
        modes, galleries = ("validation",), ("seeded",)
    elif sysu_lists and "official" not in galleries:
        galleries = ("official", *galleries)
    there = set(np.asarray(cameras)[np.asarray(modalities) == MODALITIES.index(VISIBLE)].tolist())
    for mode in modes:
        if absent := sorted(set(sysu_mm01.MODES.get(mode, ((), ()))[1]) - there):
            raise UserError(
                f"SYSU-MM01 mode {mode!r} searches a gallery of cameras {list(sysu_mm01.MODES[mode][1])}, but there is "
                f"no image of {absent}; give the whole gallery, or leave the mode out of config.eval.modes"
            )
    official: dict[str, Any] = {}
    if "official" in galleries:
        places = [pathlib.Path(sysu_lists).expanduser() / inside / LISTS_FILE for inside in ("", "exp")]
        lists = [place for place in places if sysu_lists and place.is_file()]
        if not lists:
            raise UserError(
                f"config.eval.sysu_lists is {sysu_lists!r}; the official galleries need the folder with {LISTS_FILE}, "
                "which comes with SYSU-MM01, in it or in its exp folder. config.eval.galleries=seeded needs none"
            )
        official = {
            "permutations": load_permutations(lists[0]),
            "identity_numbers": [int(name) for name in identity_names],
        }
    return sysu_mm01.protocols(
        identities, cameras, modalities, galleries=galleries, modes=modes, shots=shots, trials=trials, **official
    )


def load_permutations(path: str | os.PathLike) -> sysu_lists.Permutations:
    """Reads `rand_perm_cam.mat`; see `protocols.sysu_lists`.

    Raises:
      UserError: the file is missing, damaged, or holds something else.
    """
    try:
        content = matlab.load(path)
        if "rand_perm_cam" not in content:
            raise ValueError("it holds no variable 'rand_perm_cam'")
        return sysu_lists.parse_permutations(content["rand_perm_cam"])
    except (OSError, ValueError) as error:
        raise UserError(
            f"{os.fspath(path)}: {error}. Expected the rand_perm_cam.mat that comes with SYSU-MM01 (in its exp "
            "folder); copy it again, or leave 'official' out of the galleries"
        ) from error


def read_splits(root: pathlib.Path) -> tuple[dict[str, str], list[str]]:
    """Reads exp/{train,val,test}_id.txt, or the .mat file where there is no .txt.

    Returns:
      Identity, four digits -> its split; and one line per problem.
    """
    split_of: dict[str, str] = {}
    problems = []
    for split in SPLITS:
        text, matlab = (root / "exp" / f"{split}_id{suffix}" for suffix in (".txt", ".mat"))
        file = matlab if matlab.is_file() and not text.is_file() else text
        try:
            numbers = _read_matlab(file) if file == matlab else _read_text(file)
        except FileNotFoundError:
            problems.append(f"exp/{text.name}: no such file (exp/{matlab.name} would do as well); {COPY_AGAIN}")
            continue
        except (OSError, ValueError) as error:
            problems.append(f"exp/{file.name}: not a list of identity numbers ({error}); {COPY_AGAIN}")
            continue
        if not numbers:
            problems.append(f"exp/{file.name}: the list is empty; {COPY_AGAIN}")
        for name in (f"{number:04d}" for number in numbers):
            if split_of.setdefault(name, split) != split:
                problems.append(f"exp/{file.name}: identity {name} is in {split_of[name]} too; take it out of one list")
    return split_of, problems


def counts(image_set: ImageSet) -> dict[str, int]:
    """Counts what a split holds, under the names of `EXPECTED_COUNTS`."""
    cameras = range(1, len(CAMERAS) + 1)
    images_of = {camera: image_set.cameras == camera for camera in cameras}
    return {
        "identities": image_set.num_identities,
        **{f"{name} images": int((image_set.modalities == i).sum()) for i, name in enumerate(MODALITIES)},
        **{f"images of camera {camera}": int(images_of[camera].sum()) for camera in cameras},
        **{f"identities of camera {camera}": len(set(image_set.identities[images_of[camera]])) for camera in cameras},
    }


def _image(path: str) -> ImageFile:
    top, folder, _ = path.split("/")
    camera = CAMERAS.index(top) + 1
    return ImageFile(path, folder.zfill(4), str(camera), INFRARED if camera in INFRARED_CAMERAS else VISIBLE)


def _read_text(file: pathlib.Path) -> list[int]:
    return [int(number) for number in file.read_text(encoding="utf-8-sig").replace(",", " ").split()]


def _read_matlab(file: pathlib.Path) -> list[int]:
    arrays = [np.asarray(value) for value in matlab.load(file).values()]
    if len(arrays) != 1 or arrays[0].ndim != 2 or 1 not in arrays[0].shape or arrays[0].dtype.kind not in "iuf":
        found = ", ".join(f"{array.dtype} {' x '.join(map(str, array.shape))}" for array in arrays) or "nothing"
        raise ValueError(f"expected one row of numbers, found {found}")
    return [_whole(number) for number in arrays[0].ravel()]


def _whole(number: float) -> int:
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"{number} is no whole number")
    return int(number)


SET = DataSet(
    name="sysu_mm01",
    title="SYSU-MM01",
    find=find,
    protocols=search,
    config="sysu",
    where=_WHERE,
    expected_counts=EXPECTED_COUNTS,
    published=published.sysu_mm01,
    published_note="Most published results use the official galleries; seeded ones give somewhat other figures.",
    test_set=TestSet("infrared->visible", sysu_mm01.MODES["all"], (3803, 6775)),
)
