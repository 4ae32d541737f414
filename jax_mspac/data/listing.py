"""What lies under the folder of a data set: its root, its image files, and their fingerprint."""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jax_mspac.errors import UserError

# Of the formats for photographs that Pillow reads.
IMAGE_SUFFIXES = tuple(
    ".apng .avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .pbm .pcx .pgm .png .pnm .ppm .sgi .tga .tif .tiff "
    ".webp".split()
)

_CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")
# How a user names the folder, for errors.
_SOURCE = "--source (of jax_mspac.prepare) or --config.data.source (of jax_mspac.main)"


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
    """The folder that the user names; raises a UserError that explains the layout if there is none."""
    if not source:
        raise UserError(f"no folder with the images is named; {_SOURCE} does. {layout}")
    root = pathlib.Path(source).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; correct {_SOURCE}. {layout}")
    return root


def find_root(source: pathlib.Path, tops: Sequence[str]) -> pathlib.Path | None:
    """The folder of a data set: `source`, or one up to two levels below it, where archives unpack to.

    Args:
      source: an existing folder.
      tops: folders of which the data set has one or more; of several folders on one level the one with most counts.

    Returns:
      The folder, or None if no folder holds any of `tops`.

    Raises:
      UserError: it cannot be told which of several folders is meant.
    """
    level = [source]
    for _ in range(3):
        numbers = {folder: sum(os.path.isdir(folder / top) for top in tops) for folder in level}
        most = max(numbers.values(), default=0)
        best = [folder for folder, number in numbers.items() if number == most]
        if most and len(best) > 1:
            raise UserError(
                f"{source}: several folders in it look like the data set: {', '.join(shorten([*map(str, best)], 4))}. "
                f"Name one of them by {_SOURCE}"
            )
        if most:
            return best[0]
        level = [below for folder in level for below in folders(folder)]
    return None


def missing_folders(root: pathlib.Path, tops: Iterable[str]) -> list[str]:
    """One line for each folder that `root` lacks; it names one that differs in upper and lower case only."""
    spelled = {folder.name.lower(): folder.name for folder in folders(root)}
    return [
        f"{root / top}: no such folder; "
        + (f"rename {spelled[top.lower()]} to {top}" if top.lower() in spelled else "copy it from the original archive")
        for top in tops
        if not (root / top).is_dir()
    ]


def unknown_cameras(root: pathlib.Path, inside: str, cameras: Sequence[str]) -> list[str]:
    """One line for each folder of `root / inside` that is called like a camera, is none, and holds images."""
    names = [folder.name for folder in folders(root / inside)]
    strange = [name for name in names if name not in cameras and re.fullmatch(r"cam(era)?[ ._-]?\d+", name, re.I)]
    prefix = f"{inside}/" if inside else ""
    found = {name: len(walk(root, [f"{prefix}{name}"], depth=1).images) for name in strange}
    return [
        f"{root / prefix / name}: there is no such camera, but {number} images are in it; rename it to its camera "
        f"({cameras[0]} to {cameras[-1]}), or move it out of {root}"
        for name, number in found.items()
        if number
    ]


def walk(root: pathlib.Path, tops: Iterable[str], *, depth: int) -> Listing:
    """Lists what lies in the folders `tops` of `root` and up to `depth` folders below each of them.

    Hidden files and folders, what Windows and macOS leave behind (Thumbs.db, __MACOSX) and symbolic links that lead
    nowhere are passed over; suffixes of images count in any case. A top folder that does not exist is empty.

    Raises:
      UserError: a folder may not be read.
    """
    listing = Listing([], [], [])
    try:
        for top in tops:
            _scan(root / top, top, depth, listing)
    except PermissionError as error:
        raise UserError(f"{error.filename}: no permission to read this folder; change its access rights") from error
    for found in listing:
        found.sort()
    return listing


def fingerprint(root: pathlib.Path, files: Sequence[File], options: Mapping[str, Any] | None = None) -> str:
    """A short name for exactly this content: it changes with the place, any listed file, and any option."""
    content = json.dumps([os.fspath(root.resolve()), options, files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


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
        yield from (e for e in entries if not e.name.startswith(".") and e.name.lower() not in _CLUTTER)


def folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, sorted; none where access is denied."""
    try:
        return sorted(folder / entry.name for entry in _entries(folder) if entry.is_dir())
    except PermissionError:
        return []
