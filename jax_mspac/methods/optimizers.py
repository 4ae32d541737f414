"""Optimizers as optax chains: parameter groups with their own learning rates, schedules, weight decay masks."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import optax

from jax_mspac.settings import FRACTION, NOT_NEGATIVE, POSITIVE, Expected, check, one_of, setting

PyTree = Any


NAMES = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "cosine_from_start")
_RISING = Expected(
    "rising fractions of train.steps between 0 and 1",
    lambda marks: all(0 < early < late <= 1 for early, late in itertools.pairwise((*marks, 1.0))),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How parameters are updated.

    Fractions are of the number of training steps, so that a shortened run keeps its shape. SGD has Nesterov momentum.
    It and Adam add weight decay to the gradient; AdamW decouples it.
    """

    name: str = setting("sgd", one_of(NAMES))
    learning_rate: float = setting(0.1, POSITIVE, "the peak")
    backbone_factor: float = setting(1.0, NOT_NEGATIVE, "learning rate of the backbone relative to the new layers")
    centers_factor: float = setting(5.0, NOT_NEGATIVE, "likewise, of what losses own: MeCen's centers")
    exponent_factor: float = setting(0.1, NOT_NEGATIVE, "likewise, of GeM's exponent where it is learned")
    momentum: float = setting(0.9, FRACTION, "of SGD")
    weight_decay: float = setting(5e-4, NOT_NEGATIVE)
    decay_norms_and_biases: bool = setting(False, None, "whether one-dimensional parameters decay too")
    clip_norm: float = setting(0.0, NOT_NEGATIVE, "largest global gradient norm; 0: no clipping")
    schedule: str = setting(
        "cosine", one_of(SCHEDULES), "after the warm-up; cosine_from_start: of all steps, as timm has it"
    )
    warmup: float = setting(0.1, FRACTION, "linear, as a fraction of train.steps")
    warmup_start: float = setting(0.0, FRACTION, "its first rate, relative to the peak; 0: that of a step")
    final_rate: float = setting(0.0, FRACTION, "what a cosine ends with, relative to the peak")
    milestones: tuple[float, ...] = setting((0.4, 0.7), _RISING, "step: x0.1 at these fractions of train.steps")

    def __post_init__(self) -> None:
        check(self)


def learning_rate(recipe: Recipe, steps: int) -> optax.Schedule:
    """The learning rate of the factor-1 group as a function of the step."""
    peak, warmup_steps = recipe.learning_rate, round(recipe.warmup * steps)
    match recipe.schedule:
        case "constant":
            main = optax.constant_schedule(peak)
        case "step":
            # join_schedules restarts the count after the warm-up, so milestones are moved by it.
            drops = {max(round(fraction * steps) - warmup_steps, 0): 0.1 for fraction in recipe.milestones}
            main = optax.piecewise_constant_schedule(peak, drops)
        case "cosine":
            main = optax.cosine_decay_schedule(peak, max(steps - warmup_steps, 1), alpha=recipe.final_rate)
        case "cosine_from_start":
            whole = optax.cosine_decay_schedule(peak, steps, alpha=recipe.final_rate)

            def main(count: jax.Array) -> jax.Array:
                return whole(count + warmup_steps)

    if warmup_steps == 0:
        return main
    if recipe.warmup_start > 0:
        ramp = optax.linear_schedule(recipe.warmup_start * peak, peak, warmup_steps)
        return optax.join_schedules([ramp, main], [warmup_steps])
    # The first step already learns: a rate of zero would waste it.
    ramp = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([ramp, main], [warmup_steps])


def build(
    recipe: Recipe,
    steps: int,
    group: Callable[[str], str],
    step_of: Callable[[jax.Array], jax.Array] = lambda count: count,
) -> optax.GradientTransformation:
    """The gradient transformation for a run of `steps` steps.

    Args:
      recipe: what to do.
      steps: length of the run.
      group: parameter path like "embedder/backbone/..." -> "backbone", "centers", "exponent", which never decays, or
        another name, whose factor is 1.
      step_of: from the number of updates before one to the number of steps before it, for the schedule.
    """
    rate = learning_rate(recipe, steps)

    def decays(params: PyTree) -> PyTree:
        def of(path: tuple, p: jax.Array) -> bool:
            return group(path_name(path)) != "exponent" and (recipe.decay_norms_and_biases or p.ndim > 1)

        return jax.tree_util.tree_map_with_path(of, params)

    factors = {
        "backbone": recipe.backbone_factor,
        "centers": recipe.centers_factor,
        "exponent": recipe.exponent_factor,
    }

    def scale(updates: PyTree, state: optax.EmptyState, params: PyTree | None = None):
        scaled = jax.tree_util.tree_map_with_path(lambda path, u: u * factors.get(group(path_name(path)), 1.0), updates)
        return scaled, state

    decay = optax.add_decayed_weights(recipe.weight_decay, mask=decays)
    match recipe.name:
        case "sgd":
            rule = optax.chain(decay, optax.trace(recipe.momentum, nesterov=True))
        case "adam":
            rule = optax.chain(decay, optax.scale_by_adam())
        case "adamw":
            rule = optax.chain(optax.scale_by_adam(), decay)
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip_norm) if recipe.clip_norm > 0 else optax.identity(),
        rule,
        optax.GradientTransformation(lambda params: optax.EmptyState(), scale),
        optax.scale_by_learning_rate(lambda count: rate(step_of(count))),
    )


def path_name(path: tuple) -> str:
    """A key path of `jax.tree_util` as "a/b/c"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
