"""SIGTERM and SIGINT as a request to stop: in training after a step, elsewhere at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

# EX_TEMPFAIL of sysexits.h: not done, and the same command goes on. Schedulers can be told to requeue on it.
EXIT_STATUS = 75

_received: signal.Signals | None = None
_postponing = False


class Interrupted(BaseException):
    """A signal asked to stop. Not an Exception, so that no handler of errors mistakes it for one."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """From here on the first SIGTERM or SIGINT raises `Interrupted`; a second SIGINT ends the process at once.

    Under `postponed` nothing is raised, and `requested` tells instead. Only the main thread can enter.
    """
    global _received
    _received = None
    # What JAX installed to tell all processes of a SIGTERM must stay.
    watching = (signal.SIGINT,) if _distributed() else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _receive) for number in watching}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = None  # whatever comes next in this process was not asked to stop


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """In it a signal is noted, and `requested` tells of it."""
    with _postponing_set(True):
        yield


@contextlib.contextmanager
def immediate() -> Iterator[None]:
    """In it, inside `postponed`, a signal raises all the same, and so does one that was noted before."""
    with _postponing_set(False):
        if _received and not _distributed():
            raise Interrupted(_text(_received))
        yield


def requested(step: int) -> bool:
    """Whether to stop after this step. To be called once after every step.

    Of several processes (after `jax.distributed.initialize`) all get the same answer, whichever was sent the signal.
    """
    if _distributed():
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)
    return _received is not None


def after(step: int) -> Interrupted:
    """The exception for a run that has saved a step because `requested` said so."""
    return Interrupted(f"{_text(_received or signal.SIGTERM)} after step {step}, which is saved")


def _receive(number: int, frame: FrameType | None) -> None:
    global _received
    first, _received = _received is None, _received or signal.Signals(number)
    # The kernel's own way ends even a compilation, during which no handler of Python runs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _distributed():
        # JAX watches SIGTERM and makes the processes agree on a step.
        os.kill(os.getpid(), signal.SIGTERM)
    elif first and not _postponing:
        raise Interrupted(_text(_received))


@contextlib.contextmanager
def _postponing_set(value: bool) -> Iterator[None]:
    global _postponing
    before, _postponing = _postponing, value
    try:
        yield
    finally:
        _postponing = before


def _distributed() -> bool:
    jax = sys.modules.get("jax")  # a handler is no place to import it
    return hasattr(jax, "distributed") and jax.distributed.is_initialized()


def _text(number: signal.Signals) -> str:
    return f"interrupted by {number.name}"
