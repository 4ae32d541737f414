"""What lies under the folder of a data set: its image files, their fingerprint, and which of them are broken."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tqdm

from jax_mspac.data import images
from jax_mspac.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class File(NamedTuple):
    """A file below a root: its path relative to the root with forward slashes, size in bytes and time of change."""

    path: str
    size: int
    mtime_ns: int


class Listing(NamedTuple):
    """What `walk` found, each sorted: image files, other files, and all folders (relative paths)."""

    images: list[File]
    others: list[File]
    folders: list[str]


def root_of(source: str, layout: str) -> pathlib.Path:
    """The folder that `config.data.source` names; raises a UserError that explains the layout if there is none."""
    if not source:
        raise UserError(f"config.data.source is empty: it must name the folder with the images. {layout}")
    root = pathlib.Path(source).expanduser()
    if not root.is_dir():
        raise UserError(f"config.data.source is {root}: there is no such folder. {layout}")
    return root


def walk(root: pathlib.Path, tops: Iterable[str], *, depth: int) -> Listing:
    """Lists what lies in the folders `tops` of `root` and up to `depth` folders below each of them.

    Hidden files and folders, Thumbs.db and symbolic links that lead nowhere are passed over; suffixes of images count
    in any case. A top folder that does not exist is empty.

    Raises:
      UserError: a folder may not be read.
    """
    listing = Listing([], [], [])
    try:
        for top in tops:
            _scan(root / top, top, depth, listing)
    except PermissionError as error:
        raise UserError(f"{error.filename}: no permission to read this folder") from error
    for found in listing:
        found.sort()
    return listing


def fingerprint(root: pathlib.Path, files: Sequence[File], options: Mapping[str, Any] | None = None) -> str:
    """A short name for exactly this content: it changes with the place, any listed file, and any option."""
    content = json.dumps([os.fspath(root.resolve()), options, files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def broken_images(root: pathlib.Path, paths: Sequence[str]) -> list[str]:
    """Reads every image in full and returns one line for each that cannot be stored, in the order of `paths`."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # the decoders of PIL run outside the interpreter lock
        lines = pool.map(lambda path: _problem_of(root / path), paths)
        progress = tqdm.tqdm(lines, desc="Checking images", total=len(paths), unit=" images", leave=False, disable=None)
        return [line for line in progress if line]


def report(heading: str, problems: Sequence[str], advice: str = "") -> UserError:
    """The error that lists all problems found, one per line, between a heading and an advice."""
    lines = [f"{heading}:", *(f"  - {problem}" for problem in problems), advice]
    return UserError("\n".join(line for line in lines if line))


def shorten(items: Sequence[str], limit: int = 20) -> list[str]:
    """The first `limit` items, and a count of the others."""
    rest = len(items) - limit
    return [*items[:limit], *([f"... and {rest} more"] if rest > 0 else [])]


def _scan(folder: pathlib.Path, path: str, depth: int, listing: Listing) -> None:
    for entry in _entries(folder):
        below = f"{path}/{entry.name}"
        if entry.is_dir():
            listing.folders.append(below)
            if depth > 0:
                _scan(folder / entry.name, below, depth - 1, listing)
        elif entry.is_file():
            stat = entry.stat()
            is_image = entry.name.lower().endswith(IMAGE_SUFFIXES)
            (listing.images if is_image else listing.others).append(File(below, stat.st_size, stat.st_mtime_ns))


def _entries(folder: pathlib.Path) -> Iterator[os.DirEntry]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() != "thumbs.db")


def _problem_of(path: pathlib.Path) -> str | None:
    try:
        os.fspath(path).encode()
        images.stored_bytes(path)
    except UnicodeEncodeError:
        return f"{os.fspath(path)!r}: the name is not UTF-8 text; rename it"
    except UserError as error:
        return str(error)
    return None
