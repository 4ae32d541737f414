"""The error rates of a threshold, as a picture."""

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jax_mspac.search.calibration import Threshold

# Of Okabe and Ito (2008): false matches, false non-matches.
_FALSE_MATCH, _FALSE_NON_MATCH, _INK = "#d55e00", "#0072b2", "#222222"


def draw(found: Mapping[str, Threshold]) -> Image.Image:
    """FMR and FNMR over the threshold, a panel for each two modalities, and the threshold that was chosen."""
    # Both directions of a search have one threshold.
    shown = {tuple(sorted(of.split("->"))): one for of, one in found.items()}
    figure = Figure(figsize=(4.6 * len(shown), 3.6), dpi=120, layout="constrained")
    for axes, (modalities, one) in zip(np.ravel(figure.subplots(1, len(shown))), shown.items(), strict=True):
        thresholds, false_match, false_non_match = np.transpose(one.curve)
        axes.plot(thresholds, 100 * false_match, color=_FALSE_MATCH, label="FMR")
        axes.plot(thresholds, 100 * false_non_match, color=_FALSE_NON_MATCH, label="FNMR")
        axes.axvline(one.threshold, color=_INK, linestyle=":", label=f"threshold {one.threshold:.3f}")
        for rate, color in ((one.fmr, _FALSE_MATCH), (one.fnmr, _FALSE_NON_MATCH)):
            axes.plot([one.threshold] * 2, [100 * rate.low, 100 * rate.high], color=color, linewidth=4, alpha=0.5)
        # Of rates below what one pair makes, nothing is known.
        axes.set_yscale("log")
        axes.set_ylim(100 / one.impostor, 130)
        axes.set(title=" and ".join(modalities), xlabel="cosine similarity", ylabel="pairs, %")
        axes.legend(loc="lower left", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
