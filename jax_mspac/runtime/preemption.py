"""SIGTERM and SIGINT as a request to stop: in training after a step, elsewhere at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

# EX_TEMPFAIL of sysexits.h: not done, and the same command goes on. Schedulers can be told to requeue on it.
EXIT_STATUS = 75

_received: signal.Signals | None = None
_postponing = False
# Seconds until a signal is repeated whose exception was swallowed.
_PATIENCE = 0.1
# Of several processes: what they said after the step before.
_vote: Callable[[], bool] | None = None


class Interrupted(BaseException):
    """A signal asked to stop. Not an Exception, so that no handler of errors mistakes it for one."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """From here on the first SIGTERM or SIGINT raises `Interrupted`; a second SIGINT ends the process at once.

    Under `postponed` nothing is raised, and `requested` tells instead. Only the main thread can enter.
    """
    global _received
    _received = None
    before = {number: signal.signal(number, _receive) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook

    def swallowed(unraisable: "sys.UnraisableHookArgs") -> None:
        # The handler ran in a callback, as those of the garbage collector are, which ends no program: once more.
        global _received
        if not isinstance(unraisable.exc_value, Interrupted) or _received is None:
            return hook(unraisable)
        number, _received = _received, None
        signal.signal(signal.SIGINT, _receive)
        again = threading.Timer(_PATIENCE, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = None  # whatever comes next in this process was not asked to stop


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """In it a signal is noted, and `requested` tells of it."""
    global _vote
    _vote = None
    with _postponing_set(True):
        yield


@contextlib.contextmanager
def immediate() -> Iterator[None]:
    """In it, inside `postponed`, a signal raises all the same, and so does one that was noted before."""
    with _postponing_set(False):
        if _received and not _distributed():
            raise Interrupted(_text(_received))
        yield


def requested() -> bool:
    """Whether to stop after this step. To be called once after every step.

    Of several processes (after `jax.distributed.initialize`) all get the same answer after the same step, whichever was
    sent the signal: each is told what all said after the step before, so that no device waits for the answer. (JAX's
    own `reached_preemption_sync_point` would do but for Orbax, which calls it too, with steps that it has saved in the
    background; a signal that arrives just then is lost.)
    """
    global _vote
    if not _distributed():
        return _received is not None
    from jax_mspac.runtime import parallel

    before, _vote = _vote, parallel.any_process(_received is not None)
    return before is not None and before()


def after(step: int) -> Interrupted:
    """The exception for a run that has saved a step because `requested` said so."""
    return Interrupted(f"{_text(_received or signal.SIGTERM)} after step {step}, which is saved")


def _receive(number: int, frame: FrameType | None) -> None:
    global _received
    first, _received = _received is None, _received or signal.Signals(number)
    # The kernel's own way ends even a compilation, during which no handler of Python runs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A process that left the others without a word would leave them waiting.
    if first and not _postponing and not _distributed():
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
    return jax is not None and hasattr(jax, "distributed") and jax.distributed.is_initialized()


def _text(number: signal.Signals) -> str:
    return f"interrupted by {number.name}"
