"""Checkpoints with Orbax: asynchronous, atomic, checksummed; the latest few and the best.

A checkpoint has three parts: `variables`, which is all that embedding needs; `training`, the rest of the state; and
`record`, which tells the shape and the checksum of every array. Evaluation reads the first alone. Orbax commits the
parts together, and its files vouch for their own structure only: the record is what tells a flipped byte in an array.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jax_mspac.errors import UserError
from jax_mspac.methods.base import State
from jax_mspac.runs import integrity
from jax_mspac.runs.integrity import DamagedCheckpoint
from jax_mspac.runtime import distributed

PyTree = Any
# Name of the checkpoints' folder in the workdir.
FOLDER = "checkpoints"
# What follows the step in the name of a checkpoint that was put aside.
DAMAGED = ".damaged"


class Checkpoints:
    """The checkpoints of one run. Use as a context manager: leaving it waits for the last save.

    Args:
      folder: where they are kept, one integer-named folder per step.
      keep: how many of the latest to keep, besides the one with the best score.
      read_only: leave alone what an interrupted save left, which may be the save of a run that goes on.
    """

    def __init__(self, folder: str | os.PathLike, *, keep: int = 2, read_only: bool = False):
        policies = ocp.training.preservation_policies
        registry = ocp.handlers.local_registry()
        registry.add(ocp.handlers.JsonHandler, checkpointable_name="record")
        context = ocp.Context()
        context.checkpointables.registry = registry
        self._checkpointer = ocp.training.Checkpointer(
            pathlib.Path(folder).absolute(),
            context=context,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), _Best(self)]),
            cleanup_tmp_directories=not read_only,
        )
        # By step, of those that can tell.
        self._scores: dict[int, float] = {}
        for step in self.steps:
            try:
                self._remember(step, self._record(step))
            except DamagedCheckpoint:
                continue

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._checkpointer.close()
        except Exception:
            # The error that ends the run says more than the save that failed beside it.
            if not isinstance(error, UserError):
                raise

    @property
    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    @property
    def best(self) -> int | None:
        """The step with the best score (the later one of equals), or None if no checkpoint has a score."""
        return self.best_of(self.steps)

    def best_of(self, steps: Sequence[int]) -> int | None:
        """As `best`, of some steps."""
        scored = [step for step in steps if step in self._scores]
        return max(scored, key=lambda step: (self._scores[step], step), default=None)

    def save(self, state: State, *, score: float | None = None, evaluated: bool = True) -> None:
        """Starts to save the state under its step, in the place of one that is there.

        It returns once the arrays are copied to the host.

        Args:
          state: replicated on the devices of this process.
          score: a number to rank checkpoints by, the larger the better; None if it was not measured.
          evaluated: whether the evaluation that is due at this step was made; see `evaluated`.
        """
        folder = self._checkpointer.directory
        if not folder.is_dir():  # Orbax would make it again, and nothing else that was in the workdir
            raise UserError(
                f"{folder} is gone: it was deleted or unmounted while the run was in it. Put it back, and the same "
                "command goes on from its last checkpoint; without it, it starts over"
            )
        # Host copies: several processes cannot save what each owns alone, and donation may not reach into a save.
        host = jax.device_get(state)
        parts = {"variables": host.variables, "training": {"step": host.step, "training": host.training}}
        record = {"arrays": integrity.describe(parts), "score": score, "evaluated": evaluated}
        self._remember(int(host.step), record)
        self._checkpointer.save_checkpointables_async(
            int(host.step),
            {**parts, "record": integrity.sealed(record)},
            force=True,
            overwrite=int(host.step) in self.steps,
        )

    def wait(self) -> None:
        """Waits for the save that is under way.

        Raises:
          Exception: what kept it from being written.
        """
        self._checkpointer.wait()

    def restore(self, step: int, like: State) -> State:
        """The state of a step, as numpy arrays.

        Args:
          step: one of `steps`.
          like: a state with the expected shapes and dtypes.

        Raises:
          DamagedCheckpoint: it is not what was saved.
          UserError: it is of another model.
        """
        abstract = {"variables": like.variables, "training": {"step": like.step, "training": like.training}}
        parts = self._load(step, abstract)
        return State(parts["training"]["step"], parts["variables"], parts["training"]["training"])

    def restore_latest(self, like: State) -> State:
        """The state of the newest checkpoint that is whole; damaged ones that are newer are put aside, and named.

        Raises:
          UserError: none is whole, or it is of another model.
        """
        step, state = self._newest_whole(lambda step: self.restore(step, like))
        folder = self._checkpointer.directory
        distributed.check_same(f"the newest checkpoint in {folder} that is whole", [str(step).encode()])
        for newer in [other for other in self.steps if other > step]:
            self._put_aside(newer)
        return state

    def restore_variables(self, step: int, like: PyTree) -> PyTree:
        """Only what embedding needs, as numpy arrays.

        Raises:
          DamagedCheckpoint: it is not what was saved.
          UserError: it is of another model.
        """
        return self._load(step, {"variables": like})["variables"]

    def find_variables(self, which: str, like: PyTree) -> tuple[int, PyTree]:
        """The step and the variables that "latest", "best" or a number stands for.

        "latest" is the newest that is whole, and says which newer ones are not; the others have no replacement.

        Raises:
          UserError: there is no such checkpoint, it is damaged, or it is of another model.
        """
        step = self.find(which)
        if which == "latest":
            return self._newest_whole(lambda step: self.restore_variables(step, like))
        return step, self.restore_variables(step, like)

    def evaluated(self, step: int) -> bool:
        """Whether the evaluation that was due at a step was made; an interrupted run saves and evaluates later."""
        return self._record(step)["evaluated"]

    def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """The shape of each array of a step by its name."""
        arrays = self._record(step)["arrays"]
        return {name: tuple(json.loads(text[text.index("[") :])) for name, (text, _) in arrays.items()}

    def find(self, which: str) -> int:
        """The step that "latest", "best" or a number stands for.

        Raises:
          UserError: there is no such checkpoint, or that is no name of one.
        """
        steps, folder = self.steps, self._checkpointer.directory
        if not steps:
            root = folder.parent
            if runs := sorted(path.parent.name for path in root.glob(f"*/{FOLDER}")):
                raise UserError(
                    f"no checkpoint in {folder}: {root} holds {len(runs)} runs; name the folder of one, "
                    f"such as {root / runs[0]}"
                )
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
        if not which.isdecimal():
            raise UserError(f"checkpoint {which!r}: expected 'latest', 'best' or a step")
        if int(which) not in steps:
            raise UserError(f"no checkpoint of step {which} in {folder}; there are {', '.join(map(str, steps))}")
        return int(which)

    def _newest_whole(self, restore: Callable[[int], Any]) -> tuple[int, Any]:
        damage = []
        for step in reversed(self.steps):
            try:
                restored = restore(step)
            except DamagedCheckpoint as error:
                damage.append(str(error))
                continue
            for line in damage:
                print(f"warning: {line}; falling back to the checkpoint of step {step}", flush=True)
            return step, restored
        folder = self._checkpointer.directory
        raise UserError(
            f"no checkpoint in {folder} is whole, so the run cannot go on from where it was:\n  "
            + "\n  ".join(damage)
            + "\nCopy the folder again from a backup, or start over in a new --workdir"
        )

    def _put_aside(self, step: int) -> None:
        folder = self._checkpointer.directory / str(step)
        aside = folder.with_name(folder.name + DAMAGED)
        if distributed.is_main():
            if aside.exists():
                aside.rmtree()
            folder.rename(aside)
        distributed.barrier()
        self._checkpointer.reload()
        self._scores.pop(step, None)
        print(f"the damaged checkpoint of step {step} is kept in {aside}; delete it when you like", flush=True)

    def _load(self, step: int, like: Mapping[str, PyTree]) -> dict[str, PyTree]:
        self.wait()  # what is being saved counts among the steps already
        arrays = self._record(step)["arrays"]
        saved = {name: shape for name, (shape, _) in arrays.items() if name.partition("/")[0] in like}
        # Orbax fits arrays of another shape in silently.
        differing = integrity.differences(saved, integrity.shapes(like))
        if differing:
            raise UserError(
                f"the checkpoint of step {step} in {self._checkpointer.directory} is of another model "
                "(other model settings or another number of training identities):\n" + "\n".join(differing)
            )
        abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), dict(like))
        # One after the other: where several fail at once, Orbax leaves tasks behind that complain later.
        parts = {name: self._read(step, name, part) for name, part in abstract.items()}
        wrong = integrity.altered(parts, arrays)
        if wrong:
            raise self._damaged(step, f"the checksum of {wrong[0]} does not fit ({len(wrong)} of {len(saved)} arrays)")
        return parts

    def _record(self, step: int) -> dict[str, Any]:
        sealed = self._read(step, "record", None)
        try:
            return integrity.opened(sealed)
        except ValueError as error:
            raise self._damaged(step, str(error)) from None

    def _read(self, step: int, name: str, abstract: PyTree) -> PyTree:
        try:
            return self._checkpointer.load_checkpointables(step, {name: abstract})[name]
        # Damage ends in whatever the readers of a dozen formats raise.
        except Exception as error:
            raise self._damaged(step, str(error).strip().partition("\n")[0][:300] or type(error).__name__) from error

    def _damaged(self, step: int, reason: str) -> DamagedCheckpoint:
        return DamagedCheckpoint(f"{self._checkpointer.directory / str(step)} is damaged: {reason}")

    def _remember(self, step: int, record: Mapping[str, Any]) -> None:
        self._scores.pop(step, None)
        if record["score"] is not None:
            self._scores[step] = record["score"]


@dataclasses.dataclass(frozen=True)
class _Best:
    """Preserves the best checkpoint.

    Orbax's own policy reads scores from files, and one damaged file of these would keep all checkpoints from being
    opened; ours lie in the sealed records.
    """

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = self.checkpoints.best_of(steps)
        return [step == best for step in steps]
