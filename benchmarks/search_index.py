"""An index on the disk: adding, and single queries with and without a filter, beside FAISS and beside LanceDB.

    python benchmarks/search_index.py --sizes 100000 1000000 --json search_index.json

Ours is the store of `jax_mspac.Index` with features that are drawn, so no model is in it: batches are added in
transactions that are on the disk before the next one, and a query gives whole entries. The peers get the same features
(`pip install faiss-cpu lancedb`). FAISS's flat index keeps them in memory, knows neither paths nor cameras, and is
written to the disk once, after all is added; its filter is a bitmap of the images that count, made beforehand. LanceDB
keeps the same columns in a folder, a version for each batch, compacted at the end, without an index of vectors. All are
exact and must find the same similarities, or nothing is reported. Each runs in a process of its own, in turn. A latency
is of one query; 99 of 100 queries take at most `p99`.

`--server qdrant+http://HOST:6333` is one more peer: the same library with the index on a server. A new collection is
made there, which you remove afterwards. The server's memory and disk are not counted.
"""

import contextlib
import functools
import itertools
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting  # noqa: E402
from benchmarks.remote import Remote, in_turn  # noqa: E402
from benchmarks.search import draw  # noqa: E402

_TOP = 20
# Every tenth image is of the camera that the filter asks for.
_CAMERAS = 10
_WANTED = 3
_FILTERS = ("none", "camera")
PEERS = {"faiss": "benchmarks.search_index:Faiss", "lancedb": "benchmarks.search_index:Lance"}


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000], help="entries")
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64, help="entries per transaction")
    parser.add_argument("--queries", type=int, default=20, help="per turn")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--server", help="where a collection can be made, such as qdrant+http://localhost:6333")
    parser.add_argument("--repeats", type=int, default=20, help="turns")
    parser.add_argument("--folder", type=pathlib.Path, help="for the index while it runs")
    flags = parser.parse_args()
    peers = reporting.installed(flags.peers)
    rows = []
    for size in flags.sizes:
        with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
            gallery = draw(pathlib.Path(folder) / "gallery.npy", size, flags.dims)
            for peer in [*peers, *([flags.server] if flags.server else [])] or [None]:
                rows += measured(peer, gallery, flags.batch, flags.queries, repeats=flags.repeats)
    reporting.report(rows, flags.json)


def measured(
    peer: str | None, gallery: pathlib.Path, batch: int, queries: int, *, repeats: int
) -> list[dict[str, Any]]:
    """The rows of one gallery and one peer, which may be the address of a server, or of ours alone.

    Raises:
      RuntimeError: the two found different similarities.
    """
    size, dims = np.load(gallery, mmap_mode="r").shape
    details = {"entries": size, "dims": dims, "against": peer}
    with tempfile.TemporaryDirectory(dir=gallery.parent) as folder, contextlib.ExitStack() as stack:
        ours, on_server = "benchmarks.search_index:Ours", bool(peer and peer not in PEERS)
        names = [ours, *([PEERS.get(peer, ours)] if peer else [])]
        places = [os.path.join(folder, str(number)) for number in range(len(names))]
        if on_server:
            places[1] = f"{peer}/benchmark-{time.time_ns()}"
        programs = [
            stack.enter_context(Remote(name, os.fspath(gallery), place, batch))
            for name, place in zip(names, places, strict=True)
        ]
        adding = [program("adding") for program in programs]
        rows = [_compared("adding", "entries/s", adding, details, higher_is_better=True)]
        for wanted in _FILTERS:
            found = [program("found", wanted, 50) for program in programs]
            if not np.allclose(found[0], found[-1], atol=1e-5):
                raise RuntimeError(f"{peer} found other similarities, by up to {np.abs(found[0] - found[-1]).max()}")
            turns = in_turn([functools.partial(one, "latencies", wanted, queries) for one in programs], repeats)
            latencies = [list(itertools.chain(*turn)) for turn in turns]
            for name, quantile in (("median", 0.5), ("p99", 0.99)):
                values = [1000 * float(np.quantile(one, quantile)) for one in latencies]
                asked = {"filter": wanted, "queries": len(latencies[0])}
                rows.append(_compared(f"query, {name}", "ms", values, details | asked))
        for name in () if on_server else ("peak memory", "disk"):
            values = [program(name.partition(" ")[0]) for program in programs]
            rows.append(_compared(name, "GB", values, details))
    return rows


def _compared(
    name: str, unit: str, values: list[float], details: dict[str, Any], *, higher_is_better: bool = False
) -> dict[str, Any]:
    peer = values[1] if len(values) > 1 else None
    return reporting.row(name, values[0], peer, unit, higher_is_better=higher_is_better, **details)


class _Program:
    """An index of a gallery.

    Args:
      gallery: file that `benchmarks.search.draw` wrote.
      place: where the index lies on the disk.
      batch: entries to add at a time.
    """

    def __init__(self, gallery: str, place: str, batch: int):
        self._gallery = np.load(gallery, mmap_mode="r")
        self._place, self._batch = place, batch
        self._rng = np.random.default_rng(0)

    def adding(self) -> float:
        """Adds all, and gives entries per second."""
        return len(self._gallery) / reporting.timed(self._add)[0]

    def latencies(self, wanted: str, count: int) -> list[float]:
        """Seconds of each of some queries that were never asked before."""
        return [reporting.timed(lambda query=query: self._query(query, wanted))[0] for query in self._drawn(count)]

    def found(self, wanted: str, count: int) -> np.ndarray:
        """The similarities that some queries find, float [count, k]: the same queries in both programs."""
        return np.stack([self._query(query, wanted) for query in self._drawn(count)])

    def close(self) -> None:
        """Lets go of the files."""

    def peak(self) -> float:
        return reporting.peak_memory()

    def disk(self) -> float:
        place = pathlib.Path(self._place)
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        return sum(file.stat().st_size for file in files) / 1e9

    def _drawn(self, count: int) -> np.ndarray:
        """Images of the gallery with noise of equal length: unit features, float32 [count, D]."""
        images = self._gallery[self._rng.integers(0, len(self._gallery), count)]
        noise = self._rng.standard_normal(images.shape).astype(np.float32)
        queries = images + noise / np.linalg.norm(noise, axis=1, keepdims=True)
        return queries / np.linalg.norm(queries, axis=1, keepdims=True)


class Ours(_Program):
    """The store of the library's index."""

    def _add(self) -> None:
        from jax_mspac.search import stores
        from jax_mspac.search.entries import Entry

        self._store = stores.opened(self._place, create=True)
        for start in range(0, len(self._gallery), self._batch):
            features = self._gallery[start : start + self._batch]
            entries = [
                Entry(
                    path=f"/archive/camera{number % _CAMERAS}/{number:09}.jpg",
                    digest=f"{number:064x}",
                    modality="visible",
                    camera=str(number % _CAMERAS),
                    time=1.7e9 + number,
                )
                for number in range(start, start + len(features))
            ]
            with self._store.writing():
                self._store.begin({}, features.shape[1])
                self._store.put(entries, features)

    def close(self) -> None:
        self._store.close()

    def _query(self, query: np.ndarray, wanted: str) -> list[float]:
        from jax_mspac.search import ranking
        from jax_mspac.search.entries import Filter

        asked = Filter(cameras=(str(_WANTED),)) if wanted == "camera" else Filter()
        with self._store.reading():
            return [hit.similarity for hit in ranking.nearest(self._store, query, "visible", asked, top=_TOP)]


class Faiss(_Program):
    """FAISS's flat index."""

    def _add(self) -> None:
        import faiss

        self._index = faiss.IndexFlatIP(self._gallery.shape[1])
        for start in range(0, len(self._gallery), self._batch):
            self._index.add(np.ascontiguousarray(self._gallery[start : start + self._batch]))
        faiss.write_index(self._index, self._place)
        counts = np.packbits(np.arange(len(self._gallery)) % _CAMERAS == _WANTED, bitorder="little")
        self._filters = {"none": None, "camera": faiss.SearchParameters(sel=faiss.IDSelectorBitmap(counts))}

    def _query(self, query: np.ndarray, wanted: str) -> list[float]:
        return self._index.search(query[None], _TOP, params=self._filters[wanted])[0][0].tolist()


class Lance(_Program):
    """A table of LanceDB."""

    def _add(self) -> None:
        import lancedb
        import pyarrow

        self._table = None
        for start in range(0, len(self._gallery), self._batch):
            features = np.ascontiguousarray(self._gallery[start : start + self._batch])
            numbers = range(start, start + len(features))
            vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.ravel()), features.shape[1])
            columns = {
                "path": [f"/archive/camera{number % _CAMERAS}/{number:09}.jpg" for number in numbers],
                "digest": [f"{number:064x}" for number in numbers],
                "camera": [str(number % _CAMERAS) for number in numbers],
                "time": [1.7e9 + number for number in numbers],
                "vector": vectors,
            }
            batch = pyarrow.table(columns)
            if self._table is None:
                self._table = lancedb.connect(self._place).create_table("entries", batch)
            else:
                self._table.add(batch)
        self._table.optimize()  # or every query would open a file for each batch

    def _query(self, query: np.ndarray, wanted: str) -> list[float]:
        asked = (
            self._table.search(query).distance_type("dot").limit(_TOP).select(["path", "camera", "time", "_distance"])
        )
        if wanted == "camera":
            asked = asked.where(f"camera = '{_WANTED}'", prefilter=True)
        return [1 - row["_distance"] for row in asked.to_list()]


if __name__ == "__main__":
    main()
