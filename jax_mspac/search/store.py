"""An index on the disk: a folder with a database of entries and a file of their features.

`index.sqlite` is the truth. It says which row of `features.f32` (little-endian float32, rows of equal length) belongs
to an entry. Features are written first, to rows that no entry has, and are on the disk before the transaction that
names them commits. So a process that ends at any moment leaves whole entries, and at most rows that nobody knows.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.search.base import DETECTED, Rows
from jax_mspac.search.database import Database
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.marks import Marks

FEATURES = "features.f32"
# A row has fewer digits.
_MOST_DIGITS = 15
_COLUMNS = "path, digest, modality, camera, time, metadata"
_FLOAT = np.dtype("<f4")
# Footage that an entry is part of is searched anew when it is added again.
_FORGET_DETECTED = f"""
    DELETE FROM facts WHERE name GLOB '{DETECTED}*' AND EXISTS (
      SELECT 1 FROM entries WHERE position = ? AND (
        substr(path, 1, length(name) - {len(DETECTED) - 1}) = substr(name, {len(DETECTED) + 1}) || '#'
        OR substr(path, 1, length(name) - {len(DETECTED) - 1}) = substr(name, {len(DETECTED) + 1}) || '/'
      )
    )
"""


class Store:
    """The folder of an index: a `base.Store`. Use as a context manager, or call `close`.

    Several processes may read and write at once: a write is a transaction that waits for its turn.

    Args:
      folder: made if it is missing and `create` is set.
      create: whether to begin an index where there is none.

    Raises:
      UserError: there is no index in the folder, the folder holds other files, or it is not of this version.
    """

    def __init__(self, folder: str | os.PathLike, *, create: bool):
        self.folder = pathlib.Path(folder).expanduser()
        self._database = Database(self.folder, create=create)
        self._features: np.ndarray | None = None
        # The last selection, and what it depends on.
        self._selected: tuple[Any, np.ndarray] | None = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the files."""
        self._database.close()
        self._features = None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.folder.resolve())

    def another(self) -> "Store":
        """The same store for another thread. May be called in any."""
        return Store(self.folder, create=False)

    def marks(self) -> Marks:
        """The marks of the index. May be called in any thread."""
        return Marks(self.folder)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """In it the entries and their features are those of one moment, whatever other processes write."""
        with self._database.transaction(writes=False):
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """In it no other process writes; what is written inside counts when it ends, all or nothing."""
        try:
            with self._database.transaction(writes=True):
                yield
        except BaseException:
            self._selected = None  # it may be of changes that were taken back
            raise

    def begin(self, model: Mapping[str, Any], dimensions: int) -> None:
        """Binds an empty index to a model; else does nothing. Call it under `writing`; `put` notes the dimensions."""
        if self.is_empty():
            self.set_fact("model", model)
            self.set_fact("thresholds", None)

    def fact(self, name: str) -> Any:
        """A fact about the index, as JSON values; None if it is not known."""
        found = self._database.rows("SELECT value FROM facts WHERE name = ?", [name])
        return json.loads(found[0][0]) if found else None

    def set_fact(self, name: str, value: Any) -> None:
        """Keeps a fact, any JSON value; None forgets it. Call it under `writing`."""
        self._database.rows("DELETE FROM facts WHERE name = ?", [name])
        if value is not None:
            self._database.rows("INSERT INTO facts VALUES (?, ?)", [name, json.dumps(value)])

    def is_empty(self) -> bool:
        """Whether there is no entry."""
        return not self._database.rows("SELECT EXISTS (SELECT 1 FROM entries)")[0][0]

    def count(self) -> int:
        """How many entries there are."""
        return self._database.rows("SELECT count(*) FROM entries")[0][0]

    def counts(self) -> dict[tuple[str, str | None], int]:
        """How many entries there are of each (modality, camera), ascending."""
        rows = self._database.rows(
            "SELECT modality, camera, count(*) FROM entries GROUP BY modality, camera ORDER BY 1, 2"
        )
        return {(modality, camera): count for modality, camera, count in rows}

    def times(self) -> tuple[float | None, float | None]:
        """The earliest and the latest time of an entry."""
        return self._database.rows("SELECT min(time), max(time) FROM entries")[0]

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def positions(self, wanted: Filter) -> np.ndarray:
        """The rows of the features of the entries that fit a filter: int64, ascending."""
        version = (*self._database.version(), wanted)
        if self._selected is None or self._selected[0] != version:
            where, values = _where(wanted)
            found = self._database.rows(f"SELECT position FROM entries{where} ORDER BY position", values)
            self._selected = version, np.fromiter((position for (position,) in found), np.int64, len(found))
        return self._selected[1]

    def matching(self, wanted: Filter) -> list[Entry]:
        """The entries that fit a filter, in the order of their rows."""
        return self.entries(self.positions(wanted))

    def entries(self, rows: Rows) -> list[Entry]:
        """The entries at some rows, in their order; a KeyError where one is gone."""
        found: dict[int, Entry] = {}
        for part in _parts(positions := _numbers(rows)):
            marks = ",".join("?" * len(part))
            there = self._database.rows(f"SELECT position, {_COLUMNS} FROM entries WHERE position IN ({marks})", part)
            found |= {one[0]: _entry(one[1:]) for one in there}
        return [found[position] for position in positions]

    def row_of(self, text: str) -> int | None:
        """The row that was written as a text; None for other texts."""
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None

    def at(self, paths: Sequence[str]) -> dict[str, tuple[int, Entry]]:
        """The row and the entry of each path that is in the index."""
        found: dict[str, tuple[int, Entry]] = {}
        for part in _parts(paths):
            marks = ",".join("?" * len(part))
            rows = self._database.rows(f"SELECT position, {_COLUMNS} FROM entries WHERE path IN ({marks})", part)
            found |= {row[1]: (row[0], _entry(row[1:])) for row in rows}
        return found

    def below(self, path: str) -> list[int]:
        """The rows of the entries whose files lie in a folder or below it, or that are part of a file; see `crops`."""
        # Text is compared by its bytes; "0" is what follows "/", and "$" what follows "#".
        start = path.rstrip("/")
        ends = [start + end for end in ("/", "0", "#", "$")]
        found = self._database.rows(
            "SELECT position FROM entries WHERE (path > ? AND path < ?) OR (path > ? AND path < ?)", ends
        )
        return [position for (position,) in found]

    def features(self) -> np.ndarray:
        """All rows, float32 [rows, D], mapped into memory; what rows without an entry hold means nothing."""
        path, dimensions = self.folder / FEATURES, self.fact("dimensions") or 1
        rows = path.stat().st_size // (_FLOAT.itemsize * dimensions) if path.exists() else 0
        if not rows:
            return np.empty((0, dimensions), _FLOAT)
        if self._features is None or self._features.shape != (rows, dimensions):
            self._features = np.asarray(np.memmap(path, _FLOAT, "r", shape=(rows, dimensions)))
        return self._features

    def features_of(self, rows: Rows) -> np.ndarray:
        """The features of the entries at some rows, float32 [N, D]."""
        return self.features()[np.array(_numbers(rows), np.int64)]

    def nearest(self, feature: np.ndarray, wanted: Filter, *, top: int) -> list[tuple[Entry, float]]:
        """Entries that fit a filter and their cosines with a feature, by exact search. Call it under `reading`.

        Args:
          feature: float [1, D], of length 1.
          wanted: the filter.
          top: how many; fewer where fewer fit.

        Returns:
          In descending similarity, equal ones in the order of their rows.
        """
        from jax_mspac.metrics.search import search  # JAX takes a second to import, and a list goes without it

        features, positions = self.features(), self.positions(wanted)
        if not positions.size:
            return []
        without_gaps = positions[-1] + 1 == positions.size
        gallery: Any = features[: positions.size] if without_gaps else _Rows(features, positions)
        similarities, found = search(feature, gallery, k=min(top, positions.size))
        return list(zip(self.entries(positions[found[0]]), similarities[0].tolist(), strict=True))

    def put(self, entries: Sequence[Entry], features: np.ndarray) -> None:
        """Adds entries, each in place of the one with its path if there is one. Call it under `writing`.

        Args:
          entries: of different paths.
          features: float32 [N, D]; D is that of the entries that are there.

        Raises:
          ValueError: D is not.
        """
        if self.is_empty():
            self.set_fact("dimensions", features.shape[1])
        if features.shape != (len(entries), self.fact("dimensions")):
            raise ValueError(
                f"features {features.shape} of {len(entries)} entries, {self.fact('dimensions')} numbers each"
            )
        # Never a row that an entry has, though it be replaced here: until this is committed, the old one counts.
        gaps = [row for (row,) in self._database.rows("SELECT position FROM gaps ORDER BY 1 LIMIT ?", [len(entries)])]
        last = self._database.rows(
            "SELECT max(p) FROM (SELECT max(position) p FROM entries UNION SELECT max(position) FROM gaps)"
        )
        end = 0 if last[0][0] is None else last[0][0] + 1
        rows = [*gaps, *range(end, end + len(entries) - len(gaps))]
        self._write(rows, features)
        self._database.each("DELETE FROM gaps WHERE position = ?", [[row] for row in gaps])
        self._database.each("DELETE FROM entries WHERE path = ?", [[entry.path] for entry in entries])
        values = [[row, *_values(entry)] for row, entry in zip(rows, entries, strict=True)]
        self._database.each(f"INSERT INTO entries (position, {_COLUMNS}) VALUES (?,?,?,?,?,?,?)", values)

    def relabel(self, entries: Sequence[Entry]) -> None:
        """Gives entries that are there another camera, time or metadata. Call it under `writing`."""
        self._database.each(
            "UPDATE entries SET camera = ?, time = ?, metadata = ? WHERE path = ?",
            [[*_values(entry)[3:], entry.path] for entry in entries],
        )

    def remove(self, rows: Rows) -> None:
        """Removes the entries at some rows, and erases their features."""
        positions = [[row] for row in _numbers(rows)]
        with self.writing():
            if self._database.rows("SELECT EXISTS (SELECT 1 FROM facts WHERE name GLOB ?)", [DETECTED + "*"])[0][0]:
                self._database.each(_FORGET_DETECTED, positions)
            self._database.each("DELETE FROM entries WHERE position = ?", positions)
        # Only now: until the entries were gone for good, their features had to be there.
        self.erase()

    def erase(self) -> None:
        """Overwrites features of entries that were removed or replaced: those that an interrupted removal left, too."""
        with self.writing():
            rows = [row for (row,) in self._database.rows("SELECT position FROM gaps WHERE NOT erased ORDER BY 1")]
            self._write(rows, np.zeros((len(rows), self.fact("dimensions") or 1), _FLOAT))
            self._database.rows("UPDATE gaps SET erased = 1")

    def _write(self, rows: Sequence[int], features: np.ndarray) -> None:
        """Writes features, [N, D], to ascending rows; they are on the disk when this returns."""
        if not len(rows):
            return
        features = np.ascontiguousarray(features, _FLOAT)
        with open(os.open(self.folder / FEATURES, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
                file.seek(rows[run[0]] * features.shape[1] * _FLOAT.itemsize)
                file.write(features[run[0] : run[-1] + 1].data)
            file.flush()
            os.fsync(file.fileno())


class _Rows:
    """Some rows of features, copied block by block as they are asked for."""

    def __init__(self, features: np.ndarray, positions: np.ndarray):
        self._features, self._positions = features, positions
        self.shape, self.ndim = (len(positions), features.shape[1]), 2

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, block: slice) -> np.ndarray:
        return self._features.take(self._positions[block], axis=0)


def _where(wanted: Filter) -> tuple[str, list[Any]]:
    """The condition of a filter in SQL, and its values."""
    marks = ",".join("?" * len(wanted.cameras))
    conditions: dict[str, list[Any]] = {
        f"camera IN ({marks})": list(wanted.cameras),
        "time >= ?": [] if wanted.since is None else [wanted.since],
        "time < ?": [] if wanted.until is None else [wanted.until],
        "modality = ?": [] if wanted.modality is None else [wanted.modality],
    }
    given = {condition: values for condition, values in conditions.items() if values}
    where = " WHERE " + " AND ".join(given) if given else ""
    return where, [value for values in given.values() for value in values]


def _values(entry: Entry) -> list[Any]:
    metadata = json.dumps(dict(entry.metadata), ensure_ascii=False)
    return [entry.path, entry.digest, entry.modality, entry.camera, entry.time, metadata]


def _entry(columns: Sequence[Any]) -> Entry:
    path, digest, modality, camera, time, metadata = columns
    return Entry(path=path, digest=digest, modality=modality, camera=camera, time=time, metadata=json.loads(metadata))


def _numbers(rows: Rows) -> list[int]:
    return rows.tolist() if isinstance(rows, np.ndarray) else list(map(int, rows))


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Some values at a time, fewer than a statement of SQLite may have."""
    return (values[start : start + 500] for start in range(0, len(values), 500))
