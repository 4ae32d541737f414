"""Training curves: every scalar that a run logged, the scores of one split in one panel."""

from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jax_mspac.reporting import style
from jax_mspac.reporting.records import Curves

# What a reader looks for first; the other scalars follow in the order of their names.
_FIRST = ("loss",)
_LAST = ("learning_rate", "gradient_norm", "images_per_second")


def panels(*runs: Curves) -> list[str]:
    """The panels of a figure: names of scalars, and of splits ("val/") that scores were logged of."""
    names = {name for curves in runs for name in curves}
    splits = sorted({name.partition("/")[0] + "/" for name in names if "/" in name})
    plain = {name for name in names if "/" not in name}
    middle = sorted(plain - {*_FIRST, *_LAST})
    return [*(n for n in _FIRST if n in plain), *middle, *splits, *(n for n in _LAST if n in plain)]


@matplotlib.rc_context(style.RC)
def figure(this: Curves, other: Curves | None = None) -> Figure:
    """Draws one panel per scalar, and one per split: the run blue, a second run (`other`) orange and dashed."""
    runs: list[tuple[Curves, str, Literal["-", "--"], str]] = [(this, style.THIS_RUN, "-", "this run")]
    if other:
        runs.append((other, style.OTHER_RUN, "--", "second run"))
    names = panels(*(curves for curves, *_ in runs))
    columns = 3 if len(names) <= 6 else 4
    rows = -(-len(names) // columns)
    drawing = Figure(figsize=(10.5, 0.4 + 2 * rows), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        for curves, color, line, _ in runs:
            if name.endswith("/"):
                _draw_scores(ax, curves, name, color, line, labeled=curves is this)
            elif name in curves:
                _draw(ax, curves[name], color=color, linestyle=line)
        if name.endswith("/"):
            ax.margins(x=0.12)  # room for the labels
            ax.set_ylim(bottom=0)
        ax.set_title(f"{name[:-1]} split, percent" if name.endswith("/") else name.replace("_", " "))
        ax.set_xlabel("step")
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    if other:
        handles = [Line2D([], [], color=color, linestyle=line, label=label) for _, color, line, label in runs]
        drawing.legend(handles=handles, loc="outside upper right", ncols=2)
    return drawing


def _draw(ax: Axes, curve: dict[int, float], **options) -> None:
    steps = sorted(curve)
    ax.plot(steps, [curve[step] for step in steps], **options)


def _draw_scores(ax: Axes, curves: Curves, split: str, color: str, line: str, *, labeled: bool) -> None:
    """Rank-1 and mAP of a split in percent, labeled at their ends."""
    for score, marker in (("rank1", "o"), ("mAP", "s")):
        curve = {step: 100 * value for step, value in curves.get(split + score, {}).items()}
        if not curve:
            continue
        _draw(ax, curve, color=color, linestyle=line, marker=marker, markersize=3.5)
        last = max(curve)
        if labeled and np.isfinite(curve[last]):
            label = "rank-1" if score == "rank1" else score
            ax.annotate(label, (last, curve[last]), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
