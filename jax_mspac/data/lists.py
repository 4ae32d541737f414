"""The lists that come with published data sets: which image is of which split, and under which label."""

import collections
import itertools
import pathlib
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jax_mspac.data import listing
from jax_mspac.errors import UserError

COPY_AGAIN = "copy it again from the original archive"


class Entry(NamedTuple):
    """A line of a list: an image that exists, the number of its folder (four digits), and its label."""

    path: str
    identity: str
    label: int


def read_list(root: pathlib.Path, name: str, top: str, paths: Iterable[str]) -> tuple[list[Entry], list[str]]:
    """Reads a list of lines `<relative path> <label>`; the path must be `<top>/<identity number>/<image>`.

    Args:
      root: the folder of the set.
      name: the list, relative to `root`.
      top: the folder that the images must be in.
      paths: all images, relative to `root`. Suffixes match in any case.

    Returns:
      The entries, and one line per problem.
    """
    try:
        lines = (root / name).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return [], [f"{name}: no such file; {COPY_AGAIN}"]
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"{name}: cannot be read as text ({error}); {COPY_AGAIN}"]
    there = {_with_lower_suffix(path): path for path in paths}
    entries: dict[str, Entry] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        if not (match := re.fullmatch(r"(.+?)\s+(\d{1,9})", line.strip())):
            problems.append(f"{where}: expected `<relative path> <label>`, found {line.strip()[:100]!r}; mend it")
            continue
        path = posixpath.normpath(match[1].replace("\\", "/"))
        parts = path.split("/")
        actual = there.get(_with_lower_suffix(path))
        if parts[0] in ("", ".."):
            problems.append(f"{where}: {path} leaves the folder of the data set; write the path relative to it")
        elif len(parts) != 3 or parts[0] != top or not parts[1].isdecimal():
            problems.append(f"{where}: {path} is not of the form {top}/<identity number>/<image>; mend it")
        elif actual is None:
            problems.append(f"{where}: there is no image {path}; {COPY_AGAIN}, or delete the line")
        elif actual in entries:
            problems.append(f"{where}: {path} is listed a second time; delete the line")
        else:
            entries[actual] = Entry(actual, f"{int(parts[1]):04d}", int(match[2]))
    if not entries and not problems:
        problems.append(f"{name}: the list is empty; {COPY_AGAIN}")
    return list(entries.values()), listing.shorten(problems)


def label_problems(lists: str, entries: Iterable[Entry]) -> list[str]:
    """One line per label that stands for several identities, or the reverse, and per gap in the labels.

    Args:
      lists: the files that the entries are from, for the lines.
      entries: of one split.
    """
    identities_of, labels_of = collections.defaultdict(set), collections.defaultdict(set)
    for entry in entries:
        identities_of[entry.label].add(entry.identity)
        labels_of[entry.identity].add(entry.label)
    problems = [
        f"{lists}: label {label} is given to the identities {', '.join(sorted(identities))}; give each its own"
        for label, identities in sorted(identities_of.items())
        if len(identities) > 1
    ]
    problems += [
        f"{lists}: identity {identity} has the labels {', '.join(map(str, sorted(labels)))}; give it one"
        for identity, labels in sorted(labels_of.items())
        if len(labels) > 1
    ]
    problems += [
        f"{lists}: no line has a label between {low} and {high}; lines of an identity are missing, {COPY_AGAIN}"
        for low, high in itertools.pairwise((0, *sorted(identities_of)))
        if high - low > 1
    ]
    return listing.shorten(problems)


def find_root(source: str, tops: Sequence[str], advice: str) -> pathlib.Path:
    """The folder of a data set with some of the folders `tops`; a UserError with `advice` if there is none."""
    named = listing.root_of(source, advice)
    if root := listing.find_root(named, tops):
        return root
    raise UserError(f"{named}: neither it nor a folder in it holds {' or '.join(tops)}. {advice}")


def stats(root: pathlib.Path, names: Iterable[str]) -> list[listing.File]:
    """Those of the named files that exist, as the fingerprint wants them."""
    found = [(name, (root / name).stat()) for name in names if (root / name).is_file()]
    return [listing.File(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _with_lower_suffix(path: str) -> str:
    stem, suffix = posixpath.splitext(path)
    return stem + suffix.lower()
