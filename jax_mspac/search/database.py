"""The database of an index: its tables, transactions, and errors that say what to do."""

import contextlib
import errno
import os
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jax_mspac.errors import UserError

FILE = "index.sqlite"
# "jmsi", so that another program's database is not taken for an index; and the version of the tables.
_APPLICATION, _VERSION = 0x6A6D7369, 1
_TABLES = (
    """
    CREATE TABLE entries (
      position INTEGER PRIMARY KEY,
      path TEXT NOT NULL UNIQUE,
      digest TEXT NOT NULL,
      modality TEXT NOT NULL,
      camera TEXT,
      time REAL,
      metadata TEXT NOT NULL
    )
    """,
    "CREATE INDEX entries_by_filter ON entries (camera, time, modality)",
    # Rows of features that had an entry once, and whether they have been overwritten since.
    "CREATE TABLE gaps (position INTEGER PRIMARY KEY, erased INTEGER NOT NULL)",
    "CREATE TRIGGER removed AFTER DELETE ON entries BEGIN INSERT INTO gaps VALUES (OLD.position, 0); END",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
# For another process to end its transaction.
_PATIENCE_SECONDS = 120
# What SQLite says of the disk -> what the system calls it.
_SYSTEM = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}


class Database:
    """SQLite in the folder of an index, in transactions that survive the end of the process and a loss of power.

    Args:
      folder: made if it is missing and `create` is set.
      create: whether to begin an index where there is none.

    Raises:
      UserError: there is no index in the folder, the folder holds other files, or it is not of this version.
    """

    def __init__(self, folder: pathlib.Path, *, create: bool):
        self._path = folder / FILE
        if not self._path.exists():
            _check_free(folder, create)
            folder.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS, isolation_level=None)
        try:
            # What was removed shall not be read from the file.
            self.rows("PRAGMA secure_delete = ON")
            # A commit is on the disk, and so is the folder's list of files, which a loss of power could set back.
            self.rows("PRAGMA synchronous = EXTRA")
            self._check_format(create)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        """Runs a statement; what it finds."""
        with self._explained():
            return self._connection.execute(statement, values).fetchall()

    def each(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Runs a statement with each of some values."""
        with self._explained():
            self._connection.executemany(statement, values)

    def version(self) -> tuple[int, int]:
        """Changes when this or another process changes the database, unless the change is taken back."""
        return self.rows("PRAGMA data_version")[0][0], self._connection.total_changes

    @contextlib.contextmanager
    def transaction(self, *, writes: bool) -> Iterator[None]:
        """In it the database is that of one moment; no other process writes if this one does. All or nothing."""
        self.rows("BEGIN IMMEDIATE" if writes else "BEGIN")
        try:
            yield
            self.rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _check_format(self, create: bool) -> None:
        versions = self._versions()
        if versions == (0, 0) and create:
            with self.transaction(writes=True):
                if self._versions() == (0, 0):  # no other process was faster
                    for statement in _TABLES:
                        self.rows(statement)
                    self.rows(f"PRAGMA application_id = {_APPLICATION}")
                    self.rows(f"PRAGMA user_version = {_VERSION}")
                versions = self._versions()
        if versions == (0, 0):
            raise UserError(f"{self._path.parent}: no image was ever added to this index; add some first")
        if versions != (_APPLICATION, _VERSION):
            raise UserError(f"{self._path}: not an index of this version of jax_mspac; name another folder")

    def _versions(self) -> tuple[int, int]:
        return tuple(self.rows(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version"))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of SQLite into those of the system, or into one that says what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what an extended code adds
            if number := _SYSTEM.get(code):
                raise OSError(number, os.strerror(number), str(self._path)) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise UserError(
                    f"{self._path}: another process has kept it for {_PATIENCE_SECONDS} s; try again"
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise UserError(
                    f"{self._path}: damaged ({error}); copy it again, or add the images to a new index"
                ) from error
            raise


def _check_free(folder: pathlib.Path, create: bool) -> None:
    """Raises a UserError where no index can begin."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; expected the folder of an index")
    if not create:
        raise UserError(f"{folder}: no index there; python -m jax_mspac.search add makes one")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files and no index; name a new or an empty folder for the index")
