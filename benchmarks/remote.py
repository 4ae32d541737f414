"""Programs in processes of their own, which are told in turn to do one measurement.

Thread pools, caches and peaks of memory of one program then leave the other's alone, while a change of the machine's
load falls on both.
"""

import multiprocessing
import os
import pkgutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Result = TypeVar("Result")

# What lives in this process, if a `Remote` has made it.
_program: Any = None


class Remote:
    """An object in a new process. Calling the remote calls a method of it, and waits.

    A context manager: the process ends with the block. An exception of the object is raised here, too; where the
    process has ended, say for want of memory, SystemExit.

    Args:
      name: of the class, as "package.module:Class". It is imported there and not here.
      arguments: of the class; pickled.
    """

    def __init__(self, name: str, *arguments: Any):
        self._name = name
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            self._result(_make, name, arguments)
        except BaseException:
            self._pool.shutdown()
            raise

    def __call__(self, method: str, *arguments: Any) -> Any:
        return self._result(_call, method, arguments)

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._pool.shutdown()

    def _result(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise SystemExit(
                f"error: the process of {self._name} has ended, most likely because the machine's memory is too small "
                "for it; a smaller workload, such as a smaller --batch, needs less"
            ) from None


def _make(name: str, arguments: tuple) -> None:
    global _program
    _program = pkgutil.resolve_name(name)(*arguments)


def _call(method: str, arguments: tuple) -> Any:
    return getattr(_program, method)(*arguments)


def in_turn(measures: Sequence[Callable[[], Result]], repeats: int) -> list[list[Result]]:
    """What each measure returned, `repeats` times, one after the other and then again."""
    results: list[list[Result]] = [[] for _ in measures]
    for _ in range(repeats):
        for measure, of_measure in zip(measures, results, strict=True):
            of_measure.append(measure())
    return results


def share_one_accelerator() -> None:
    """Has the processes started from now on use the same single GPU, each taking memory as it needs it."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
