"""An index on the disk: adding, and single queries with and without a filter, beside FAISS and vector databases.

    python benchmarks/search_index.py --sizes 100000 1000000 --json search_index.json

Ours is the store of `jax_mspac.Index` with features that are drawn, so no model is in it: batches are added in
transactions that are on the disk before the next one, and a query gives whole entries. The peers get the same features
(`pip install faiss-cpu lancedb milvus-lite pymilvus qdrant-client`; `index_programs.py` has them). Exact ones must find
the same similarities, or nothing is reported; those by inverted lists (`_ivf`: as many lists as the root of the number
of entries, of which a query reads a sixteenth) tell which share of the 20 nearest entries they find. Making the lists
counts as adding. Each runs in a process of its own, in turn. A latency is of one query; 99 of 100 queries take at most
`p99`.

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
from benchmarks.index_programs import PEERS, draw  # noqa: E402
from benchmarks.remote import Remote, in_turn  # noqa: E402

_FILTERS = ("none", "camera")


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
    modules = reporting.installed([PEERS[peer].module for peer in flags.peers])
    peers = [peer for peer in flags.peers if PEERS[peer].module in modules]
    rows = []
    try:
        for size in flags.sizes:
            with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
                gallery = draw(pathlib.Path(folder) / "gallery.npy", size, flags.dims)
                for peer in [*peers, *([flags.server] if flags.server else [])] or [None]:
                    print(f"{size} entries{f' beside {peer}' if peer else ''}", flush=True)
                    rows += measured(peer, gallery, flags.batch, flags.queries, repeats=flags.repeats)
    finally:
        reporting.report(rows, flags.json)


def measured(
    peer: str | None, gallery: pathlib.Path, batch: int, queries: int, *, repeats: int
) -> list[dict[str, Any]]:
    """The rows of one gallery and one peer, which may be the address of a server, or of ours alone.

    Raises:
      RuntimeError: two exact programs found different similarities.
    """
    size, dims = np.load(gallery, mmap_mode="r").shape
    details = {"entries": size, "dims": dims, "against": peer}
    with tempfile.TemporaryDirectory(dir=gallery.parent) as folder, contextlib.ExitStack() as stack:
        on_server = bool(peer and peer not in PEERS)
        exact = peer is None or on_server or PEERS[peer].exact
        names = ["Ours", *([PEERS[peer].program if peer in PEERS else "Ours"] if peer else [])]
        places = [os.path.join(folder, str(number)) for number in range(len(names))]
        if on_server:
            places[1] = f"{peer}/benchmark-{time.time_ns()}"
        programs = [
            stack.enter_context(Remote(f"benchmarks.index_programs:{name}", os.fspath(gallery), place, batch))
            for name, place in zip(names, places, strict=True)
        ]
        adding = [program("adding") for program in programs]
        rows = [_compared("adding", "entries/s", adding, details, higher_is_better=True)]
        for wanted in _FILTERS:
            (numbers, found), *others = [program("found", wanted, 20) for program in programs]
            for theirs, similarities in others:
                if exact and not np.allclose(found, similarities, atol=1e-5):
                    raise RuntimeError(
                        f"{peer} found other similarities, by up to {np.abs(found - similarities).max()}"
                    )
                shares = [1.0, np.mean([np.isin(ours, one).mean() for ours, one in zip(numbers, theirs, strict=True)])]
                if not exact:
                    rows.append(_compared("recall", "", shares, details | {"filter": wanted}, higher_is_better=True))
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


if __name__ == "__main__":
    main()
