"""RegDB (Nguyen et al., Person recognition based on body images from visible light and thermal cameras, Sensors 2017).

Identities are the numbers of the folders below Visible and Thermal; the same number is the same person in both. The
ten trials are read from the first of these that is there:

- idx/{train,test}_{visible,thermal}_{1..10}.txt, a line = `<relative path> <label>`. Labels count the identities of a
  split from 0; they only have to agree with the folders.
- RegDB_split.mat, two arrays TrainIdx and TestIdx of 10 x 206. A reading of ours, as nothing is published on it: row t
  is trial t, a value is the number of an identity's folder, and every image in that folder counts.

The two are not known to hold the same ten splits: the metadata "splits" of the prepared set say which one was read.
"""

import collections
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data import checks, listing, matlab, published
from jax_mspac.data.data_set import DataSet, Found, ImageFile
from jax_mspac.data.images import stored_bytes
from jax_mspac.data.lists import COPY_AGAIN, Entry, find_root, label_problems, read_list, stats
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE
from jax_mspac.protocols import regdb

TOPS = {"Visible": VISIBLE, "Thermal": INFRARED}
SPLITS = ("train", "test")
TRIALS = 10

_MATLAB = "RegDB_split.mat"
_LAYOUT = (
    "Expected in it: Visible/<identity number>/<image>, Thermal/<identity number>/<image> and "
    "idx/{train,test}_{visible,thermal}_{1..10}.txt, or RegDB_split.mat instead of idx"
)
_WHERE = (
    "RegDB is given out by its authors alone, under a signed agreement: http://dm.dongguk.edu/link.html "
    "(DBPerson-Recog-DB1); https://github.com/mangye16/Cross-Modal-Re-ID-baseline says whom to ask for the copy with "
    "the lists in idx. configs/demo.py needs no data at all"
)

# What the complete set holds in every trial, under the names of `sysu_mm01.counts`.
EXPECTED_COUNTS = {
    split: {
        "identities": 206,
        "visible images": 2060,
        "infrared images": 2060,
        "identities of camera 1": 206,
        "identities of camera 2": 206,
    }
    for split in SPLITS
}


def find(*, source: str, trial: int = 0, skip_bad_images: bool = False) -> Found:
    """What there is of RegDB in a folder, for one trial.

    JPEG and PNG files are stored as they are, the authors' BMP files as PNG with the same pixels. Visible images are of
    camera 1, thermal ones of camera 2.

    Args:
      source: the folder with Visible and Thermal, or the one above it.
      trial: 1 to 10; each trial trains a model of its own. 0 stands for all of them, and their mean.
      skip_bad_images: leave out images that cannot be read.

    Raises:
      UserError: there is no such trial, or the folder holds no image of RegDB.
    """
    if trial == 0:
        raise UserError(
            f"config.data.trial is 0: that stands for all trials, each with a set and a model of its own, and "
            f"jax_mspac.main trains one after the other; a single one is any of 1 to {TRIALS}"
        )
    if trial not in range(1, TRIALS + 1):
        raise UserError(f"config.data.trial is {trial}: RegDB has the trials 1 to {TRIALS}")
    root = find_root(source, list(TOPS), f"{_LAYOUT}. {_WHERE}")
    listed = listing.walk(root, TOPS, depth=1)
    if not listed.images:
        raise UserError(f"{root}: no image in {' and '.join(TOPS)}. {_LAYOUT}. {_WHERE}")
    splits, problems = read_splits(root, trial, [file.path for file in listed.images])
    lists = [_MATLAB, *(_list_name(split, top, trial) for split in SPLITS for top in TOPS)]
    options = {"trial": trial, "skip_bad_images": skip_bad_images}
    return Found(
        name=listing.fingerprint(root, listed.images + stats(root, lists), options),
        description=f"Trial {trial} of RegDB in {root.resolve()}",
        root=root,
        splits=splits,
        cameras=list(TOPS),
        read=lambda image: stored_bytes(root / image.path),
        check=lambda found: checks.check(found, layout=_LAYOUT),
        problems=listing.missing_folders(root, TOPS) + problems,
        skip_bad_images=skip_bad_images,
        metadata={"trial": trial, "splits": _splits_from(root)},
    )


def parts(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The ten trials, where `trial` is 0."""
    if fields["trial"]:
        return {}
    digits = len(str(TRIALS))
    return {f"trial_{number:0{digits}}": {"trial": number} for number in range(1, TRIALS + 1)}


def read_splits(root: pathlib.Path, trial: int, paths: Sequence[str]) -> tuple[dict[str, list[ImageFile]], list[str]]:
    """Reads the splits of one trial, from idx or from RegDB_split.mat.

    Args:
      root: the folder of the set.
      trial: 1 to 10.
      paths: all images, relative to `root`.

    Returns:
      Split -> its files, sorted by path; and one line per problem.
    """
    if (root / "idx").is_dir():
        splits, problems = _read_lists(root, trial, paths)
    elif (root / _MATLAB).is_file():
        splits, problems = _read_matlab(root, trial, paths)
    else:
        splits, problems = (
            {split: [] for split in SPLITS},
            [f"{root}: neither the folder idx nor the file {_MATLAB} is in it; {COPY_AGAIN}"],
        )
    both = {p.identity for p in splits["train"]} & {p.identity for p in splits["test"]}
    lists = f"idx/*_{trial}.txt" if (root / "idx").is_dir() else _MATLAB
    return splits, problems + listing.shorten(
        [f"{lists}: identity {name} is in train and in test; {COPY_AGAIN}" for name in sorted(both)]
    )


def _read_lists(root: pathlib.Path, trial: int, paths: Sequence[str]) -> tuple[dict[str, list[ImageFile]], list[str]]:
    splits, problems = {}, []
    for split in SPLITS:
        entries = {}
        for top in TOPS:
            entries[top], more = read_list(root, _list_name(split, top, trial), top, paths)
            problems += more
        lists = " and ".join(_list_name(split, top, trial) for top in TOPS)
        problems += label_problems(lists, itertools.chain(*entries.values()))
        if all(entries.values()):
            visible, thermal = ({entry.identity for entry in entries[top]} for top in TOPS)
            single = sorted(visible ^ thermal)
            problems += listing.shorten(
                [f"{lists}: identity {name} is listed in one of them only; {COPY_AGAIN}" for name in single]
            )
        splits[split] = sorted(_image(top, entry) for top in TOPS for entry in entries[top])
    return splits, problems


def _read_matlab(root: pathlib.Path, trial: int, paths: Sequence[str]) -> tuple[dict[str, list[ImageFile]], list[str]]:
    splits: dict[str, list[ImageFile]] = {split: [] for split in SPLITS}
    try:
        arrays = matlab.load(root / _MATLAB)
    except (OSError, ValueError) as error:
        return splits, [f"{_MATLAB}: {error}; {COPY_AGAIN}"]
    images_of = collections.defaultdict(list)
    for path in paths:
        match path.split("/"):
            case [top, folder, _] if folder.isdecimal():
                images_of[top, int(folder)].append(path)
    problems = []
    for split, name in (("train", "TrainIdx"), ("test", "TestIdx")):
        rows = np.asarray(arrays.get(name, ()))
        if not _is_table_of_numbers(rows):
            found = f"an array of {' x '.join(map(str, rows.shape))}" if name in arrays else "nothing"
            problems.append(
                f"{_MATLAB}: {name} must be {TRIALS} rows of different identity numbers from 1, found {found}; "
                f"{COPY_AGAIN}"
            )
            continue
        for top, number in itertools.product(TOPS, rows[trial - 1].astype(int)):
            entries = [Entry(path, f"{number:04d}", number) for path in images_of[top, number]]
            splits[split] += [_image(top, entry) for entry in entries]
            if not entries:
                problems.append(
                    f"{_MATLAB}: identity {number:04d} of {split} has no image in {top}; copy the folder "
                    f"{top}/{number} from the original archive"
                )
        splits[split].sort()
    return splits, listing.shorten(problems)


def _is_table_of_numbers(rows: np.ndarray) -> bool:
    if rows.ndim != 2 or len(rows) != TRIALS or rows.dtype.kind not in "iuf":
        return False
    return bool(np.isin(rows, range(1, 10_000)).all()) and all(len(set(row)) == len(row) for row in rows.tolist())


def _image(top: str, entry: Entry) -> ImageFile:
    return ImageFile(entry.path, entry.identity, str(list(TOPS).index(top) + 1), TOPS[top])


def _list_name(split: str, top: str, trial: int) -> str:
    return f"idx/{split}_{top.lower()}_{trial}.txt"


def _splits_from(root: pathlib.Path) -> str:
    return "idx" if (root / "idx").is_dir() else _MATLAB


SET = DataSet(
    name="regdb",
    title="RegDB",
    find=find,
    protocols=regdb.protocols,
    config="regdb",
    where=_WHERE,
    expected_counts=EXPECTED_COUNTS,
    parts=parts,
    published=published.regdb,
    uses_cameras=False,
    published_note="They are means over ten trials, each with a model of its own; this run is one trial.",
)
