"""How far apart images of the same and of different identities lie, within a modality and across."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jax_mspac.reporting import style

BINS = 50
# Cosine distances lie in [0, 2].
_WIDEST = 2.0
# Rows of the distance matrix at a time: bounds the memory.
_BLOCK = 512
KINDS = (("intra", "positive"), ("intra", "negative"), ("inter", "positive"), ("inter", "negative"))

Counts = dict[tuple[str, str], np.ndarray]


def counts(features: np.ndarray, identities: np.ndarray, modalities: np.ndarray, *, bins: int = BINS) -> Counts:
    """Histograms, of equal bins over [0, 2], of the cosine distances of all pairs of images, each pair once.

    Of features float [N, D] of unit length, identities and modalities int [N] it gives ("intra" or "inter" modality,
    "positive" or "negative") -> int64 [bins].
    """
    total = np.zeros(len(KINDS) * bins, np.int64)
    for start in range(0, len(features), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distances = 1 - features[rows] @ features[start:].T
        positive = identities[rows, None] == identities[None, start:]
        inter = modalities[rows, None] != modalities[None, start:]
        later = np.triu(np.ones(distances.shape, bool), 1)
        place = np.clip((distances * (bins / _WIDEST)).astype(np.int64), 0, bins - 1)
        kind = 2 * inter + ~positive
        total += np.bincount((kind * bins + place)[later], minlength=total.size)
    return dict(zip(KINDS, total.reshape(len(KINDS), bins), strict=True))


def mean(histogram: np.ndarray) -> float:
    """The mean distance of a histogram, to the precision of its bins; NaN for an empty one."""
    bins = len(histogram)
    centers = (np.arange(bins) + 0.5) * _WIDEST / bins
    return float(histogram @ centers / histogram.sum()) if histogram.sum() else float("nan")


def overlap(positive: np.ndarray, negative: np.ndarray) -> float:
    """The area that two normalized histograms share: 0 if apart, 1 if equal; NaN if one is empty."""
    if not positive.sum() or not negative.sum():
        return float("nan")
    return float(np.minimum(positive / positive.sum(), negative / negative.sum()).sum())


@matplotlib.rc_context(style.RC)
def figure(runs: dict[str, Counts]) -> Figure:
    """Draws the densities, one row per run.

    Args:
      runs: title -> histograms.
    """
    drawing = Figure(figsize=(10, 0.3 + 2.5 * len(runs)), layout="constrained")
    axes = drawing.subplots(len(runs), 2, squeeze=False, sharex=True, sharey="col")
    for row, (title, histograms) in zip(axes, runs.items(), strict=True):
        for ax, where in zip(row, ("intra", "inter"), strict=True):
            for sign, color, line in (("positive", style.MATCH, "-"), ("negative", style.MISS, "--")):
                histogram = histograms[where, sign]
                edges = np.linspace(0, _WIDEST, len(histogram) + 1)
                density = histogram / max(histogram.sum(), 1) / (edges[1] - edges[0])
                label = f"{'same identity' if sign == 'positive' else 'different identities'}, mean "
                ax.stairs(density, edges, color=color, fill=True, alpha=0.22)
                ax.stairs(
                    density, edges, color=color, linestyle=line, linewidth=1.3, label=f"{label}{mean(histogram):.2f}"
                )
            shared = overlap(histograms[where, "positive"], histograms[where, "negative"])
            ax.set_title(f"{title}: {'same modality' if where == 'intra' else 'visible and infrared'}")
            ax.legend(title=f"overlap {100 * shared:.0f} %", alignment="left", loc="upper left", ncols=2, fontsize=7.5)
            ax.set_ylabel("density")
    for ax in axes[-1]:
        ax.set_xlabel("cosine distance")
        ax.set_ylim(bottom=0, top=1.45 * ax.get_ylim()[1])  # room for the legend
    drawn = np.sum([histogram for histograms in runs.values() for histogram in histograms.values()], axis=0)
    used = np.flatnonzero(drawn)
    if used.size:
        axes[0, 0].set_xlim(0, min(_WIDEST, (used[-1] + 3) * _WIDEST / len(drawn)))
    return drawing
