"""What all pictures of a report share: colors that color-blind readers can tell apart, fonts, PNG bytes."""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Of Okabe and Ito (2008), but for the grays and for red, which is of Paul Tol's scheme "vibrant".
THIS_RUN, OTHER_RUN = "#0072b2", "#d55e00"
MATCH, MISS, EXCLUDED = "#009e73", "#cc3311", "#9a9a9a"
INK, FAINT = "#222222", "#bbbbbb"
# Of Paul Tol's scheme "muted", and black: what ten identities are drawn in.
CATEGORIES = (
    "#332288",
    "#cc6677",
    "#117733",
    "#88ccee",
    "#ddaa33",
    "#882255",
    "#44aa99",
    "#999933",
    "#aa4499",
    "#222222",
)

# For matplotlib.rc_context around each function that draws.
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def bare(ax: Axes) -> None:
    """Takes everything off an axes that shows pixels."""
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def png(picture: Figure | Image.Image, *, dpi: int = 160) -> bytes:
    """The bytes of a PNG file; `dpi` is of a figure."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    else:
        picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
