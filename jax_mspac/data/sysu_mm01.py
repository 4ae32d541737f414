"""SYSU-MM01 (Wu et al., RGB-infrared cross-modality person re-identification, ICCV 2017): TFDS builder."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jax_mspac.data import checks, listing, matlab, schema
from jax_mspac.data.image_files import COPY_AGAIN, FoundConfig, ImageFile, examples, find_root
from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE

CAMERAS = ("cam1", "cam2", "cam3", "cam4", "cam5", "cam6")
SPLITS = ("train", "val", "test")
INFRARED_CAMERAS = (3, 6)

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


@dataclasses.dataclass(eq=False, kw_only=True)
class SysuMm01Config(FoundConfig):
    """What `build` found in one copy of the set."""

    splits: dict[str, list[ImageFile]] = dataclasses.field(repr=False)


class SysuMm01(tfds.core.GeneratorBasedBuilder):
    """SYSU-MM01 with its splits train, val and test; the images are stored as the authors gave them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=schema.features(),
            description="Persons seen by four visible and two near-infrared cameras, indoors and outdoors.",
            homepage="https://github.com/wuancong/SYSU-MM01",
            metadata=tfds.core.MetadataDict(
                simulated_infrared=False, cameras=list(CAMERAS), skipped_images=self.builder_config.skipped
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.builder_config
        checks.check(config, [p for files in config.splits.values() for p in files], layout=_LAYOUT)
        return {split: self._generate_examples(files) for split, files in config.splits.items()}

    def _generate_examples(self, files: Iterable[ImageFile]) -> Iterator[tuple[str, dict[str, Any]]]:
        return examples(self.builder_config, files)


def build(*, source: str, data_dir: str | None, skip_bad_images: bool = False) -> tfds.core.DatasetBuilder:
    """A builder for the copy of SYSU-MM01 in a folder.

    Args:
      source: the folder with cam1 to cam6 and exp, or the one above it.
      data_dir: where TFDS keeps prepared sets, or None for its default. After any change of a file the builder stands
        for another set, which is prepared anew; a small copy for tests and the real set never mix.
      skip_bad_images: leave out images that cannot be read.

    Returns:
      The builder, not yet prepared. Preparing it raises a UserError that lists everything wrong with the files.

    Raises:
      UserError: the folder holds no image of SYSU-MM01.
    """
    root = find_root(source, CAMERAS, f"{_LAYOUT}. {_WHERE}")
    found = listing.walk(root, CAMERAS, depth=1)
    files = [_photograph(file.path) for file in found.images if file.path.count("/") == 2]
    if not files:
        raise UserError(f"{root}: no image in {CAMERAS[0]} to {CAMERAS[-1]}. {_LAYOUT}. {_WHERE}")
    split_of, list_problems = read_splits(root)
    splits = {split: [p for p in files if split_of.get(p.identity) == split] for split in SPLITS}
    absent = sorted(split_of.keys() - {file.identity for file in files})
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
    files = found.images + listing.walk(root, ["exp"], depth=0).others
    config = SysuMm01Config(
        # A folder of an unknown camera, whose files do not count, must be told of in a prepared set too.
        name=listing.fingerprint(root, files, {"problems": problems, "skip_bad_images": skip_bad_images}),
        description=f"SYSU-MM01 in {root.resolve()}",
        root=root,
        splits=splits,
        problems=problems,
        skip_bad_images=skip_bad_images,
    )
    return SysuMm01(config=config, data_dir=data_dir)


def read_splits(root: pathlib.Path) -> tuple[dict[str, str], list[str]]:
    """Reads exp/{train,val,test}_id.txt, or the .mat file where there is no .txt.

    Returns:
      Identity, four digits -> its split; and one line per problem.
    """
    split_of, problems = {}, []
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


def _photograph(path: str) -> ImageFile:
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
