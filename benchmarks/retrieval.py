"""Scoring: the table of SYSU-MM01 against a plain transcription of the rules, and a gallery of a million images.

    python benchmarks/retrieval.py --sysu_lists FOLDER --queries 100 --json retrieval.json

Each of our figures is of a process of its own, whose peak of resident memory is in the row: interpreter, features and
all. The transcription is `tests/helpers/plain_protocols.py`. Features are drawn: identities are clusters.
"""

import multiprocessing
import pathlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]
from helpers import plain_protocols as plain  # noqa: E402

from benchmarks import reporting  # noqa: E402
from jax_mspac.data import sysu_mm01  # noqa: E402
from jax_mspac.data.sysu_mm01 import LISTS_FILE  # noqa: E402
from jax_mspac.metrics.distances import cosine_distances  # noqa: E402
from jax_mspac.metrics.retrieval import METRICS, evaluate_protocol  # noqa: E402
from jax_mspac.protocols import RetrievalProtocol, Trial  # noqa: E402

TABLE_QUERIES, FEW = 3803, 10
MILLION, MILLION_QUERIES = 1_000_000, 256


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "--sysu_lists", default="", metavar="DIR", help="with rand_perm_cam.mat and test_id.txt; else seeded"
    )
    parser.add_argument("--queries", type=int, help="limits the transcription; its time is extrapolated to all queries")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--rows", nargs="+", choices=("table", "million"), default=("table", "million"))
    flags = parser.parse_args()
    rows = []
    if "table" in flags.rows:
        rows.append(_table_row(flags.sysu_lists, flags.queries or TABLE_QUERIES, flags.repeats))
    if "million" in flags.rows:
        rows.append(_million_row(flags.repeats))
    reporting.report(rows, flags.json)


def _table_row(lists: str, queries: int, repeats: int) -> dict[str, Any]:
    ours, peers = _in_turn([(_table, lists), (_plain_table, lists, queries)], repeats)
    whole = queries >= TABLE_QUERIES
    return reporting.row(
        "table",
        _median(ours),
        _median(peers),
        "seconds",
        against="a plain transcription",
        galleries="official" if lists else "seeded",
        peak_GB=max(run.peak for run in ours),
        peer_time="measured" if whole else f"extrapolated from {queries} queries",
        # The largest of all means; float32 may swap images that are equally far to seven digits.
        difference=float(np.abs(np.subtract(ours[0].figures, peers[0].figures)).max()) if whole else None,
    )


def _million_row(repeats: int) -> dict[str, Any]:
    ours, peers = _in_turn([(_million,), (_argsort_million,)], repeats)
    return reporting.row(
        "million",
        _median(ours),
        _median(peers),
        "seconds",
        against="numpy",
        peak_GB=max(run.peak for run in ours),
        peer_peak_GB=max(run.peak for run in peers),
    )


class Run(NamedTuple):
    seconds: float
    figures: Any
    peak: float


def _in_turn(calls: Sequence[tuple], repeats: int) -> list[list[Run]]:
    """For each (function, *arguments) its runs, in turn, each in a new process."""
    runs: list[list[Run]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, of_call in zip(calls, runs, strict=True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                of_call.append(pool.apply(_run, call))
    return runs


def _run(function: Callable[..., tuple[float, Any]], *arguments: Any) -> Run:
    return Run(*function(*arguments), reporting.peak_memory())


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _table(lists: str) -> tuple[float, list[float]]:
    features, ids, cameras, numbers = _test_set(lists)
    settings = {"galleries": _galleries(lists), "shots": (1, 10), "sysu_lists": lists}

    def score() -> list[float]:
        labels = ids, cameras, np.isin(cameras, (3, 6)).astype(int)
        listed = sysu_mm01.SET.search(*labels, identity_names=numbers, settings=settings)
        distances = cosine_distances(features)
        rows = [evaluate_protocol(distances, ids, cameras, protocol) for protocol in listed]
        return [row[metric]["mean"] for row in rows for metric in METRICS]

    return reporting.timed(score)


def _plain_table(lists: str, count: int) -> tuple[float, list[float]]:
    features, ids, cameras, numbers = _test_set(lists)
    listed = plain.read_lists(pathlib.Path(lists, LISTS_FILE)) if lists else None
    infrared = np.flatnonzero(np.isin(cameras, (3, 6)))
    ids, cameras = ids.tolist(), cameras.tolist()

    def score(count: int) -> list[float]:
        queries = infrared[np.linspace(0, infrared.size - 1, count).astype(int)].tolist()
        table = plain.cosine_table(features, queries)
        figures = plain.sysu_table(table, ids, cameras, numbers, listed, galleries=_galleries(lists), queries=queries)
        return [of_protocol[metric][0] for of_protocol in figures.values() for metric in METRICS]

    if count >= infrared.size:
        return reporting.timed(lambda: score(infrared.size))
    # What does not grow with the queries is in both times, and so counts once.
    fixed, _ = reporting.timed(lambda: score(FEW))
    seconds, means = reporting.timed(lambda: score(count))
    return fixed + (seconds - fixed) * (infrared.size - FEW) / (count - FEW), means


def _test_set(lists: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Features, identities, cameras and identity numbers: images as many as in the lists, or as in the test set."""
    if lists:
        numbers = [int(number) for number in pathlib.Path(lists, "test_id.txt").read_text().split(",")]
        rows = plain.read_lists(pathlib.Path(lists, LISTS_FILE))
        counts = {(c, i): len(rows.get((c, n), [[]])[0]) for c in range(1, 7) for i, n in enumerate(numbers)}
    else:
        numbers = list(range(1, 97))
        totals = {1: 1694, 2: 1694, 3: 1883, 4: 1694, 5: 1693, 6: 1920}
        counts = {(c, i): total // 96 + (i < total % 96) for c, total in totals.items() for i in range(96)}
    cameras, ids = np.repeat(np.array(list(counts)), list(counts.values()), axis=0).T
    rng = np.random.default_rng(0)
    features = rng.standard_normal((ids.size, 2048), np.float32)
    features += rng.standard_normal((96, 2048), np.float32)[ids] / 4
    return features, ids, cameras, numbers


def _galleries(lists: str) -> tuple[str]:
    return ("official",) if lists else ("seeded",)


def _million() -> tuple[float, list[float]]:
    features, ids = _million_images()
    images = np.arange(len(features))
    trial = Trial(images[:MILLION_QUERIES], images[MILLION_QUERIES:])
    protocol = RetrievalProtocol("folder", "-", None, "-", (trial,), None, "identity")

    def score() -> list[float]:
        row = evaluate_protocol(cosine_distances(features), ids, np.zeros_like(ids), protocol)
        return [row["rank1"]["mean"], row["mAP"]["mean"]]

    return reporting.timed(score)


def _argsort_million() -> tuple[float, int]:
    """The rankings alone, by argsort of the distances of 16 queries at a time."""
    features, _ = _million_images()

    def rank() -> int:
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        gallery = unit[MILLION_QUERIES:]
        last = 0
        for start in range(0, MILLION_QUERIES, 16):
            last += np.argsort(1 - unit[start : start + 16] @ gallery.T, axis=1)[:, -1].sum()
        return int(last)

    return reporting.timed(rank)


def _million_images() -> tuple[np.ndarray, np.ndarray]:
    """Features of the queries and then of a million gallery images, and identities."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50_000, MILLION_QUERIES + MILLION)
    features = np.empty((ids.size, 512), np.float32)
    for start in range(0, ids.size, 10_000):
        part = features[start : start + 10_000]
        rng.random(out=part, dtype=np.float32)
        part -= 0.5
    return features, ids


if __name__ == "__main__":
    main()
