"""Test images in two dimensions: color and number tell the identity, shape the modality."""

import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from jax_mspac.modalities import MODALITIES
from jax_mspac.reporting import style

# Points and identities beyond these make the map slow, and no easier to read.
MAX_POINTS = 600
MAX_IDENTITIES = len(style.CATEGORIES)
# Fewer points have no neighborhoods to preserve.
MIN_POINTS = 6
_MARKERS = ("o", "^")


def choose(identities: np.ndarray, modalities: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The images to map: those of a few identities that both modalities show, drawn with a seed.

    Of identities and modalities int [N] it gives ascending positions int64 [n], n at most MAX_POINTS; none if no
    identity has both modalities.
    """
    one, other = (np.unique(identities[modalities == number]) for number in range(len(MODALITIES)))
    both = np.intersect1d(one, other)
    drawn = np.random.default_rng(seed).permutation(both)[:MAX_IDENTITIES]
    share = MAX_POINTS // max(1, len(drawn) * len(MODALITIES))
    shown = itertools.product(drawn, range(len(MODALITIES)))
    groups = [np.flatnonzero((identities == i) & (modalities == m))[:share] for i, m in shown]
    return np.sort(np.concatenate(groups)) if groups else np.empty(0, np.int64)


def embed(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Two dimensions by t-SNE (van der Maaten and Hinton, 2008) of the first principal components.

    Features float [n, D], n at least MIN_POINTS, give float32 [n, 2]; equal seeds give equal maps.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    components = min(50, len(features) - 1, features.shape[1])
    reduced = PCA(components, svd_solver="full").fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    # One thread: equal on every machine, and several times faster where others use the cores too.
    with threadpool_limits(1):
        return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


@matplotlib.rc_context(style.RC)
def figure(maps: dict[str, np.ndarray], identities: np.ndarray, modalities: np.ndarray) -> Figure:
    """Draws a panel for each map, title -> float [n, 2], of the same images: identities and modalities int [n].

    Identities, at most MAX_IDENTITIES, are drawn as 1, 2, ... in ascending order.
    """
    drawing = Figure(figsize=(5.1 * max(2, len(maps)), 5.2) if len(maps) > 1 else (7.5, 6.2), layout="constrained")
    for ax, (title, points) in zip(drawing.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        for number, identity in enumerate(np.unique(identities)):
            color = style.CATEGORIES[number]
            for modality, marker in enumerate(_MARKERS):
                shown = points[(identities == identity) & (modalities == modality)]
                face = color if modality == 0 else "none"
                ax.scatter(*shown.T, s=22, marker=marker, facecolors=face, edgecolors=color, linewidths=1, alpha=0.85)
            # The identity's image nearest to its median: a place that is its own even where it falls apart.
            own = points[identities == identity]
            x, y = own[np.argmin(np.linalg.norm(own - np.median(own, axis=0), axis=1))]
            font = {"color": color, "fontsize": 13, "fontweight": "bold"}
            label = ax.text(x, y, str(number + 1), **font, ha="center", va="center")
            label.set_path_effects([withStroke(linewidth=3, foreground="white")])
        style.bare(ax)
        ax.spines[:].set_visible(True)
        ax.set_title(title)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=style.INK, label=name, fillstyle="none" if i else "full")
        for i, (marker, name) in enumerate(zip(_MARKERS, MODALITIES, strict=True))
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=2)
    return drawing
