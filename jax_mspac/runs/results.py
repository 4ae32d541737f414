"""The result of an evaluation: results.json, and the same as a Markdown table in a file and on the screen."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax_mspac.runtime.files import write_whole

JSON_FILE, MARKDOWN_FILE = "results.json", "results.md"
# As in the JSON -> as a reader sees it.
SCORE_NAMES = {
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
    "rank20": "rank-20",
    "mAP": "mAP",
    "mINP": "mINP",
}
SCORES = tuple(SCORE_NAMES)

Row = Mapping[str, Any]


def markdown(results: Mapping[str, Any]) -> str:
    """The table of all rows, in percent, with the baselines below it.

    Args:
      results: {"rows": [...], "primary": index of a row, "notes": [...], "baselines": {name: {"rank1", "mAP"}}};
        all but the rows may be missing.
    """
    header = ("protocol", "mode", "shots", "direction", "feature", "queries", "gallery", *SCORE_NAMES.values())
    lines = [_cells(row) for row in results["rows"]]
    if "primary" in results:
        lines[results["primary"]] = [f"**{cell}**" for cell in lines[results["primary"]]]
    text = "".join(f"{note}\n\n" for note in results.get("notes", ())) + table(header, lines)
    if any("+" in row["feature"] for row in results["rows"]):
        text += (
            "\nFeatures with a + are re-ranked at test time: the distance of a pair may use the whole gallery and the "
            "other queries. Compare them with re-ranked results only.\n"
        )
    baselines = results.get("baselines", {})
    if baselines:
        rows = [(name, percent(baseline["rank1"]), percent(baseline["mAP"])) for name, baseline in baselines.items()]
        text += "\nOn the primary metric's protocol (bold above), without training:\n\n"
        text += table(("baseline", "rank-1", "mAP"), rows)
    return text


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in (header, rule, *lines)
    )


def write(results: Mapping[str, Any], workdir: str | os.PathLike) -> None:
    """Writes results.json and results.md into the workdir, each whole or not at all."""
    for name, text in ((JSON_FILE, json.dumps(results, indent=2) + "\n"), (MARKDOWN_FILE, markdown(results))):
        write_whole(pathlib.Path(workdir) / name, text)


def _cells(row: Row) -> list[str]:
    shots = "all" if row["shots"] is None else str(row["shots"])
    protocol = row["protocol"]
    if "trained_identities" in row:
        protocol += f" (trained on {row['trained_identities']} of the {row['test_identities']} identities)"
    names = (protocol, row["mode"], shots, row["direction"], row["feature"], row["queries"], row["gallery"])
    return [*map(str, names), *spread(row)]


def spread(row: Row) -> list[str]:
    """The scores of a row in percent, and the deviation over its trials where it has several."""
    scores = [row[score] for score in SCORES]
    return [percent(s["mean"]) + (f" ± {percent(s['std'])}" if len(s["trials"]) > 1 else "") for s in scores]


def percent(fraction: float) -> str:
    """A fraction in percent, as in every table of results."""
    return f"{100 * fraction:.2f}"
