"""RegDB (Nguyen et al., Person recognition based on body images from visible light and thermal cameras, Sensors 2017).

Identities are the numbers of the folders below Visible and Thermal; the same number is the same person in both. The
ten trials are read from the first of these that is there:

- idx/{train,test}_{visible,thermal}_{1..10}.txt, a line = `<relative path> <label>`. Labels count the identities of a
  split from 0; they only have to agree with the folders.
- RegDB_split.mat, two arrays TrainIdx and TestIdx of 10 x 206. A reading of ours, as nothing is published on it: row t
  is trial t, a value is the number of an identity's folder, and every image in that folder counts.

The two are not known to hold the same ten splits: `builder.info.metadata["splits"]` says which one was read.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jax_mspac.data import checks, listing, matlab, schema
from jax_mspac.data.image_files import (
    COPY_AGAIN,
    Entry,
    FoundConfig,
    ImageFile,
    examples,
    find_root,
    label_problems,
    read_list,
    stats,
)
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE

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


@dataclasses.dataclass(eq=False, kw_only=True)
class RegDBConfig(FoundConfig):
    """What `build` found in one copy of the set, for one trial."""

    trial: int
    splits: dict[str, list[ImageFile]] = dataclasses.field(repr=False)


class Regdb(tfds.core.GeneratorBasedBuilder):
    """One trial of RegDB; visible images are of camera 1, thermal ones of camera 2.

    JPEG and PNG files are stored as they are, the authors' BMP files as PNG with the same pixels.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            features=schema.features(),
            description="Persons seen by a visible and a far-infrared camera side by side, ten images each.",
            homepage="http://dm.dongguk.edu/link.html",
            metadata=tfds.core.MetadataDict(
                simulated_infrared=False,
                cameras=list(TOPS),
                trial=config.trial,
                splits=_splits_from(config.root),
                skipped_images=config.skipped,
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.builder_config
        checks.check(config, [p for files in config.splits.values() for p in files], layout=_LAYOUT)
        return {split: self._generate_examples(files) for split, files in config.splits.items()}

    def _generate_examples(self, files: Iterable[ImageFile]) -> Iterator[tuple[str, dict[str, Any]]]:
        return examples(self.builder_config, files)


def build(
    *, source: str, data_dir: str | None, trial: int = 1, skip_bad_images: bool = False
) -> tfds.core.DatasetBuilder:
    """A builder for one trial of the copy of RegDB in a folder.

    Args:
      source: the folder with Visible and Thermal, or the one above it.
      data_dir: where TFDS keeps prepared sets, or None for its default. After any change of a file the builder stands
        for another set, which is prepared anew.
      trial: 1 to 10; each trial trains a model of its own.
      skip_bad_images: leave out images that cannot be read.

    Returns:
      The builder, not yet prepared. Preparing it raises a UserError that lists everything wrong with the files.

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
    found = listing.walk(root, TOPS, depth=1)
    if not found.images:
        raise UserError(f"{root}: no image in {' and '.join(TOPS)}. {_LAYOUT}. {_WHERE}")
    splits, problems = read_splits(root, trial, [file.path for file in found.images])
    lists = [_MATLAB, *(_list_name(split, top, trial) for split in SPLITS for top in TOPS)]
    config = RegDBConfig(
        name=listing.fingerprint(
            root, found.images + stats(root, lists), {"trial": trial, "skip_bad_images": skip_bad_images}
        ),
        description=f"Trial {trial} of RegDB in {root.resolve()}",
        root=root,
        trial=trial,
        skip_bad_images=skip_bad_images,
        splits=splits,
        problems=listing.missing_folders(root, TOPS) + problems,
    )
    return Regdb(config=config, data_dir=data_dir)


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
        splits[split] = sorted(_photograph(top, entry) for top in TOPS for entry in entries[top])
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
            splits[split] += [_photograph(top, entry) for entry in entries]
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


def _photograph(top: str, entry: Entry) -> ImageFile:
    return ImageFile(entry.path, entry.identity, str(list(TOPS).index(top) + 1), TOPS[top])


def _list_name(split: str, top: str, trial: int) -> str:
    return f"idx/{split}_{top.lower()}_{trial}.txt"


def _splits_from(root: pathlib.Path) -> str:
    return "idx" if (root / "idx").is_dir() else _MATLAB
