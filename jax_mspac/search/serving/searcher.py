"""The model and the features behind the page: one thread that embeds and ranks, one query after another."""

import asyncio
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from jax_mspac.data.images import parsed_range, resize
from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.modalities import MODALITIES
from jax_mspac.protocols.base import direction
from jax_mspac.runs.inference import Model
from jax_mspac.search import model_identity, ranking, stores
from jax_mspac.search.base import Marks, Row, Store
from jax_mspac.search.entries import Entry, Filter, Hit, check_modality
from jax_mspac.search.serving import pictures

_DIGITS = 16
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Query:
    """What is searched by.

    Attributes:
      id: equal for equal images and modalities: SHA-256 in hexadecimal.
      names: of the image files, for people.
      modality: "visible" or "infrared".
      pixels: uint8 [N, H, W, 3] of the model's size; None for an entry.
      entry: the id of an entry; see `id_of`.
    """

    id: str
    names: str
    modality: str
    pixels: np.ndarray | None = None
    entry: str | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """A hit and the id of its entry."""

    id: str
    hit: Hit


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a query found, in descending similarity, and the thresholds by the modality of an entry."""

    query: Query
    found: tuple[Found, ...]
    thresholds: dict[str, float]


def id_of(row: Row, entry: Entry) -> str:
    """What the page calls an entry: its row, and a digest of the entry in case the row gets another one."""
    return f"{row}-{hashlib.sha256(f'{entry.path}|{entry.digest}'.encode()).hexdigest()[:_DIGITS]}"


def located(store: Store, name: str) -> tuple[Row, Entry]:
    """The row and the entry that an id stands for.

    Raises:
      UserError: there is no such entry, or none any more.
    """
    row = store.row_of(name.rpartition("-")[0])
    try:
        entry = None if row is None else store.entries([row])[0]
    except KeyError:
        entry = None
    if row is None or entry is None or name != id_of(row, entry):
        raise UserError("this entry is no longer in the index; search again")
    return row, entry


class Searcher:
    """An index and its model. Its methods may be awaited by many at once; call `close` at the end.

    Args:
      index: its folder or address; see `stores`.
      model: that of the index.

    Raises:
      UserError: there is no index, it is empty, or it is of another model.
    """

    def __init__(self, index: str | os.PathLike, model: Model):
        self.index, self._model = index, model
        self._identity = model_identity.of(model)
        self._thread = ThreadPoolExecutor(1, "search")
        try:
            self._store = self._thread.submit(stores.opened, index, create=False).result()
            self._thread.submit(self._checked).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Waits for the query in progress, and lets go of the files."""
        if hasattr(self, "_store"):
            self._thread.submit(self._store.close)
        self._thread.shutdown()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """The store for a moment, in any thread."""
        with contextlib.closing(self._store.another()) as store, store.reading():
            yield store

    def marks(self) -> Marks:
        """The marks of the index, in any thread."""
        return self._store.marks()

    def warm(self) -> None:
        """Compiles what a query of either modality runs."""
        height, width = self._model.config.data.height, self._model.config.data.width
        for modality in MODALITIES:
            self._thread.submit(self._embedded, np.zeros((1, height, width, 3), np.uint8), modality).result()

    def query(self, files: Sequence[tuple[str, bytes]], modality: str) -> Query:
        """A query of uploaded image files, (name, bytes) each, all of one person. Decodes them: call it in a thread.

        Raises:
          UserError: a file is no image that is read, or there is no such modality.
        """
        check_modality(modality)
        config = self._model.config.data
        range_16_bit = parsed_range(config.get("range_16_bit", ""))
        pixels = []
        for name, data in files:
            try:
                pixels.append(resize(pictures.decode(data, range_16_bit), config.height, config.width))
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        digests = [hashlib.sha256(data).hexdigest() for _, data in files]
        names = ", ".join(name for name, _ in files)
        return Query(_query_id(digests, modality), names, modality, np.stack(pixels))

    def query_of_entry(self, name: str) -> Query:
        """A query by an entry's features. Reads the index: call it in a thread.

        Raises:
          UserError: there is no such entry.
        """
        with self.opened() as store:
            _, entry = located(store, name)
        return Query(_query_id([entry.digest], entry.modality), entry.path, entry.modality, entry=name)

    async def answer(self, query: Query, wanted: Filter, *, top: int) -> Answer:
        """The entries that fit a filter and are most similar; an entry is no answer to itself.

        Raises:
          UserError: the index has become one of another model or is empty, or the entry is gone.
        """
        return await self._run(lambda: self._answer(query, wanted, top))

    def _run(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        return asyncio.wrap_future(self._thread.submit(work))

    def _answer(self, query: Query, wanted: Filter, top: int) -> Answer:
        feature = None if query.pixels is None else self._embedded(query.pixels, query.modality)
        own = None
        with self._store.reading():
            self._check()
            if feature is None:
                row, own = located(self._store, query.entry or "")
                feature = self._store.features_of([row])
            hits = ranking.nearest(self._store, feature, query.modality, wanted, top=top + (own is not None))
            hits = [hit for hit in hits if own is None or hit.path != own.path][:top]
            rows = self._store.at([hit.path for hit in hits])
            kept = self._store.fact("thresholds") or {}
        # Ranks that count the entry itself would leave out the first.
        hits = [dataclasses.replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]
        named = {modality: kept.get(direction(query.modality, modality)) for modality in MODALITIES}
        thresholds = {modality: one["threshold"] for modality, one in named.items() if one}
        return Answer(query, tuple(Found(id_of(rows[hit.path][0], hit), hit) for hit in hits), thresholds)

    def _embedded(self, pixels: np.ndarray, modality: str) -> np.ndarray:
        # One at a time: any number of images then runs the same program, which is compiled already.
        return unit(self._model.embed(list(pixels), modality, batch=1).mean(axis=0, keepdims=True))

    def _checked(self) -> None:
        with self._store.reading():
            self._check()

    def _check(self) -> None:
        """Raises a UserError unless the entries are of the model: another process may have begun the index anew."""
        if self._store.is_empty():
            raise UserError("the index holds no images; add some first")
        kept: Any = self._store.fact("model")
        model_identity.check_same(kept, self._identity, dimensions=self._store.fact("dimensions"))


def _query_id(digests: Sequence[str], modality: str) -> str:
    return hashlib.sha256("\n".join([modality, *sorted(digests)]).encode()).hexdigest()
