"""Checkpoints with Orbax: asynchronous, atomic, the latest few and the best.

A checkpoint has two parts: `variables`, which is all that embedding needs, and `training`, the rest of the state.
Evaluation reads the first alone.
"""

import os
import pathlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jax_mspac.errors import UserError
from jax_mspac.methods.base import State

PyTree = Any
# Name of the checkpoints' folder in the workdir.
FOLDER = "checkpoints"
# The score that ranks checkpoints, as written beside them.
SCORE = "score"


class Checkpoints:
    """The checkpoints of one run. Use as a context manager: leaving it waits for the last save.

    Args:
      folder: where they are kept, one integer-named folder per step.
      keep: how many of the latest to keep, besides the one with the best score.
    """

    def __init__(self, folder: str | os.PathLike, *, keep: int = 2):
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            pathlib.Path(folder).absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep),
                    policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    @property
    def best(self) -> int | None:
        """The step with the best score (the later one of equals), or None if no checkpoint has a score."""
        scored = [checkpoint for checkpoint in self._checkpointer.checkpoints if checkpoint.metrics]
        return (
            max(scored, key=lambda checkpoint: (_score(checkpoint.metrics), checkpoint.step)).step if scored else None
        )

    def save(self, state: State, *, score: float | None = None) -> None:
        """Starts to save the state under its step; returns once its arrays are copied to the host.

        Args:
          state: replicated on the devices of this process.
          score: a number to rank checkpoints by, the larger the better; None if it was not measured.
        """
        # Host copies: several processes cannot save what each owns alone, and donation may not reach into a save.
        host = jax.device_get(state)
        self._checkpointer.save_checkpointables_async(
            int(host.step),
            {"variables": host.variables, "training": {"step": host.step, "training": host.training}},
            force=True,
            metrics=None if score is None else {SCORE: float(score)},
        )

    def restore(self, step: int, like: State) -> State:
        """The state of a step, as numpy arrays.

        Args:
          step: one of `steps`.
          like: a state with the expected shapes and dtypes.
        """
        abstract = {"variables": like.variables, "training": {"step": like.step, "training": like.training}}
        parts = self._load(step, abstract)
        return State(parts["training"]["step"], parts["variables"], parts["training"]["training"])

    def restore_variables(self, step: int, like: PyTree) -> PyTree:
        """Only what embedding needs, as numpy arrays."""
        return self._load(step, {"variables": like})["variables"]

    def find(self, which: str) -> int:
        """The step that "latest", "best" or a number stands for.

        Raises:
          UserError: there is no such checkpoint.
        """
        steps, folder = self.steps, self._checkpointer.directory
        if not steps:
            raise UserError(f"no checkpoint in {folder}: train first, or name the --workdir of a training run")
        if which == "latest":
            return steps[-1]
        if which == "best":
            if self.best is None:
                raise UserError(
                    f"no checkpoint in {folder} has a score, so there is no best one: "
                    "set config.eval.every while training, or use config.eval.checkpoint=latest"
                )
            return self.best
        if int(which) not in steps:
            raise UserError(f"no checkpoint of step {which} in {folder}; there are {', '.join(map(str, steps))}")
        return int(which)

    def _load(self, step: int, like: Mapping[str, PyTree]) -> dict[str, PyTree]:
        saved = self._checkpointer.checkpointables_metadata(step).metadata
        # Orbax fits arrays of another shape in silently.
        differing = _differences(_shapes({name: saved[name] for name in like}), _shapes(like))
        if differing:
            raise UserError(
                f"the checkpoint of step {step} in {self._checkpointer.directory} is of another model "
                "(other model settings or another number of training identities):\n" + "\n".join(differing)
            )
        abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), dict(like))
        return self._checkpointer.load_checkpointables(step, abstract)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def _differences(saved: dict[str, tuple], expected: dict[str, tuple], shown: int = 10) -> list[str]:
    names = [name for name in sorted(saved.keys() | expected.keys()) if saved.get(name) != expected.get(name)]
    lines = [
        f"  {name}: saved {saved.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}" for name in names
    ]
    return lines[:shown] + ([f"  and {len(lines) - shown} more"] if len(lines) > shown else [])


def _score(metrics: Mapping[str, float]) -> float:
    return metrics[SCORE]
