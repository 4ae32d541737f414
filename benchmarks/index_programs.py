"""Indexes of a gallery of features that are on the disk: ours, FAISS's and those of vector databases.

All keep what ours does: path, digest, camera and time beside the features. FAISS keeps features alone, in memory, and
writes them once; its filter is a bitmap made beforehand.
"""

import pathlib
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import reporting

TOP = 20
# Every tenth image is of the camera that the filter asks for.
CAMERAS = 10
WANTED = "3"
# Intrinsic dimensions of what `draw` draws, images of a person, and the length of an image's own part.
_DIMS, _IMAGES, _NOISE = 32, 20, 0.5
_DRAWN = 10_000

Found = list[tuple[int, float]]


class Peer(NamedTuple):
    """A program, the module that must be installed, and whether its searches are exact."""

    program: str
    module: str
    exact: bool = True


PEERS = {
    "faiss": Peer("Faiss", "faiss"),
    "lancedb": Peer("Lance", "lancedb"),
    "milvus": Peer("Milvus", "milvus_lite"),
    "qdrant": Peer("Qdrant", "qdrant_client"),
    "faiss_ivf": Peer("FaissLists", "faiss", exact=False),
    "lancedb_ivf": Peer("LanceLists", "lancedb", exact=False),
    "milvus_ivf": Peer("MilvusLists", "milvus_lite", exact=False),
}


def draw(file: pathlib.Path, size: int, dims: int) -> pathlib.Path:
    """Writes a gallery of unit features, float32 [size, dims], and returns its file.

    As features of a trained network, they vary in fewer directions than they have numbers, and those of a person are
    near each other: a search by lists of neighbors would find little among features that are all equally far apart.
    """
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((dims, min(_DIMS, dims))))[0].T.astype(np.float32)
    gallery = np.lib.format.open_memmap(file, "w+", np.float32, (size, dims))
    for start in range(0, size, _DRAWN):
        rows = gallery[start : start + _DRAWN]
        people = _units(rng.standard_normal((-(-len(rows) // _IMAGES), len(basis)), np.float32))
        own = _units(rng.standard_normal((len(rows), len(basis)), np.float32))
        rows[...] = _units(np.repeat(people, _IMAGES, axis=0)[: len(rows)] + _NOISE * own) @ basis
    return file


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Program:
    """An index of a gallery.

    Args:
      gallery: file that `draw` wrote.
      place: where the index lies on the disk.
      batch: entries to add at a time.
    """

    def __init__(self, gallery: str, place: str, batch: int):
        self._gallery = np.load(gallery, mmap_mode="r")
        self._place, self._batch = place, batch
        self._rng = np.random.default_rng(0)
        # Of a search by lists: how many there are, and how many it looks into.
        self._lists = round(len(self._gallery) ** 0.5)
        self._probes = max(1, self._lists // 16)

    def adding(self) -> float:
        """Adds all, and gives entries per second."""
        return len(self._gallery) / reporting.timed(self._add)[0]

    def latencies(self, wanted: str, count: int) -> list[float]:
        """Seconds of each of some queries that were never asked before."""
        return [reporting.timed(lambda query=query: self._query(query, wanted))[0] for query in self.drawn(count)]

    def found(self, wanted: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """What some queries find, the same ones in all programs.

        Returns:
          Numbers, int [count, k], and similarities, float [count, k], of entries; -1 where fewer were found.
        """
        numbers, similarities = np.full((count, TOP), -1), np.full((count, TOP), -1.0)
        for row, query in enumerate(self.drawn(count)):
            for column, (number, similarity) in enumerate(self._query(query, wanted)):
                numbers[row, column], similarities[row, column] = number, similarity
        return numbers, similarities

    def close(self) -> None:
        """Lets go of the files."""

    def peak(self) -> float:
        return reporting.peak_memory()

    def disk(self) -> float:
        place = pathlib.Path(self._place)
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        return sum(file.stat().st_size for file in files) / 1e9

    def drawn(self, count: int) -> np.ndarray:
        """Images of the gallery with noise: unit features, float32 [count, D]."""
        images = self._gallery[self._rng.integers(0, len(self._gallery), count)]
        return _units(images + _NOISE * _units(self._rng.standard_normal(images.shape).astype(np.float32)))

    def _add(self) -> None:
        raise NotImplementedError

    def _query(self, query: np.ndarray, wanted: str) -> Found:
        raise NotImplementedError

    def _batches(self) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
        """Entries and their features, a batch at a time."""
        for start in range(0, len(self._gallery), self._batch):
            features = np.ascontiguousarray(self._gallery[start : start + self._batch])
            yield (
                [
                    {
                        "path": f"/archive/camera{number % CAMERAS}/{number:09}.jpg",
                        "digest": f"{number:064x}",
                        "camera": str(number % CAMERAS),
                        "time": 1.7e9 + number,
                    }
                    for number in range(start, start + len(features))
                ],
                features,
            )


def _number(path: str) -> int:
    return int(path[-13:-4])


class Ours(Program):
    """The store of the library's index."""

    def _add(self) -> None:
        from jax_mspac.search import stores
        from jax_mspac.search.entries import Entry

        self._store = stores.opened(self._place, create=True)
        for entries, features in self._batches():
            with self._store.writing():
                self._store.begin({}, features.shape[1])
                self._store.put([Entry(modality="visible", **entry) for entry in entries], features)

    def close(self) -> None:
        self._store.close()

    def _query(self, query: np.ndarray, wanted: str) -> Found:
        from jax_mspac.search import ranking
        from jax_mspac.search.entries import Filter

        asked = Filter(cameras=(WANTED,)) if wanted == "camera" else Filter()
        with self._store.reading():
            hits = ranking.nearest(self._store, query, "visible", asked, top=TOP)
        return [(_number(hit.path), hit.similarity) for hit in hits]


class Faiss(Program):
    """FAISS's flat index."""

    def _index_of(self, dims: int) -> Any:
        import faiss

        return faiss.IndexFlatIP(dims)

    def _add(self) -> None:
        import faiss

        self._index = self._index_of(self._gallery.shape[1])
        for _, features in self._batches():
            self._index.add(features)
        faiss.write_index(self._index, self._place)
        counts = np.arange(len(self._gallery)) % CAMERAS == int(WANTED)
        self._selector = faiss.IDSelectorBitmap(np.packbits(counts, bitorder="little"))

    def _parameters(self, selector: Any) -> Any:
        import faiss

        return faiss.SearchParameters(sel=selector)

    def _query(self, query: np.ndarray, wanted: str) -> Found:
        parameters = self._parameters(self._selector if wanted == "camera" else None)
        similarities, numbers = self._index.search(query[None], TOP, params=parameters)
        return list(zip(numbers[0].tolist(), similarities[0].tolist(), strict=True))


class FaissLists(Faiss):
    """FAISS with inverted lists."""

    def _index_of(self, dims: int) -> Any:
        import faiss

        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dims), dims, self._lists, faiss.METRIC_INNER_PRODUCT)
        # FAISS wants 39 examples a list or more.
        index.train(np.ascontiguousarray(self._gallery[:: max(1, len(self._gallery) // (64 * self._lists))]))
        return index

    def _parameters(self, selector: Any) -> Any:
        import faiss

        return faiss.SearchParametersIVF(sel=selector, nprobe=self._probes)


class Lance(Program):
    """A table of LanceDB."""

    def _add(self) -> None:
        import lancedb
        import pyarrow

        self._table = None
        for entries, features in self._batches():
            batch = pyarrow.Table.from_pylist(entries)
            vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.ravel()), features.shape[1])
            batch = batch.append_column("vector", vectors)
            if self._table is None:
                self._table = lancedb.connect(self._place).create_table("entries", batch)
            else:
                self._table.add(batch)
        self._table.optimize()  # or every query would open a file for each batch

    def _search(self, query: np.ndarray) -> Any:
        return self._table.search(query).distance_type("dot")

    def _query(self, query: np.ndarray, wanted: str) -> Found:
        asked = self._search(query).limit(TOP).select(["path", "camera", "time", "_distance"])
        if wanted == "camera":
            asked = asked.where(f"camera = '{WANTED}'", prefilter=True)
        return [(_number(row["path"]), 1 - row["_distance"]) for row in asked.to_list()]


class LanceLists(Lance):
    """LanceDB with inverted lists."""

    def _add(self) -> None:
        super()._add()
        self._table.create_index(
            metric="dot", vector_column_name="vector", index_type="IVF_FLAT", num_partitions=self._lists
        )

    def _search(self, query: np.ndarray) -> Any:
        return super()._search(query).nprobes(self._probes)


class Milvus(Program):
    """Milvus Lite, in a file."""

    index = "FLAT"

    def _add(self) -> None:
        from pymilvus import DataType, MilvusClient

        self._place += ".db"
        self._client = client = MilvusClient(self._place)
        schema = client.create_schema(auto_id=False)
        schema.add_field("path", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("digest", DataType.VARCHAR, max_length=64)
        schema.add_field("camera", DataType.VARCHAR, max_length=16)
        schema.add_field("time", DataType.DOUBLE)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._gallery.shape[1])
        fields = client.prepare_index_params()
        fields.add_index("vector", index_type=self.index, metric_type="IP", params=self._build())
        client.create_collection("entries", schema=schema, index_params=fields)
        for entries, features in self._batches():
            client.upsert(
                "entries", [entry | {"vector": vector} for entry, vector in zip(entries, features, strict=True)]
            )
        client.flush("entries")  # the lists are made of what has been written out
        client.load_collection("entries")

    def _build(self) -> dict[str, int]:
        return {}

    def _asked(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._client.close()

    def _query(self, query: np.ndarray, wanted: str) -> Found:
        hits = self._client.search(
            "entries",
            [query],
            limit=TOP,
            filter=f'camera == "{WANTED}"' if wanted == "camera" else "",
            output_fields=["path", "camera", "time"],
            search_params={"params": self._asked()},
        )[0]
        return [(_number(hit["entity"]["path"]), hit["distance"]) for hit in hits]


class MilvusLists(Milvus):
    """Milvus Lite with inverted lists."""

    index = "IVF_FLAT"

    def _build(self) -> dict[str, int]:
        return {"nlist": self._lists}

    def _asked(self) -> dict[str, int]:
        return {"nprobe": self._probes}


class Qdrant(Program):
    """Qdrant's client in its local mode, in a folder."""

    def _add(self) -> None:
        from qdrant_client import QdrantClient, models

        self._client = QdrantClient(path=self._place)
        vectors = models.VectorParams(size=self._gallery.shape[1], distance=models.Distance.DOT)
        self._client.create_collection("entries", vectors_config=vectors)
        for entries, features in self._batches():
            ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])) for entry in entries]
            self._client.upsert("entries", models.Batch(ids=ids, vectors=features.tolist(), payloads=entries))

    def close(self) -> None:
        self._client.close()

    def _query(self, query: np.ndarray, wanted: str) -> Found:
        from qdrant_client import models

        camera = models.FieldCondition(key="camera", match=models.MatchValue(value=WANTED))
        found = self._client.query_points(
            "entries",
            query.tolist(),
            limit=TOP,
            query_filter=models.Filter(must=[camera]) if wanted == "camera" else None,
        )
        return [(_number(point.payload["path"]), point.score) for point in found.points]
