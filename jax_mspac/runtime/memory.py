"""What becomes of a step's memory before the next step."""

import ctypes
import os
import platform

import jax

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# What a user sets who knows better.
_USERS_OWN = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def keep() -> bool:
    """Where programs run on the CPU, keeps their memory for the next step instead of giving it back to the system.

    XLA:CPU takes the intermediate results of a step from malloc, in one piece, and frees them after it. By default
    glibc returns such a piece to the system, which has to find and to clear every page of it again for the next step.
    Only the main thread's memory can be kept, and programs run in it as long as their arguments are there before they
    are called, which `parallel` sees to. In exchange the process does not become smaller. Nothing changes on other
    platforms, with another C library, or where the environment sets malloc's parameters or loads another malloc.

    Call it in the main thread, before JAX has looked for its devices. Several devices on one CPU run in threads of
    their own and gain nothing. It returns whether memory is kept from now on.
    """
    if not _is_glibc() or any(map(os.environ.get, _USERS_OWN)):
        return False
    # In the thread that asks for it: that of other threads cannot grow without mmap.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu":
        return False
    libc = ctypes.CDLL(None)
    return all([libc.mallopt(_MMAP_MAX, 0), libc.mallopt(_TRIM_THRESHOLD, -1)])


def give_back() -> None:
    """Gives memory that nobody uses back to the system, once, where programs run on the CPU.

    To be called where one kind of work ends and another begins. What was taken while a program was loaded lies around
    the first step's piece, so that the second one often does not fit where the first was; without this, a process would
    hold both from then on. The next step finds its pages anew.
    """
    if _is_glibc() and jax.default_backend() == "cpu":
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
