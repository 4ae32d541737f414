"""What an index needs of a store of entries, features and marks; `stores.opened` knows which stores there are."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jax_mspac.search.entries import Entry, Filter

# What a store knows an entry by: a number, or an id. It says nothing outside of its store.
Row = int | str
Rows = Iterable[Row] | np.ndarray
# What begins the name of a fact about the footage with this path: which of its frames a detector has searched.
DETECTED = "detected "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """What was said of a hit.

    Attributes:
      query: SHA-256 that tells apart queries, in hexadecimal: of the digests of its images and its modality.
      names: the file names of its images, as they were uploaded, or the path of the entry that was searched by.
      query_modality: "visible" or "infrared", of the query.
      path: of the entry.
      similarity: what the hit had.
      verdict: "right" or "wrong".
      marked: when, in seconds since 1970-01-01 UTC.
    """

    query: str
    names: str
    query_modality: str
    path: str
    similarity: float
    verdict: str
    marked: float


class Marks(Protocol):
    """The marks of an index, each as long as its entry is there unchanged. A context manager, in one thread."""

    def __enter__(self) -> "Marks": ...

    def __exit__(self, *error: object) -> None: ...

    def put(self, mark: Mark) -> None:
        """Keeps a mark in place of the one of the same query and entry; nothing where the entry is gone."""

    def withdraw(self, query: str, path: str) -> None:
        """Forgets what was said of an entry as an answer to a query, if anything was."""

    def of(self, query: str) -> dict[str, str]:
        """Path -> verdict of what was said of the entries that a query found."""

    def rows(self) -> list[tuple]:
        """All marks in the order in which they were made, with the labels of their entries: see `marks.COLUMNS`."""


class Store(Protocol):
    """The entries of an index, one for each path, with their features. Several processes may read and write at once."""

    @property
    def place(self) -> str:
        """Where it is, for people."""

    @property
    def folder(self) -> pathlib.Path | None:
        """Where processes that add together leave shards; None where each of them writes to the store itself."""

    def close(self) -> None:
        """Lets go of files and connections."""

    def another(self) -> "Store":
        """The same store for another thread. May be called in any."""

    def marks(self) -> Marks:
        """The marks of the index. May be called in any thread."""

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Around what is read together."""

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Around what is written together."""

    def begin(self, model: Mapping[str, Any], dimensions: int) -> None:
        """Binds an empty index to a model, the fact "model", and features of so many numbers; else does nothing."""

    def fact(self, name: str) -> Any:
        """A fact about the index, as JSON values; None if it is not known."""

    def set_fact(self, name: str, value: Any) -> None:
        """Keeps a fact, any JSON value; None forgets it. Call it under `writing`."""

    def is_empty(self) -> bool:
        """Whether there is no entry."""

    def count(self) -> int:
        """How many entries there are."""

    def counts(self) -> dict[tuple[str, str | None], int]:
        """How many entries there are of each (modality, camera), ascending."""

    def times(self) -> tuple[float | None, float | None]:
        """The earliest and the latest time of an entry."""

    def size(self) -> int | None:
        """Bytes on the disk; None where nobody tells."""

    def positions(self, wanted: Filter) -> Rows:
        """The rows of the entries that fit a filter."""

    def matching(self, wanted: Filter) -> list[Entry]:
        """The entries that fit a filter."""

    def entries(self, rows: Rows) -> list[Entry]:
        """The entries at some rows, in their order; a KeyError where one is gone."""

    def row_of(self, text: str) -> Row | None:
        """The row that was written as a text; None for other texts."""

    def at(self, paths: Sequence[str]) -> Mapping[str, tuple[Row, Entry]]:
        """The row and the entry of each path that is in the index."""

    def below(self, path: str) -> Sequence[Row]:
        """The rows of the entries whose files lie in a folder or below it, or that are part of a file; see `crops`."""

    def features_of(self, rows: Rows) -> np.ndarray:
        """The features of the entries at some rows, float32 [N, D]."""

    def nearest(self, feature: np.ndarray, wanted: Filter, *, top: int) -> list[tuple[Entry, float]]:
        """Entries that fit a filter and their cosines with a feature: the `top` highest, descending, by exact search.

        The feature is [1, D], of length 1.
        """

    def put(self, entries: Sequence[Entry], features: np.ndarray) -> None:
        """Adds entries and their features, float32 [N, D], each in place of the one with its path if there is one.

        Call it under `writing`, after `begin`. The entries are of different paths.
        """

    def relabel(self, entries: Sequence[Entry]) -> None:
        """Gives entries that are there another camera, time or metadata. Call it under `writing`."""

    def remove(self, rows: Rows) -> None:
        """Removes the entries at some rows, with their features and marks."""

    def erase(self) -> None:
        """Erases what an interrupted removal left."""
