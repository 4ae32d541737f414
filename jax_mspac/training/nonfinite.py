"""Losses and gradients that are not finite: noticed in the step, named and counted outside of it."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.methods.base import Batch, Metrics, PyTree, State, Update

# The metric that `guarded` adds: 0 if something in the new state is not finite of which no other metric tells, else 1.
STATE_IS_FINITE = "state_is_finite"
# Before the name of a metric: 1 where it was not measured in this step.
RESTING = "resting/"


def guarded(update: Callable[[State, Batch], Update], *, skip: bool) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Tells of each step whether the new state is finite; a finite loss may have had a gradient that was not.

    With `skip` the state stays as it was, but for its step number, where a metric or the new state is not finite.

    Returns:
      A pure function of the same arguments: the new state, and the metrics with the players' gradient norms, those
      that rest, and STATE_IS_FINITE.
    """

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        updated, metrics, norms, resting = update(state, batch)
        metrics = {**metrics, **_named(norms)}
        metrics |= {RESTING + name: flag.astype(jnp.float32) for name, flag in resting.items()}
        # A finite norm has read every gradient of a player, and a finite step leads from a finite state to a finite
        # one; only statistics change without a gradient. To read all of the state would take 2 % of a step.
        finite = _finite(_without_gradients(updated) if norms else updated)
        if skip:
            sound = finite & _finite(metrics)
            kept = state.replace(step=updated.step)
            updated = jax.tree.map(lambda new, old: jnp.where(sound, new, old), updated, kept)
        return updated, {**metrics, STATE_IS_FINITE: finite.astype(jnp.float32)}

    return step


def _named(norms: Mapping[str, jax.Array]) -> Metrics:
    """The gradient norm of a single player has a plain name."""
    return {"gradient_norm" if len(norms) == 1 else f"gradient_norm_{name}": norm for name, norm in norms.items()}


def _without_gradients(state: State) -> PyTree:
    """What a step changes without a gradient: all but the networks' parameters and the optimizers' states."""

    def without_params(networks: Mapping[str, PyTree]) -> list[PyTree]:
        return [
            {k: v for k, v in network.items() if k != "params"} if isinstance(network, Mapping) else network
            for network in networks.values()
        ]

    kept = {name: part for name, part in state.training.items() if name not in ("networks", "optimizers")}
    return [without_params(state.variables), without_params(state.training.get("networks", {})), kept]


def _finite(tree: PyTree) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all() if floats else jnp.bool_(True)


class Watch:
    """Looks at the metrics of every step of a run: lets some steps be skipped, and stops it at one too many.

    Args:
      limit: how many steps may be skipped; the update must be `guarded` with `skip` unless it is 0.
      skipped: how many were so far.
      files_of: from a batch to the source files of its images.
    """

    def __init__(self, *, limit: int, skipped: int, files_of: Callable[[Batch], Sequence[str]]):
        self._limit = limit
        self._skipped = skipped
        self._files_of = files_of

    def check(self, step: int, metrics: Mapping[str, float], batch: Batch) -> dict[str, float]:
        """The metrics to log: those that were measured and are finite, and "skipped" where steps may be skipped.

        The metrics are of a `guarded` update of this step's batch.

        Raises:
          UserError: a metric or the new state is not finite, once too often.
        """
        resting = {name.removeprefix(RESTING) for name, flag in metrics.items() if name.startswith(RESTING) and flag}
        metrics = {name: v for name, v in metrics.items() if not name.startswith(RESTING) and name not in resting}
        state_is_finite = metrics.pop(STATE_IS_FINITE)
        broken = [name for name, value in metrics.items() if not np.isfinite(value)]
        if not state_is_finite and not broken:
            broken = ["the state after the update"]
        if broken:
            self._skipped += 1
            files = self._files_of(batch)
            shown = f"The batch held {', '.join(files[:8])}{' and more' if len(files) > 8 else ''}"
            if self._skipped > self._limit:
                raise UserError(self._diverged(step, broken, shown))
            print(
                f"step {step} is skipped, number {self._skipped} of at most {self._limit}: {', '.join(broken)} is not "
                f"finite. {shown}",
                flush=True,
            )
        finite = {name: value for name, value in metrics.items() if name not in broken}
        return finite | ({"skipped": float(self._skipped)} if self._limit else {})

    def _diverged(self, step: int, broken: Sequence[str], shown: str) -> str:
        allowed = f", and config.train.skip_nonfinite allows {self._limit} such steps" if self._limit else ""
        return (
            f"training diverged: {', '.join(broken)} of step {step} is not finite{allowed}. Earlier checkpoints are "
            "whole: lower config.optimizer.learning_rate or set config.optimizer.clip_norm, and start in a new "
            f"--workdir. {shown}"
        )
