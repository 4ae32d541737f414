"""An index on a Qdrant server, for archives that one machine does not hold: `--index qdrant+http://HOST:6333/NAME`.

There are no transactions across points. So each write is made of whole points whose ids follow from what they stand
for, in an order in which every moment is a sound index: entries before the fact that footage was searched, and marks
before the entries that they are of. A process that ends at any moment leaves nothing half, and the same command
stores the rest.
"""

import contextlib
import json
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.search.base import DETECTED, Rows
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.qdrant_collection import ENTRY, FACT, FEATURE, MARK, Collection, id_of, parts, selected
from jax_mspac.search.qdrant_marks import QdrantMarks, entry_of

# Numbers in a request, which becomes some 5 MB of JSON; servers take 32 MB.
_NUMBERS = 2**18
# More cameras than any index has.
_CAMERAS = 10_000


class QdrantStore:
    """The collection of an index: a `base.Store`.

    Args:
      address: such as "qdrant+http://localhost:6333/people".
      create: whether an index may begin there; the collection is made when the first entries come.

    Raises:
      UserError: the address is none, the server does not answer, or there is no index.
    """

    folder: pathlib.Path | None = None

    def __init__(self, address: str, *, create: bool):
        self._collection, self._owner = Collection(address), True
        if self._collection.metadata() is None and not create:
            raise UserError(f"{self.place}: no index there; python -m jax_mspac.search add makes one")

    @property
    def place(self) -> str:
        """Its address."""
        return str(self._collection.address)

    def close(self) -> None:
        """Lets go of the connection."""
        if self._owner:
            self._collection.close()

    def another(self) -> "QdrantStore":
        """The same store for another thread, by the same connection."""
        other = object.__new__(QdrantStore)
        other._collection, other._owner = self._collection, False
        return other

    def marks(self) -> QdrantMarks:
        """The marks of the index."""
        return QdrantMarks(self._collection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Nothing: other processes may write between two answers."""
        yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Nothing: each request counts by itself."""
        yield

    def begin(self, model: Mapping[str, Any], dimensions: int) -> None:
        """Binds the index to a model, for good, unless it is bound."""
        self._collection.make(model, dimensions)

    def fact(self, name: str) -> Any:
        """A fact about the index, as JSON values; None if it is not known."""
        told = self._collection.metadata()
        if told is None or name in told:
            return told and told[name]
        found = self._collection.points([id_of(FACT, name)], FACT)
        return next((json.loads(_payload(point)["value"]) for point in found.values()), None)

    def set_fact(self, name: str, value: Any) -> None:
        """Keeps a fact, any JSON value; None forgets it. Before the index has begun nothing is kept."""
        if self._collection.metadata() is None:
            return
        if value is None:
            self._collection.remove([id_of(FACT, name)])
            return
        payload = {"kind": FACT, "name": name, "value": json.dumps(value)}
        self._collection.put([models.PointStruct(id=id_of(FACT, name), vector={}, payload=payload)])

    def is_empty(self) -> bool:
        """Whether there is no entry."""
        return next(self._all(Filter(), fields=False), None) is None

    def count(self) -> int:
        """How many entries there are."""
        return self._collection.count(selected(ENTRY)) if self._collection.metadata() else 0

    def counts(self) -> dict[tuple[str, str | None], int]:
        """How many entries there are of each (modality, camera), ascending."""
        found: dict[tuple[str, str | None], int] = {}
        for modality in sorted(MODALITIES) if self._collection.metadata() else ():
            condition = selected(ENTRY, modality=modality)
            hits = self._collection.ask("facet", key="camera", facet_filter=condition, limit=_CAMERAS, exact=True).hits
            cameras = {hit.value: hit.count for hit in hits}
            if without := self._collection.count(condition) - sum(cameras.values()):
                found[modality, None] = without
            found |= {(modality, camera): cameras[camera] for camera in sorted(cameras)}
        return found

    def times(self) -> tuple[float | None, float | None]:
        """The earliest and the latest time of an entry."""
        return self._time("asc"), self._time("desc")

    def size(self) -> int | None:
        """Not known: a server does not tell."""
        return None

    def positions(self, wanted: Filter) -> list[str]:
        """The ids of the entries that fit a filter."""
        return [str(point.id) for point in self._all(wanted, fields=False)]

    def matching(self, wanted: Filter) -> list[Entry]:
        """The entries that fit a filter."""
        return [entry_of(_payload(point)) for point in self._all(wanted)]

    def entries(self, rows: Rows) -> list[Entry]:
        """The entries of some ids, in their order; a KeyError where one is gone."""
        ids = list(map(str, rows))
        found = self._collection.points(ids, ENTRY)
        return [entry_of(_payload(found[one])) for one in ids]

    def row_of(self, text: str) -> str | None:
        """The id that was written as a text; None for other texts."""
        try:
            return text if str(uuid.UUID(text)) == text else None
        except ValueError:
            return None

    def at(self, paths: Sequence[str]) -> dict[str, tuple[str, Entry]]:
        """The id and the entry of each path that is in the index."""
        if self._collection.metadata() is None:
            return {}
        found = self._collection.points([id_of(ENTRY, path) for path in paths], ENTRY)
        entries = {one: entry_of(_payload(point)) for one, point in found.items()}
        return {entry.path: (one, entry) for one, entry in entries.items()}

    def below(self, path: str) -> list[str]:
        """The ids of the entries whose files lie in a folder or below it, or that are part of a file; see `crops`."""
        if self._collection.metadata() is None:
            return []
        condition = selected(ENTRY, within=path.rstrip("/"))
        return [str(point.id) for point in self._collection.all(condition, fields=False)]

    def features_of(self, rows: Rows) -> np.ndarray:
        """The features of the entries of some ids, float32 [N, D]; a KeyError where one is gone."""
        ids = list(map(str, rows))
        found = self._collection.points(ids, ENTRY, features=True)
        vectors: list[Any] = [found[one].vector for one in ids]
        features = np.empty((len(ids), self.fact("dimensions") or 1), np.float32)
        for row, vector in enumerate(vectors):
            features[row] = vector[FEATURE]
        return features

    def nearest(self, feature: np.ndarray, wanted: Filter, *, top: int) -> list[tuple[Entry, float]]:
        """Entries that fit a filter and their cosines with a feature, [1, D] of length 1; the server compares all."""
        found = self._collection.ask(
            "query_points",
            query=feature[0].tolist(),
            using=FEATURE,
            query_filter=_fitting(wanted),
            search_params=models.SearchParams(exact=True),
            limit=top,
            with_payload=True,
        )
        return [(entry_of(point.payload), point.score) for point in found.points]

    def put(self, entries: Sequence[Entry], features: np.ndarray) -> None:
        """Adds entries and their features, float32 [N, D], each in place of the one with its path if there is one.

        Raises:
          ValueError: the features are not of the index's dimensions.
        """
        if features.shape != (len(entries), self.fact("dimensions")):
            raise ValueError(f"features {features.shape} of {len(entries)} entries, {self.fact('dimensions')} numbers")
        # What was said of an entry is not of the one that replaces it.
        self._collection.remove(selected(MARK, path=[entry.path for entry in entries]))
        size = max(1, _NUMBERS // features.shape[1])
        for start in range(0, len(entries), size):
            some = zip(entries[start : start + size], features[start : start + size].tolist(), strict=True)
            self._collection.put(
                [
                    models.PointStruct(id=id_of(ENTRY, one.path), vector={FEATURE: feature}, payload=_fields(one))
                    for one, feature in some
                ]
            )

    def relabel(self, entries: Sequence[Entry]) -> None:
        """Gives entries that are there another camera, time or metadata."""
        changes = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload={name: value for name, value in _fields(entry).items() if name in _LABELS},
                    # By a filter: one that has been removed meanwhile is no error, and does not come back.
                    filter=models.Filter(must=[models.HasIdCondition(has_id=[id_of(ENTRY, entry.path)])]),
                )
            )
            for entry in entries
        ]
        for some in parts(changes):
            self._collection.ask("batch_update_points", update_operations=list(some), wait=True)

    def remove(self, rows: Rows) -> None:
        """Removes the entries of some ids, with their features and marks."""
        for ids in parts(list(map(str, rows))):
            paths = [_payload(point)["path"] for point in self._collection.points(ids, ENTRY).values()]
            # Footage that an entry is part of is searched anew when it is added again.
            footage = {DETECTED + folder for path in paths for folder in _within(path)}
            self._collection.remove([id_of(FACT, name) for name in sorted(footage)])
            if paths:
                self._collection.remove(selected(MARK, path=paths))
            self._collection.remove(ids)

    def erase(self) -> None:
        """Nothing: a removal that was interrupted has removed whole entries, and the server clears its files itself."""

    def _all(self, wanted: Filter, *, fields: bool = True) -> Iterator[models.Record]:
        return self._collection.all(_fitting(wanted), fields=fields) if self._collection.metadata() else iter(())

    def _time(self, direction: str) -> float | None:
        if self._collection.metadata() is None:
            return None
        found, _ = self._collection.ask(
            "scroll",
            scroll_filter=selected(ENTRY),
            order_by=models.OrderBy(key="time", direction=models.Direction(direction)),
            limit=1,
            with_payload=["time"],
        )
        return float(_payload(found[0])["time"]) if found else None


_LABELS = ("camera", "time", "metadata")


def _fields(entry: Entry) -> dict[str, Any]:
    """What a point keeps of an entry."""
    return {
        "kind": ENTRY,
        "path": entry.path,
        "within": _within(entry.path),
        "digest": entry.digest,
        "modality": entry.modality,
        "camera": entry.camera,
        "time": entry.time,
        "metadata": dict(entry.metadata),
    }


def _within(path: str) -> list[str]:
    """The folders that a file is in, and the footage that it is part of."""
    return [path[:end] for end, letter in enumerate(path) if letter in "/#"]


def _fitting(wanted: Filter) -> models.Filter:
    times = models.FieldCondition(key="time", range=models.Range(gte=wanted.since, lt=wanted.until))
    conditions = () if wanted.since is None and wanted.until is None else (times,)
    return selected(ENTRY, *conditions, camera=wanted.cameras, modality=wanted.modality)


def _payload(point: models.Record) -> dict[str, Any]:
    return point.payload or {}
