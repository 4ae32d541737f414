"""What the command says: tables, lines, JSON, and how far adding has come."""

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jax_mspac.runs.logging import duration
from jax_mspac.search import crops
from jax_mspac.search.entries import Entry, Hit, time_text

if TYPE_CHECKING:
    from jax_mspac.metrics.verification import Rate
    from jax_mspac.search.calibration import Threshold

# Between two lines of progress where nobody watches a terminal.
_QUIET_SECONDS = 10.0


def plain(text: object) -> str:
    """A text without what would steer a terminal."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, numbers of the right; the last one as it is."""
    cells = [list(names), *([plain(cell) for cell in row] for row in rows)]
    # A column that is empty in every row says nothing.
    kept = [i for i in range(len(names)) if not rows or any(row[i] for row in cells[1:])]
    widths = {i: max(len(row[i]) for row in cells) for i in kept}
    right = {i for i in kept if all(row[i].lstrip("-").replace(".", "", 1).isdigit() for row in cells[1:])}
    lines = (
        "  ".join(row[i].rjust(widths[i]) if i in right else row[i].ljust(widths[i]) for i in kept) for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def hits_table(hits: Sequence[Hit]) -> str:
    """What a query found."""
    match = {True: "yes", False: "no", None: ""}
    rows = [(str(hit.rank), f"{hit.similarity:.4f}", match[hit.match], *_labels(hit)) for hit in hits]
    return table(("rank", "similarity", "match", *_LABELS), rows)


def entries_table(entries: Sequence[Entry]) -> str:
    """What an index holds."""
    return table(_LABELS, [_labels(entry) for entry in entries])


def verdict(hits: Sequence[Hit]) -> str:
    """Whether the person is among the hits, in a line."""
    if not hits:
        return "no entry fits"
    if all(hit.match is None for hit in hits):
        return "no threshold is calibrated yet, so hits are not marked as matches: run calibrate"
    matches = sum(hit.match is True for hit in hits)
    unsure = " (entries without a mark: no threshold for their modality)" if any(h.match is None for h in hits) else ""
    return (f"{matches} of {len(hits)} reach the threshold" if matches else "no match") + unsure


def info_text(info: dict[str, Any]) -> str:
    """What an index says of itself."""
    model = info["model"] or {}
    lines = [
        ("folder", info["folder"]),
        ("entries", f"{info['entries']:,}" + (f" ({info['bytes'] / 1e6:.1f} MB)" if info["bytes"] is not None else "")),
        ("model", f"{model['method']}, {model['workdir']}, step {model['step']}, {model['feature']}" if model else "-"),
        ("digest of the model", model.get("digest", "-")),
        ("numbers per image", str(info["dimensions"] or "-")),
    ]
    if info["since"] is not None:
        lines.append(("times (UTC)", f"{time_text(info['since'])} to {time_text(info['until'])}"))
    for of, one in (info["thresholds"] or {}).items():
        lines.append((f"threshold {of}", f"{one['threshold']:.4f}, false-match rate {one['fmr']['rate']:.2g}"))
    width = max(len(name) for name, _ in lines)
    head = "\n".join(f"{name.ljust(width)}  {plain(value)}" for name, value in lines)
    rows = [(row["modality"], row["camera"] or "-", str(row["entries"])) for row in info["cameras"]]
    return f"{head}\n\n{table(('modality', 'camera', 'entries'), rows)}" if rows else head


def thresholds_text(found: Mapping[str, "Threshold"], *, entries: int) -> str:
    """Thresholds, and what they mean in an index of so many entries."""

    def percent(rate: "Rate") -> str:
        return f"{100 * rate.rate:.3g} ({100 * rate.low:.3g} to {100 * rate.high:.3g})"

    names = ("search", "threshold", "FMR, %", "FNMR, %", "genuine pairs", "impostor pairs", "people")
    rows = [
        (
            of,
            f"{one.threshold:.4f}",
            percent(one.fmr),
            percent(one.fnmr),
            *map(str, (one.genuine, one.impostor)),
            str(one.identities),
        )
        for of, one in found.items()
    ]
    one = next(iter(found.values()))
    return (
        f"{table(names, rows)}\n\n"
        f"From {plain(one.origin)}; in brackets {100 * one.confidence:.0f} % intervals over people. The rates are of "
        f"pairs: among {entries:,} entries of other people some {one.wished * entries:.3g} match by chance."
    )


def as_json(value: Any) -> str:
    """JSON text of dataclasses, lists and mappings of them."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=dataclasses.asdict)


class Progress:
    """Images done, images per second and the time left, on stderr; call it with the images done and all of them.

    Args:
      what: is counted.
    """

    def __init__(self, what: str = "images"):
        self._what = what
        self._start = self._told = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        # The first batch also loaded and compiled the model; it counts only where nothing else is known.
        self._first = self._first or (now, done)
        since, before = self._first if done > self._first[1] else (self._start, 0)
        rate = (done - before) / max(now - since, 1e-9)
        left = duration((total - done) / rate) if rate else "?"
        line = f"{done:,} of {total:,} {self._what}  {rate:.0f} {self._what}/s  {left} left"
        if sys.stderr.isatty():
            line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self._width), end="\n" if done == total else "", file=sys.stderr, flush=True)
            self._width = len(line)
        elif done == total or now - self._told >= _QUIET_SECONDS:
            print(line, file=sys.stderr, flush=True)
            self._told = now


_LABELS = ("modality", "camera", "time", "metadata", "path")


def _labels(entry: Entry) -> tuple[str, ...]:
    # The path of a part of a frame says of which file it is.
    file = crops.file_of(entry.path)
    told = {name: value for name, value in entry.metadata.items() if file is None or (name, value) != ("frame", file)}
    metadata = ", ".join(f"{name}={value}" for name, value in told.items())
    camera = "" if entry.camera is None else entry.camera
    return entry.modality, camera, time_text(entry.time), metadata, entry.path
