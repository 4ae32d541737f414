"""Games of players against each other: what each side minimizes, and how often the discriminators are right."""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from jax_mspac.methods.base import Game
from jax_mspac.reporting import style
from jax_mspac.reporting.records import Curves


@matplotlib.rc_context(style.RC)
def figure(games: Sequence[Game], curves: Curves) -> Figure:
    """Draws a row per game: the losses of its sides, and the accuracies, with a line where nothing is known."""
    drawing = Figure(figsize=(9, 0.3 + 2.4 * len(games)), layout="constrained")
    axes = drawing.subplots(len(games), 2, squeeze=False, width_ratios=(3, 2))
    for game, (losses, accuracies) in zip(games, axes, strict=True):
        sides = {**game.losses, **{name.replace("_", " "): name for name in game.accuracies}}
        for color, (label, name) in zip(style.CATEGORIES, sides.items(), strict=False):
            curve = sorted(curves.get(name, {}).items())
            ax = accuracies if name in game.accuracies else losses
            if curve:
                ax.plot(*zip(*curve, strict=True), color=color, label=label)
        accuracies.axhline(0.5, color=style.FAINT, linestyle=":")
        accuracies.set_ylim(0, 1.02)
        losses.set_ylim(bottom=0)
        losses.set_title(f"{game.title}: losses")
        accuracies.set_title("how often right")
        for ax in (losses, accuracies):
            ax.set_xlabel("step")
            if ax.get_legend_handles_labels()[0]:
                ax.legend(loc="best", fontsize=7)
    return drawing
