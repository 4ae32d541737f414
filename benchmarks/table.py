"""Writes the table of docs/benchmarks.md from the JSON files of the benchmarks.

    python benchmarks/train_step.py --json benchmarks/results/train_step.json
    python benchmarks/table.py

Every row that has a peer is shown, in the order of QUESTIONS; a benchmark without a file is left out. All files should
come from one machine.
"""

import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
from benchmarks import reporting  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measurements: written by benchmarks/table.py -->\n", "<!-- end of the measurements -->\n"
QUESTIONS = ("train_step", "embed", "input", "retrieval", "search", "startup")
# Details that tell rows apart, as the table words them; None: the value says it all.
WORDED = {"backbone": None, "batch": "batch {}", "dtype": None, "gallery": "gallery {:,}", "network": None}
UNITS = {"milliseconds": "ms", "seconds": "s"}
# What a row is compared with, where each benchmark says it.
PEERS = ("peer_program", "against")


def main() -> None:
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"error: {PAGE} lacks the line {BEGIN.strip()!r} or {END.strip()!r}")
    PAGE.write_text(before + begin + written(RESULTS) + end + after)


def written(folder: pathlib.Path) -> str:
    """The table, and the machine in a sentence, as Markdown."""
    files = {name: folder / f"{name}.json" for name in QUESTIONS}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    if not found:
        sys.exit(f"error: there is no result in {folder}; run a benchmark with --json {files[QUESTIONS[0]]}")
    lines = ["| benchmark | row | ours | peer | ratio |", "| -- | -- | -- | -- | -- |"]
    for name, content in found.items():
        lines += [_line(name, row) for row in content["rows"] if row["peer"] is not None]
    lines += ["", reporting.described(next(iter(found.values()))["machine"])]
    return "\n".join(lines) + "\n"


def _line(benchmark: str, row: Mapping[str, Any]) -> str:
    details = [(form or "{}").format(row[name]) for name, form in WORDED.items() if row.get(name) is not None]
    peer = next((f" ({row[name]})" for name in PEERS if row.get(name)), "")
    unit = UNITS.get(row["unit"], row["unit"])
    ours, theirs = (f"{_figure(row[side])} {unit}" for side in ("ours", "peer"))
    return f"| {benchmark} | {', '.join([row['name'], *details])} | {ours} | {theirs}{peer} | **{row['ratio']:.2f}** |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
