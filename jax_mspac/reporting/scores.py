"""The result tables: one per protocol, each with the second run, the baselines and the slides' rows beside the run."""

from collections.abc import Iterable, Mapping
from typing import Any

from jax_mspac.data.data_set import DataSet
from jax_mspac.reporting.cameras import Scores
from jax_mspac.reporting.page import Cell, Table
from jax_mspac.runs.results import SCORE_NAMES, SCORES, Row, percent, spread

_PROTOCOL = ("protocol", "mode", "shots", "direction")
NONE = "–"

Results = Mapping[str, Any]


def primary(results: Results | None) -> Row | None:
    """The row that counts, if there are results that name one."""
    return results["rows"][results["primary"]] if results is not None and "primary" in results else None


def same(row: Row, results: Results | None) -> Row | None:
    """The row of other results by the same protocol and feature, if there is one."""
    rows = results["rows"] if results is not None else ()
    return next((r for r in rows if _key(r) == _key(row) and r["feature"] == row["feature"]), None)


def tables(this: Results, other: Results | None, *, data_set: DataSet) -> list[Table]:
    """One table per protocol, the primary metric's first, with the second run's results if there are any.

    Both runs were tested on `data_set`.
    """
    keys = list(dict.fromkeys(_key(row) for row in this["rows"]))
    counts = primary(this)
    if counts is not None:
        keys.sort(key=lambda key: key != _key(counts))
    return [_table(key, this, other, data_set=data_set) for key in keys]


def _table(key: tuple, this: Results, other: Results | None, *, data_set: DataSet) -> Table:
    counts = primary(this)
    is_primary = counts is not None and key == _key(counts)
    rows = [row for row in this["rows"] if _key(row) == key]
    lines = [_cells(f"this run, {row['feature']}", spread(row), strong=row is counts) for row in rows]
    first = rows[0]
    if other is not None:
        lines += [_cells(f"second run, {row['feature']}", spread(row)) for row in other["rows"] if _key(row) == key]
    if is_primary:
        for name, baseline in this.get("baselines", {}).items():
            cells = [percent(baseline[score]) if score in baseline else NONE for score in SCORES]
            lines.append(_cells(f"baseline: {name}", cells, faint=True))
    _, mode, shots, direction = key
    slides = data_set.published(mode=mode, shots=shots, direction=direction) if data_set.published else ()
    for row in slides:
        cells = [f"{row.scores[score]:.2f}" if score in row.scores else NONE for score in SCORES]
        lines.append(_cells(f"slides: {row.system}", cells, faint=True))
    trials = len(first["rank1"]["trials"])
    return Table(
        caption=describe(first) + (" (primary)" if is_primary else ""),
        note=f"{first['queries']:,} queries, {first['gallery']:,} gallery images"
        + (f"; mean ± standard deviation of {trials} trials" if trials > 1 else ""),
        header=("", *SCORE_NAMES.values()),
        rows=tuple(lines),
    )


def describe(row: Row) -> str:
    """A protocol in words."""
    mode = "" if row["mode"] == "-" else f", {row['mode']} search"
    shots = "whole gallery" if row["shots"] is None else f"{row['shots']}-shot"
    return f"{row['direction'].replace('->', ' → ')}, {row['protocol']} galleries{mode}, {shots}"


def camera_table(found: Scores, metric: str) -> Table:
    """The metric "rank1" or "mAP" of `cameras.scores`: query cameras down, gallery cameras across."""
    queries = sorted({query for query, _ in found})
    galleries = sorted({gallery for _, gallery in found if gallery is not None})

    rows = []
    for query in queries:
        shown = [found.get((query, gallery)) for gallery in (None, *galleries)]
        cells = [NONE if row is None else percent(row[metric]["mean"]) for row in shown]
        rows.append(_cells(f"camera {query}", [f"{found[query, None]['queries']:,}", *cells]))
    return Table(
        caption=f"{SCORE_NAMES[metric]}, percent",
        header=("query camera", "queries", "whole gallery", *(f"gallery camera {camera}" for camera in galleries)),
        rows=tuple(rows),
    )


def _cells(label: str, cells: Iterable[str], *, strong: bool = False, faint: bool = False) -> tuple[Cell, ...]:
    return tuple(Cell(text, strong=strong, faint=faint) for text in (label, *cells))


def _key(row: Row) -> tuple:
    return tuple(row[field] for field in _PROTOCOL)
