"""Optimizers as optax chains: parameter groups with their own learning rates, schedules, weight decay masks."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How parameters are updated.

    Fractions are of the number of training steps, so that a shortened run keeps its shape.

    Attributes:
      name: "sgd" (Nesterov momentum, weight decay added to the gradient) or "adamw" (decoupled weight decay).
      learning_rate: peak learning rate.
      factors: group name -> its learning rate relative to `learning_rate`; a group that is not named has 1.
      momentum: of SGD.
      weight_decay: coefficient.
      decay_norms_and_biases: whether one-dimensional parameters decay too.
      clip_norm: largest global norm of the gradient; 0 for no clipping.
      schedule: "constant", "step" or "cosine" after the warm-up.
      warmup: fraction of the steps in which the learning rate grows linearly.
      milestones: fractions of the steps at which "step" multiplies the learning rate by 0.1.
    """

    name: str = "sgd"
    learning_rate: float = 0.1
    factors: tuple[tuple[str, float], ...] = ()
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norms_and_biases: bool = False
    clip_norm: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.1
    milestones: tuple[float, ...] = (0.4, 0.7)


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
            main = optax.cosine_decay_schedule(peak, max(steps - warmup_steps, 1))
        case _:
            raise ValueError(f"unknown schedule {recipe.schedule!r}")
    if warmup_steps == 0:
        return main
    # The first step already learns: a rate of zero would waste it.
    ramp = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([ramp, main], [warmup_steps])


def build(recipe: Recipe, steps: int, group: Callable[[str], str]) -> optax.GradientTransformation:
    """The gradient transformation for a run of `steps` steps.

    Args:
      recipe: what to do.
      steps: length of the run.
      group: parameter path like "embedder/backbone/..." -> group name, looked up in `recipe.factors`.
    """

    def decays(params: PyTree) -> PyTree:
        return jax.tree.map(lambda p: recipe.decay_norms_and_biases or p.ndim > 1, params)

    factors = dict(recipe.factors)

    def scale(updates: PyTree, state: optax.EmptyState, params: PyTree | None = None):
        scaled = jax.tree_util.tree_map_with_path(lambda path, u: u * factors.get(group(path_name(path)), 1.0), updates)
        return scaled, state

    decay = optax.add_decayed_weights(recipe.weight_decay, mask=decays)
    match recipe.name:
        case "sgd":
            rule = optax.chain(decay, optax.trace(recipe.momentum, nesterov=True))
        case "adamw":
            rule = optax.chain(optax.scale_by_adam(), decay)
        case _:
            raise ValueError(f"unknown optimizer {recipe.name!r}")
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip_norm) if recipe.clip_norm > 0 else optax.identity(),
        rule,
        optax.GradientTransformation(lambda params: optax.EmptyState(), scale),
        optax.scale_by_learning_rate(learning_rate(recipe, steps)),
    )


def path_name(path: tuple) -> str:
    """A key path of `jax.tree_util` as "a/b/c"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
