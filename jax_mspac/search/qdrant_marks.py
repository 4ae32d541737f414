"""What people say of hits, right or wrong, where the index is on a Qdrant server: points beside those of entries."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from qdrant_client import models

from jax_mspac.search.base import Mark
from jax_mspac.search.entries import Entry
from jax_mspac.search.marks import COLUMNS
from jax_mspac.search.qdrant_collection import ENTRY, MARK, Collection, id_of, selected


class QdrantMarks:
    """The marks of an index: a `base.Marks`, for any thread.

    A mark is of an entry as it was: it does not count where the entry is gone or its file has changed, even if it was
    made in the moment before.

    Args:
      collection: of the index.
    """

    def __init__(self, collection: Collection):
        self._collection = collection

    def __enter__(self) -> "QdrantMarks":
        return self

    def __exit__(self, *error: object) -> None:
        pass  # the connection is the store's

    def put(self, mark: Mark) -> None:
        """Keeps a mark in place of the one of the same query and entry; nothing where the entry is gone."""
        for point in self._collection.points([id_of(ENTRY, mark.path)], ENTRY).values():
            of = _state(entry_of(point.payload))
            payload = {"kind": MARK, **dataclasses.asdict(mark), "of": of}
            self._collection.put([models.PointStruct(id=_id_of(mark.query, mark.path), vector={}, payload=payload)])

    def withdraw(self, query: str, path: str) -> None:
        """Forgets what was said of an entry as an answer to a query, if anything was."""
        self._collection.remove([_id_of(query, path)])

    def of(self, query: str) -> dict[str, str]:
        """Path -> verdict of what was said of the entries that a query found."""
        return {mark["path"]: mark["verdict"] for mark, _ in self._all(query)}

    def rows(self) -> list[tuple]:
        """All marks in the order in which they were made, with the labels of their entries: see `marks.COLUMNS`."""
        found = sorted(self._all(None), key=lambda one: [one[0][name] for name in ("marked", "query", "path")])
        return [tuple({**dataclasses.asdict(entry), **mark}[name] for name in COLUMNS) for mark, entry in found]

    def _all(self, query: str | None) -> Iterator[tuple[dict[str, Any], Entry]]:
        """The marks that count, and their entries."""
        marks = [point.payload or {} for point in self._collection.all(selected(MARK, query=query))]
        points = self._collection.points({id_of(ENTRY, mark["path"]) for mark in marks}, ENTRY)
        entries = {entry.path: entry for entry in (entry_of(point.payload) for point in points.values())}
        for mark in marks:
            entry = entries.get(mark["path"])
            if entry and mark["of"] == _state(entry):
                yield mark, entry


def entry_of(payload: Mapping[str, Any] | None) -> Entry:
    """The entry that a point keeps; see `qdrant_store`."""
    kept = payload or {}
    return Entry(
        path=kept["path"],
        digest=kept["digest"],
        modality=kept["modality"],
        camera=kept.get("camera"),
        time=None if kept.get("time") is None else float(kept["time"]),
        metadata=kept.get("metadata") or {},
    )


def _state(entry: Entry) -> str:
    return f"{entry.digest} {entry.modality}"


def _id_of(query: str, path: str) -> str:
    return id_of(MARK, f"{query} {path}")
