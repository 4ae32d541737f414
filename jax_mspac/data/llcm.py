"""LLCM (Zhang, Wang: Diverse embedding expansion network and low-light cross-modality benchmark, CVPR 2023).

How we read its lists; nothing but the use that public code makes of them is published:

- idx/train_vis.txt, idx/train_nir.txt: a line = `<relative path> <label>`, the path
  `{vis,nir}/<4-digit identity>/<identity>_c<camera>_<sequence>_<frame>_{vis,nir}.jpg`. The identity is the folder's
  number and the camera the number after `_c`; labels count the training identities and have to agree with the folders.
- idx/test_id.txt: the test identities, separated by commas. Their images are all those in
  {test_vis,test_nir}/cam<camera>/<4-digit identity>; camera 3 took no near-infrared image.
"""

import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

from jax_mspac.data import checks, listing
from jax_mspac.data.data_set import DataSet, Found, ImageFile, Row
from jax_mspac.data.images import stored_bytes
from jax_mspac.data.lists import COPY_AGAIN, find_root, label_problems, read_list, stats
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE
from jax_mspac.protocols import llcm

CAMERAS = tuple(f"cam{camera}" for camera in range(1, 10))
UNKNOWN_CAMERA = len(CAMERAS) + 1  # of a training image whose name does not tell

_TRAIN_TOPS = {"vis": VISIBLE, "nir": INFRARED}
_TEST_TOPS = {"test_vis": VISIBLE, "test_nir": INFRARED}
_TOPS = (*_TRAIN_TOPS, *_TEST_TOPS)
_TEST_LIST = "idx/test_id.txt"
_LAYOUT = (
    "Expected in it: {vis,nir}/<4-digit identity>/<image>, {test_vis,test_nir}/cam<1 to 9>/<4-digit identity>/<image> "
    "and idx/{train_vis,train_nir,test_id}.txt"
)
_WHERE = (
    "LLCM is given out by its authors alone: https://github.com/ZYK100/LLCM says where to send the signed agreement. "
    "configs/demo.py needs no data at all"
)

# What the paper counts, under the names of `sysu_mm01.counts`. It also gives 13,909 test images, which is not the sum
# of its two modalities; with these parts the total is the 46,767 that it names.
EXPECTED_COUNTS = {
    "train": {"identities": 713, "visible images": 16946, "infrared images": 13975},
    "test": {"identities": 351, "visible images": 8680, "infrared images": 7166},
}


def find(*, source: str, skip_bad_images: bool = False) -> Found:
    """What there is of LLCM in a folder; the images are stored as the authors gave them.

    Args:
      source: the folder with vis, nir, test_vis, test_nir and idx, or the one above it.
      skip_bad_images: leave out images that cannot be read.

    Raises:
      UserError: the folder holds no image of LLCM.
    """
    root = find_root(source, _TOPS, f"{_LAYOUT}. {_WHERE}")
    train, test = listing.walk(root, _TRAIN_TOPS, depth=1).images, listing.walk(root, _TEST_TOPS, depth=2).images
    if not train and not test:
        raise UserError(f"{root}: no image in {', '.join(_TOPS)}. {_LAYOUT}. {_WHERE}")
    problems = listing.missing_folders(root, _TOPS)
    problems += [line for top in _TEST_TOPS for line in listing.unknown_cameras(root, top, CAMERAS)]
    splits, list_problems = read_splits(root, [file.path for file in train], [file.path for file in test])
    lists = stats(root, [*map(_train_list, _TRAIN_TOPS), _TEST_LIST])
    return Found(
        name=listing.fingerprint(root, train + test + lists, {"skip_bad_images": skip_bad_images}),
        description=f"LLCM in {root.resolve()}",
        root=root,
        splits=splits,
        cameras=(*CAMERAS, "unknown"),
        read=lambda image: stored_bytes(root / image.path),
        check=lambda found: checks.check(found, layout=_LAYOUT),
        problems=problems + list_problems,
        skip_bad_images=skip_bad_images,
    )


def remarks(rows: Iterable[Row]) -> list[str]:
    """The published totals beside those of a table of `prepare`."""
    whole = [row for row in rows if row[1] == "all"]
    images, identities = sum(row[2] for row in whole), sum(row[4] for row in whole)
    return [f"Published: 46,767 images of 1,064 identities; here: {images:,} of {identities:,}."]


def read_splits(
    root: pathlib.Path, train_paths: Sequence[str], test_paths: Sequence[str]
) -> tuple[dict[str, list[ImageFile]], list[str]]:
    """Reads the lists in idx.

    Args:
      root: the folder of the set.
      train_paths: all images in vis and nir, relative to `root`.
      test_paths: all images in test_vis and test_nir.

    Returns:
      Split -> its files, sorted by path; and one line per problem.
    """
    train, entries, problems = [], [], []
    for top, modality in _TRAIN_TOPS.items():
        listed, more = read_list(root, _train_list(top), top, train_paths)
        train += [ImageFile(entry.path, entry.identity, _camera(entry.path), modality) for entry in listed]
        entries += listed
        problems += more
    problems += label_problems(" and ".join(map(_train_list, _TRAIN_TOPS)), entries)

    listed_identities, more = _read_identities(root)
    test = [file for file in _placed(test_paths) if file.identity in listed_identities]
    absent = sorted(listed_identities - {file.identity for file in test})
    both = sorted(listed_identities & {file.identity for file in train})
    problems += more
    problems += listing.shorten(
        [
            f"{_TEST_LIST}: identity {name} has no image in test_vis and test_nir; copy its folders from the original "
            "archive, or take it out of the list"
            for name in absent
        ]
    )
    problems += listing.shorten(
        [f"{_TEST_LIST}: identity {name} is in train and in test; take it out of one of the lists" for name in both]
    )
    return {"train": sorted(train), "test": sorted(test)}, problems


def _placed(paths: Iterable[str]) -> Iterator[ImageFile]:
    for path in paths:
        match path.split("/"):
            case [top, camera, folder, _] if camera in CAMERAS and folder.isdecimal():
                yield ImageFile(path, f"{int(folder):04d}", camera.removeprefix("cam"), _TEST_TOPS[top])


def _camera(path: str) -> str:
    match = re.search(r"_c0*([1-9])_", path)
    return match[1] if match else str(UNKNOWN_CAMERA)


def _read_identities(root: pathlib.Path) -> tuple[set[str], list[str]]:
    try:
        numbers = (root / _TEST_LIST).read_text(encoding="utf-8-sig").replace(",", " ").split()
        identities = {f"{int(number):04d}" for number in numbers}
    except FileNotFoundError:
        return set(), [f"{_TEST_LIST}: no such file; {COPY_AGAIN}"]
    except (OSError, ValueError) as error:
        return set(), [f"{_TEST_LIST}: not a list of identity numbers ({error}); {COPY_AGAIN}"]
    return identities, [] if identities else [f"{_TEST_LIST}: the list is empty; {COPY_AGAIN}"]


def _train_list(top: str) -> str:
    return f"idx/train_{top}.txt"


SET = DataSet(
    name="llcm",
    title="LLCM",
    find=find,
    protocols=llcm.protocols,
    config="llcm",
    where=_WHERE,
    expected_counts=EXPECTED_COUNTS,
    remarks=remarks,
)
