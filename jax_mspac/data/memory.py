"""A data set in one .npz file, its images decoded: runs from it need neither TensorFlow nor any decoding."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data.data_set import DataSet, Found, ImageFile
from jax_mspac.data.image_set import ImageSet, digest_of
from jax_mspac.data.images import read_rgb, resize
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES

_FORMAT = 1
_COLUMNS = ("images", "identities", "cameras", "modalities", "paths", "digests")


def write(path: str | os.PathLike, data_set: DataSet, found: Found, fields: Mapping[str, Any]) -> None:
    """Writes a data set as `opened` reads it, with the checks that every prepared set passes.

    Args:
      path: of the file; it is there whole or not at all.
      data_set: its record.
      found: what it found with the fields.
      fields: of `config.data`, with the height and the width that the images get.

    Raises:
      UserError: the source is damaged.
    """
    path, size = pathlib.Path(path), (fields["height"], fields["width"])
    found.accept()
    columns: dict[str, np.ndarray] = {}
    for split in found.splits:
        columns |= {f"{split}/{name}": column for name, column in _decoded(found, split, size).items()}
    about = {
        "format": _FORMAT,
        "splits": list(found.splits),
        "fields": _decisive(data_set, fields),
        "notes": found.notes,
    }
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about)), **columns}
        np.savez(file, **arrays)
    partial.replace(path)


def _decisive(data_set: DataSet, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `config.data` that say which images there are, and of what size."""
    own = {name: fields.get(name, default) for name, default in data_set.fields.items()}
    return {"name": data_set.name, "height": fields["height"], "width": fields["width"], **own}


def _decoded(found: Found, split: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The columns of a split, sorted by path: images uint8 [N, H, W, 3], and N of each of the others."""
    files = sorted(found.kept(split), key=lambda file: file.path)
    images = np.empty((len(files), *size, 3), np.uint8)

    def read(numbered: tuple[int, ImageFile]) -> str:
        number, file = numbered
        data = found.read(file)
        images[number] = resize(read_rgb(data), *size)
        return digest_of(data)

    with concurrent.futures.ThreadPoolExecutor() as readers:
        digests = list(readers.map(read, enumerate(files)))
    return {
        "images": images,
        "identities": np.array([file.identity for file in files], str),
        "cameras": np.array([int(file.camera) for file in files], np.int32),
        "modalities": np.array([MODALITIES.index(file.modality) for file in files], np.int32),
        "paths": np.array([file.path for file in files], str),
        "digests": np.array(digests, str),
    }


@dataclasses.dataclass(frozen=True)
class Exported:
    """What `write` has written.

    Attributes:
      path: of the file.
      splits: names.
      notes: what a reader of a result must know of the data.
    """

    path: pathlib.Path
    splits: tuple[str, ...]
    notes: list[str]

    def images(self, splits: Sequence[str]) -> ImageSet:
        """The images of some splits together, sorted by path; identities are ranked over the whole.

        Raises:
          UserError: the file has no such split, or is damaged.
        """
        if missing := sorted(set(splits) - set(self.splits)):
            raise UserError(f"split {', '.join(missing)}: {self.path} has only {', '.join(self.splits)}")
        parts = [_read(self.path, [f"{split}/{name}" for name in _COLUMNS]) for split in splits]
        # A single split is not copied: it may be most of the memory.
        join = functools.partial(np.concatenate, axis=0) if len(parts) > 1 else lambda columns: columns[0]
        images, names, cameras, modalities, paths, digests = map(join, zip(*parts, strict=True))
        identity_names, identities = np.unique(names, return_inverse=True)
        image_set = ImageSet(
            images=images,
            identities=identities.astype(np.int32),
            cameras=cameras,
            modalities=modalities,
            paths=paths.astype(object),
            identity_names=tuple(identity_names.tolist()),
            file_digests=digests.astype(object),
        )
        return image_set if len(parts) == 1 else image_set.select(np.argsort(paths))


def opened(path: str | os.PathLike, data_set: DataSet, fields: Mapping[str, Any]) -> Exported:
    """The file of a data set.

    Args:
      path: of the file.
      data_set: whose images it must hold.
      fields: of `config.data`, which it must have been written with.

    Raises:
      UserError: it is missing or damaged, or holds something else.
    """
    path = pathlib.Path(path).expanduser()
    about = json.loads(str(_read(path, ["about"])[0]))
    if about["format"] != _FORMAT:
        raise UserError(f"config.data.memory={path} is of another version of jax_mspac: write it again")
    held, wanted = about["fields"], _decisive(data_set, fields)
    differing = [name for name in wanted if held.get(name) != wanted[name]]
    if differing:
        told = (f"{name} {held.get(name)!r}, where config.data.{name} is {wanted[name]!r}" for name in differing)
        raise UserError(
            f"config.data.memory={path} was written with {'; '.join(told)}: change one of both, this file with "
            "python -m jax_mspac.prepare --export and flags of these names"
        )
    return Exported(path, tuple(about["splits"]), about["notes"])


def _read(path: pathlib.Path, names: Sequence[str]) -> list[np.ndarray]:
    try:
        # numpy leaves a file open that it does not understand.
        with path.open("rb") as opened_file, np.load(opened_file) as file:
            return [file[name] for name in names]
    except FileNotFoundError:
        raise UserError(
            f"config.data.memory={path}: no such file; python -m jax_mspac.prepare --export={path} writes it"
        ) from None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"config.data.memory={path} is no file of jax_mspac.prepare --export, or damaged ({error}): write it again"
        ) from None
