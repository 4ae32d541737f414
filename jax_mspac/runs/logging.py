"""What a run says while it trains: the progress line, metrics.jsonl and TensorBoard scalars."""

import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from jax_mspac.runtime.files import write_whole

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricsLog:
    """Scalars of a run by step, in metrics.jsonl and for TensorBoard. Use as a context manager.

    A run that resumes at `start` drops what an interrupted run wrote after its last checkpoint, so that each step
    stands once. TensorBoard's files cannot be cut, so they are written again from metrics.jsonl.

    Attributes:
      last: the last entry that was there, or nothing.

    Args:
      workdir: folder of the run.
      start: entries of later steps are dropped.
      missed: scalars that belong to the entry of `start` and came too late for it.
      read_only: write nothing, because another process of the run does.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        start: int,
        missed: Mapping[str, float] | None = None,
        read_only: bool = False,
    ):
        path = pathlib.Path(workdir) / METRICS_FILE
        kept = [line for line in _lines(path) if line["step"] <= start]
        if missed:
            before = kept.pop() if kept and kept[-1]["step"] == start else {"step": start}
            kept.append({**before, **missed})
        self.last: dict[str, float] = kept[-1] if kept else {}
        self._read_only = read_only
        if read_only:
            return
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")
        folder = pathlib.Path(workdir) / TENSORBOARD_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = _tensorboard(folder)
        for line in kept:
            self._summarize(line)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._read_only:
            self._file.close()
            if self._writer:
                self._writer.close()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records the scalars of a step; they are on disk when this returns."""
        if self._read_only:
            return
        line = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._summarize(line)

    def _summarize(self, line: Mapping[str, float]) -> None:
        for name, value in line.items() if self._writer else ():
            if name != "step":
                self._writer.add_scalar(name, value, line["step"])


def _tensorboard(folder: pathlib.Path) -> Any:
    """A writer of scalars; None where TensorBoard is not installed, and metrics.jsonl has to do."""
    try:
        # It imports TensorFlow where there is one, which takes seconds.
        from tensorboard.summary import Writer
    except ModuleNotFoundError:
        return None
    return Writer(str(folder))


def _lines(path: pathlib.Path) -> list[dict]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):  # the line that an interruption cut short
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


class ProgressLine:
    """One line about the run: step, epoch, images/s, time left, loss terms, learning rate.

    On a terminal the line is rewritten in place; in a file each one stays.

    Args:
      start: first step.
      steps: last step.
      images_per_step: batch size over all devices.
      images_per_epoch: number of training images.
    """

    def __init__(self, *, start: int, steps: int, images_per_step: int, images_per_epoch: int):
        self._steps = steps
        self._images_per_step = images_per_step
        self._images_per_epoch = images_per_epoch
        self._last_step, self._last_time = start, time.monotonic()
        self._rate = 0.0
        self._width = 0

    def show(self, step: int, scalars: Mapping[str, float]) -> float:
        """Writes the line after `step` and returns the images per second since the last one."""
        now = time.monotonic()
        steps, seconds = step - self._last_step, now - self._last_time
        self._last_step, self._last_time = step, now
        rate = steps / max(seconds, 1e-9)
        # Half of the old estimate keeps the time left calm.
        self._rate = rate if self._rate == 0.0 else (self._rate + rate) / 2
        left = duration((self._steps - step) / self._rate) if self._rate else "?"
        # The total first; JAX sorts the names.
        names = sorted(scalars.keys() - {"learning_rate"}, key=lambda name: (name != "loss", name))
        losses = "  ".join(f"{name} {scalars[name]:.3f}" for name in names)
        self._write(
            f"step {step}/{self._steps}  epoch {step * self._images_per_step / self._images_per_epoch:.1f}  "
            f"{rate * self._images_per_step:.0f} images/s  {left} left  "
            f"lr {scalars.get('learning_rate', float('nan')):.2g}  |  {losses}"
        )
        return rate * self._images_per_step

    def close(self) -> None:
        """Ends the line, so that something else can be printed."""
        if self._width:
            print(flush=True)
        self._width = 0

    def restart(self, step: int) -> None:
        """Measures the rate from here on: what came before (compilation, an evaluation) was not training."""
        self._last_step, self._last_time = step, time.monotonic()

    def _write(self, line: str) -> None:
        if sys.stdout.isatty():
            # A line that wraps cannot be rewritten in place.
            line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self._width), end="", flush=True)
            self._width = len(line)
        else:
            print(line, flush=True)


def duration(seconds: float) -> str:
    """h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
