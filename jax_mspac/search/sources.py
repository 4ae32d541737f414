"""Which images to add: files and folders that a user names, and what a table of his tells of them."""

import csv
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from jax_mspac.data import listing
from jax_mspac.errors import UserError
from jax_mspac.search.entries import check_modality, seconds

# Folders in folders that are looked into.
_DEPTH = 64
# Columns of a table that are more than metadata.
PATH, CAMERA, TIME, MODALITY = "path", "camera", "time", "modality"

ImageFiles = str | os.PathLike | Sequence[str | os.PathLike]

# Column -> value, and the time.
_Row = tuple[dict[str, str], float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An image file and what is known of it; see `entries.Entry`. A camera or time of None was not told."""

    path: str
    modality: str
    camera: str | None = None
    time: float | None = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find(
    images: ImageFiles,
    *,
    modality: str | None = None,
    camera: str | None = None,
    time: float | None = None,
    table: str | os.PathLike | None = None,
) -> list[Source]:
    """Lists image files, each once, folder by folder in ascending order.

    Args:
      images: a file or a folder, or several; folders are searched to the bottom.
      modality: of all images of which the table tells none.
      camera: likewise.
      time: likewise; seconds since 1970.
      table: a CSV file with a column "path" (absolute, or relative to the table, to one of the folders or to the
        current folder) and any of "modality", "camera" and "time"; its other columns are metadata.

    Raises:
      UserError: there is no such file or folder, a folder holds no image, the table cannot be read or names none of the
        images, or no modality is known for an image.
    """
    if modality is not None:
        check_modality(modality)
    named = [images] if isinstance(images, str | os.PathLike) else list(images)
    roots = [pathlib.Path(os.path.abspath(os.path.expanduser(one))) for one in named]
    paths = list(dict.fromkeys(path for root in roots for path in _files(root)))
    told = _told(pathlib.Path(table).expanduser(), set(paths), roots) if table is not None else {}
    sources = []
    for path in paths:
        values, when = told.get(path, ({}, None))
        row = dict(values)
        own = row.pop(MODALITY, "") or modality
        if own is None:
            raise UserError(
                f"{path}: visible or infrared? Say so by --modality, or in a column {MODALITY!r} of a table"
            )
        where = row.pop(CAMERA, "") or camera
        when = time if when is None else when
        sources.append(Source(path=path, modality=own, camera=where, time=when, metadata=row))
    return sources


def _files(root: pathlib.Path) -> Iterator[str]:
    """The image files that a name stands for."""
    if root.is_file():
        yield str(root)
    elif root.is_dir():
        found = listing.walk(root, ["."], depth=_DEPTH).images
        if not found:
            raise UserError(
                f"{root}: no image file in this folder or below it; expected files such as .jpg, .png or .tif"
            )
        # Links may lead to one folder by several ways, or in a circle: the first way counts.
        first: dict[str, str] = {}
        real = functools.cache(os.path.realpath)
        for path in (os.path.normpath(root / file.path) for file in found):
            folder = os.path.dirname(path)
            if first.setdefault(real(folder), folder) == folder:
                yield path
    else:
        raise UserError(f"{root}: there is no such file or folder; correct the name")


def _told(table: pathlib.Path, paths: set[str], roots: Sequence[pathlib.Path]) -> dict[str, _Row]:
    """What a table tells of some images, by their paths."""
    told: dict[str, _Row] = {}
    folders = [table.parent, *(root for root in roots if root.is_dir()), pathlib.Path.cwd()]
    for number, row in rows(table, required=[PATH]):
        candidates = (os.path.abspath(folder / row[PATH]) for folder in folders)
        path = next((candidate for candidate in candidates if candidate in paths), None)
        if path is None:
            continue
        try:
            if row.get(MODALITY):
                check_modality(row[MODALITY])
            values = {name: value for name, value in row.items() if name not in (PATH, TIME)}
            told[path] = values, seconds(row.get(TIME))
        except UserError as error:
            raise UserError(f"{table}, line {number}: {error}") from None
    if not told:
        raise UserError(
            f"{table}: its column {PATH!r} names none of the {len(paths)} images; expected paths that are absolute, or "
            f"relative to {table.parent}"
        )
    return told


def rows(table: pathlib.Path, *, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers; names of columns in lower case, values without outer spaces.

    Raises:
      UserError: it cannot be read, it lacks a column, or a row has more or fewer values than there are columns.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            names = [
                name.lower() if name.lower() in (PATH, CAMERA, TIME, MODALITY, *required) else name for name in names
            ]
            if missing := [name for name in required if name not in names]:
                raise UserError(
                    f"{table}: no column {missing[0]!r} in its first line; it has {', '.join(names) or 'none'}"
                )
            if len(set(names)) < len(names):
                raise UserError(f"{table}: two columns of one name in its first line ({', '.join(names)}); rename one")
            for values in reader:
                if not any(values):
                    continue
                if len(values) != len(names):
                    raise UserError(
                        f"{table}, line {reader.line_num}: {len(values)} values; expected {len(names)}, one per column"
                    )
                yield reader.line_num, dict(zip(names, (value.strip() for value in values), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{table}: cannot be read as a table ({reason}); expected a CSV file in UTF-8") from error
