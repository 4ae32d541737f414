"""A table of measured scores beside the slides' ones, as Markdown, CSV and a bar chart."""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jax_mspac.runs import results
from jax_mspac.studies.base import SLIDES, Table

# Row name -> one mapping of score to fraction for each seed.
Measured = Mapping[str, Sequence[Mapping[str, float]]]


def markdown(table: Table, measured: Measured, notes: Sequence[str]) -> str:
    """The table in percent, mean ± standard deviation over the seeds, with notes and the order of the rows below it.

    Rows may lack measured scores, or differ in their number of seeds. The notes are what a reader must know: the size,
    the protocol, the time it took.
    """
    labels = [results.SCORE_NAMES[score] for score in table.scores]
    slides = any(row.slides for row in table.rows)
    header = ["row", "seeds", *labels, *([f"slides {label}" for label in labels] if slides else [])]
    lines = []
    for row in table.rows:
        seeds = measured.get(row.name, ())
        line = [row.name, str(len(seeds)), *(_cell(seeds, score) for score in table.scores)]
        of_slides = [f"{row.slides[score]:.2f}" if score in row.slides else "-" for score in table.scores]
        lines.append(line + (of_slides if slides else []))
    below = [*notes, f"Slides: {SLIDES}, another data set: compare the order of the rows, not their height."][
        : len(notes) + slides
    ]
    ordered = order(table, measured)
    below += [f"By mAP, measured: {' < '.join(ordered)}."] if len(ordered) > 1 else []
    printed = [row for row in table.rows if row.name in ordered and "mAP" in row.slides]
    if len(printed) > 1:
        by_slides = sorted(printed, key=lambda row: row.slides["mAP"])
        below.append(f"By mAP, slides: {' < '.join(row.name for row in by_slides)}.")
    below += [table.appendix] if table.appendix else []
    return f"# {table.title}\n\n{results.table(header, lines)}\n" + "".join(f"{note}\n\n" for note in below)


def order(table: Table, measured: Measured) -> list[str]:
    """The names of the measured rows, by ascending mean mAP."""
    means = {row.name: mean(measured[row.name], "mAP") for row in table.rows if measured.get(row.name)}
    return sorted(means, key=means.__getitem__)


def comma_separated(table: Table, measured: Measured) -> str:
    """CSV, a line per row, in fractions: mean and standard deviation over the seeds, and the slides' scores."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    kinds = ("mean", "std", "slides")
    writer.writerow(["row", "seeds", *(f"{score}_{kind}" for score in table.scores for kind in kinds)])
    for row in table.rows:
        seeds = measured.get(row.name, ())
        cells = []
        for score in table.scores:
            cells += [f"{mean(seeds, score):.6f}", f"{deviation(seeds, score):.6f}"] if seeds else ["", ""]
            cells.append(f"{row.slides[score] / 100:.4f}" if score in row.slides else "")
        writer.writerow([row.name, len(seeds), *cells])
    return file.getvalue()


def bar_chart(table: Table, measured: Measured, path: pathlib.Path) -> None:
    """Writes a PNG: rank-1 and mAP of each measured row, with the deviation over the seeds, beside the slides'."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in table.rows if measured.get(row.name)]
    positions = np.arange(len(rows))
    figure, axes = pyplot.subplots(1, 2, figsize=(3 + 1.3 * len(rows), 3.8), sharey=True, layout="constrained")
    for axis, score in zip(axes, ("rank1", "mAP"), strict=True):
        means = [100 * mean(measured[row.name], score) for row in rows]
        errors = [100 * deviation(measured[row.name], score) for row in rows]
        axis.bar(positions - 0.2, means, 0.38, yerr=errors, capsize=3, color="#33658a", label="measured")
        slides = [row.slides.get(score, 0.0) for row in rows]
        if any(slides):
            axis.bar(
                positions + 0.2, slides, 0.38, fill=False, edgecolor="#888888", hatch="//", label=f"slides ({SLIDES})"
            )
        axis.set_title(results.SCORE_NAMES[score])
        axis.set_xticks(positions, [row.name for row in rows], rotation=30, ha="right")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("percent")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def mean(seeds: Sequence[Mapping[str, float]], score: str) -> float:
    """The mean of a score over the seeds."""
    return float(np.mean([seed[score] for seed in seeds]))


def deviation(seeds: Sequence[Mapping[str, float]], score: str) -> float:
    """The standard deviation of a score over the seeds, n - 1 in the denominator; 0 for a single seed."""
    return float(np.std([seed[score] for seed in seeds], ddof=1)) if len(seeds) > 1 else 0.0


def _cell(seeds: Sequence[Mapping[str, float]], score: str) -> str:
    if not seeds:
        return "-"
    text = f"{100 * mean(seeds, score):.2f}"
    return text + f" ± {100 * deviation(seeds, score):.2f}" if len(seeds) > 1 else text
