"""Search of one batch of queries in galleries of up to millions of features, beside FAISS and beside numpy.

    python benchmarks/search.py --sizes 10000 100000 1000000 --json search.json

Ours is `jax_mspac.metrics.search.search`; the peers are FAISS's `knn` (`pip install faiss-cpu`), which is what its flat
index runs, and a matrix product with `argpartition`, block by block. All are exact and must find the same similarities,
or nothing is reported. Each runs in a process of its own, in turn; medians. All read one gallery, a file mapped into
memory: 2 GB for a million features of 512 numbers, 20 GB for ten million. FAISS's wheel has a BLAS of its own that may
not know a new processor; it is told to take the kernels that numpy's takes, and `blas` says which those are.
"""

import functools
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

import numpy as np
import threadpoolctl

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting  # noqa: E402
from benchmarks.remote import Remote, in_turn  # noqa: E402

PEERS = {"faiss": "benchmarks.search:Faiss", "numpy": "benchmarks.search:Numpy"}
_DRAWN = 10_000  # features at a time
_BLOCK = 16_384


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="of the galleries")
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=pathlib.Path, help="for the galleries while it runs")
    flags = parser.parse_args()
    peers = reporting.installed(flags.peers)
    rows = []
    for size in flags.sizes:
        with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
            file = draw(pathlib.Path(folder) / "gallery.npy", size, flags.dims)
            for peer in peers:
                rows.append(measured(peer, file, flags.queries, flags.k, repeats=flags.repeats))
    reporting.report(rows, flags.json)


def draw(file: pathlib.Path, size: int, dims: int) -> pathlib.Path:
    """Writes a gallery of unit features, float32 [size, dims], and returns its file."""
    gallery = np.lib.format.open_memmap(file, "w+", np.float32, (size, dims))
    for part, start in enumerate(range(0, size, _DRAWN)):
        rows = gallery[start : start + _DRAWN]
        rows[...] = _features(len(rows), dims, seed=part + 1)
    return file


def measured(peer: str, gallery: pathlib.Path, queries: int, k: int, *, repeats: int) -> dict[str, Any]:
    """The row of one gallery and one peer.

    Raises:
      RuntimeError: the two found different similarities.
    """
    os.environ.setdefault("OPENBLAS_CORETYPE", _core_type("numpy"))
    size, dims = np.load(gallery, mmap_mode="r").shape
    drawn = (os.fspath(gallery), queries, k)
    with Remote("benchmarks.search:Ours", *drawn) as ours, Remote(PEERS[peer], *drawn) as other:
        both = (ours, other)
        (similarities, positions), (expected, theirs) = (program("found") for program in both)
        if not np.allclose(similarities, expected, atol=1e-5):
            raise RuntimeError(f"{peer} found other similarities, by up to {np.abs(similarities - expected).max()}")
        turns = in_turn([functools.partial(program, "seconds") for program in both], repeats)
        peaks = [program("peak") for program in both]
        return reporting.row(
            "search",
            statistics.median(turns[0]),
            statistics.median(turns[1]),
            "seconds",
            gallery=size,
            queries=queries,
            dims=dims,
            k=k,
            against=peer,
            blas=other("blas"),
            same_positions=float(np.mean(positions == theirs)),
            peak_GB=peaks[0],
            peer_peak_GB=peaks[1],
        )


def _core_type(package: str) -> str:
    """The kernels that a package's OpenBLAS takes on this processor, or ""."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if package in pool["filepath"]]
    return next((pool["architecture"] for pool in pools if "architecture" in pool), "")


class _Program:
    """A way to search, with its queries, unit features that are drawn alike for all, and its gallery.

    Args:
      gallery: file that `draw` wrote.
      queries: how many.
      k: how many to find.
    """

    def __init__(self, gallery: str, queries: int, k: int):
        self._k = k
        self._gallery = np.load(gallery, mmap_mode="r")
        self._queries = _features(queries, self._gallery.shape[1], seed=0)

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """Similarities [Q, k] and positions [Q, k]."""
        return self._search()

    def seconds(self) -> float:
        return reporting.timed(self._search)[0]

    def peak(self) -> float:
        return reporting.peak_memory()

    def blas(self) -> str:
        return _core_type("numpy")


class Ours(_Program):
    """The library's search; on an accelerator the gallery lies there."""

    def __init__(self, gallery: str, queries: int, k: int):
        import jax

        super().__init__(gallery, queries, k)
        if jax.default_backend() != "cpu":
            self._gallery = jax.device_put(self._gallery)

    def _search(self) -> tuple[np.ndarray, np.ndarray]:
        from jax_mspac.metrics.search import search

        return search(self._queries, self._gallery, k=self._k)


class Faiss(_Program):
    """The search of FAISS's flat index, in a gallery that it does not copy."""

    def blas(self) -> str:
        return _core_type("faiss")

    def _search(self) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        return faiss.knn(self._queries, self._gallery, self._k, metric=faiss.METRIC_INNER_PRODUCT)


class Numpy(_Program):
    """A product and an argpartition for each block, and another argpartition of what they found."""

    def _search(self) -> tuple[np.ndarray, np.ndarray]:
        found = [self._search_block(start) for start in range(0, len(self._gallery), _BLOCK)]
        similarities, positions = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        order = np.argsort(-similarities, axis=1, kind="stable")[:, : self._k]
        return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(positions, order, axis=1)

    def _search_block(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        similarities = self._queries @ self._gallery[start : start + _BLOCK].T
        count = min(self._k, similarities.shape[1])
        chosen = np.argpartition(similarities, -count, axis=1)[:, -count:]
        return np.take_along_axis(similarities, chosen, axis=1), chosen + start


def _features(count: int, dims: int, *, seed: int) -> np.ndarray:
    """Unit features, float32 [count, dims]."""
    features = np.random.default_rng(seed).random((count, dims), np.float32) - np.float32(0.5)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
