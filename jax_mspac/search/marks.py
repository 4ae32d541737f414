"""What people say of hits, right or wrong: kept in the database of the index, as long as the entry is."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TextIO

from jax_mspac.search.base import Mark
from jax_mspac.search.database import Database
from jax_mspac.search.entries import time_text

RIGHT, WRONG = "right", "wrong"
VERDICTS = (RIGHT, WRONG)
_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS marks (
      query TEXT NOT NULL,
      names TEXT NOT NULL,
      query_modality TEXT NOT NULL,
      path TEXT NOT NULL,
      similarity REAL NOT NULL,
      verdict TEXT NOT NULL,
      marked REAL NOT NULL,
      PRIMARY KEY (query, path)
    )
    """,
    # What was said of an entry goes with it, and so it does where its file has changed.
    "CREATE TRIGGER IF NOT EXISTS unmarked AFTER DELETE ON entries BEGIN DELETE FROM marks WHERE path = OLD.path; END",
)
COLUMNS = (
    "marked",
    "verdict",
    "query",
    "names",
    "query_modality",
    "path",
    "digest",
    "modality",
    "camera",
    "time",
    "similarity",
)


class Marks:
    """The marks of an index in a folder: a `base.Marks`. Use as a context manager, in one thread.

    Args:
      folder: of the index.

    Raises:
      UserError: there is no index.
    """

    def __init__(self, folder: str | os.PathLike):
        self._database = Database(pathlib.Path(folder).expanduser(), create=False)

    def __enter__(self) -> "Marks":
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def put(self, mark: Mark) -> None:
        """Keeps a mark, in place of the one of the same query and entry; it is on the disk when this returns.

        Nothing is kept where the entry is gone.
        """
        values = [getattr(mark, field.name) for field in dataclasses.fields(Mark)]
        with self._database.transaction(writes=True):
            for statement in _TABLES:
                self._database.rows(statement)
            there = self._database.rows("SELECT 1 FROM entries WHERE path = ?", [mark.path])
            if there:
                self._database.rows(f"INSERT OR REPLACE INTO marks VALUES ({','.join('?' * len(values))})", values)

    def withdraw(self, query: str, path: str) -> None:
        """Forgets what was said of an entry as an answer to a query, if anything was."""
        if self._exist():
            with self._database.transaction(writes=True):
                self._database.rows("DELETE FROM marks WHERE query = ? AND path = ?", [query, path])

    def of(self, query: str) -> dict[str, str]:
        """Path -> verdict of what was said of the entries that a query found."""
        if not self._exist():
            return {}
        return dict(self._database.rows("SELECT path, verdict FROM marks WHERE query = ?", [query]))

    def rows(self) -> list[tuple]:
        """All marks in the order in which they were made, with the labels of their entries: see `COLUMNS`."""
        if not self._exist():
            return []
        return self._database.rows(
            f"SELECT {','.join(COLUMNS)} FROM marks JOIN entries USING (path) ORDER BY marked, query, path"
        )

    def _exist(self) -> bool:
        """Whether anything was ever marked; what only reads makes no table."""
        return bool(self._database.rows("SELECT 1 FROM sqlite_master WHERE name = 'marks'"))


def write_csv(rows: Sequence[tuple], file: TextIO) -> None:
    """Writes marks as a table: times as ISO 8601 in UTC, similarities with six digits.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        values = dict(zip(COLUMNS, row, strict=True))
        values |= {name: time_text(values[name]) for name in ("marked", "time")}
        values["similarity"] = f"{values['similarity']:.6f}"
        writer.writerow([_plain(values[name]) if name != "similarity" else values[name] for name in COLUMNS])


def _plain(value: str | None) -> str:
    text = value or ""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
