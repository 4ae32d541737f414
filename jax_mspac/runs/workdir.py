"""The folder of a run: opened by one process at a time, for one run, with errors of the disk explained."""

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import socket
from collections.abc import Iterator
from typing import IO

import jax
from ml_collections import ConfigDict

from jax_mspac.errors import UserError
from jax_mspac.runs import config_file
from jax_mspac.runs.checkpoints import FOLDER
from jax_mspac.runtime import distributed
from jax_mspac.runtime.files import write_whole

LOCK_FILE = "run.lock"
VERSIONS_FILE = "versions.json"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-cpu", "tensorflow-datasets", "numpy")
_OTHER_WORKDIR = ", or name another --workdir"
# What the system says of a disk -> what the user can do.
_MENDS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: f"mount it writable{_OTHER_WORKDIR}",
    errno.EACCES: f"change its access rights{_OTHER_WORKDIR}",
    errno.EPERM: f"change its access rights{_OTHER_WORKDIR}",
    errno.ENOTDIR: "name another --workdir",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount it again",
}


@contextlib.contextmanager
def opened(config: ConfigDict, workdir: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Makes the folder of a run, or checks that the run there is this one, and keeps other processes out until the end.

    Args:
      config: validated; kept in the folder, with the versions of the libraries.
      workdir: the folder.

    Yields:
      Its absolute path.

    Raises:
      UserError: another process trains in it, it holds a run with other settings, or, also later, the disk is full or
        may not be written.
    """
    workdir = pathlib.Path(workdir).absolute()
    with explained(workdir), contextlib.ExitStack() as stack:
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"{workdir} is a file; --workdir names the folder of a run")
        workdir.mkdir(parents=True, exist_ok=True)
        if distributed.is_main():
            stack.enter_context(_locked(workdir))
        _check_settings(config, workdir)
        if distributed.is_main():
            config_file.save(config, workdir / config_file.FILE)
            write_whole(workdir / VERSIONS_FILE, json.dumps(_versions(), indent=2) + "\n")
        yield workdir


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the lock of the folder, which the kernel lets go of when the process ends, however it ends."""
    with (workdir / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(_held(workdir, file)) from None
        except OSError as error:  # some network file systems have no locks
            print(f"warning: {file.name} cannot be locked ({error}): start no second run in {workdir}", flush=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _held(workdir: pathlib.Path, file: IO[str]) -> str:
    file.seek(0)
    return (
        f"{workdir} is in use: {file.read() or 'another process'} trains in it. Wait for its end or end it, or name "
        "another --workdir"
    )


@contextlib.contextmanager
def explained(workdir: pathlib.Path) -> Iterator[None]:
    """Turns what the disk refuses, by way of whatever library, into an error that names the place and the mend.

    The place is the folder, unless the system names a path elsewhere, such as a source of data.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        causes = list(_causes(error))
        messages = [str(cause) for cause in causes]
        for cause in causes:
            if isinstance(cause, OSError) and cause.errno in _MENDS and _is_elsewhere(cause.filename, workdir):
                mend = _MENDS[cause.errno].removesuffix(_OTHER_WORKDIR)
                raise UserError(f"{cause.filename}: {os.strerror(cause.errno)}; {mend}") from error
        for number, mend in _MENDS.items():
            reason = os.strerror(number)
            if found := [message for message in messages if reason in message]:
                raise UserError(
                    f"{workdir}: {reason} ({found[-1].strip().partition(chr(10))[0][:300]}); {mend}. What was saved is "
                    "whole: the same command then goes on from the last checkpoint"
                ) from error
        raise


def _is_elsewhere(path: object, workdir: pathlib.Path) -> bool:
    """Whether a path is neither in the folder nor on the way to it."""
    if not isinstance(path, str):
        return False
    place, folder = pathlib.Path(path).absolute(), workdir.absolute()
    return not place.is_relative_to(folder) and not folder.is_relative_to(place)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, and what that came from, ..."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _check_settings(config: ConfigDict, workdir: pathlib.Path) -> None:
    path = workdir / config_file.FILE
    # Without a checkpoint there is nothing to mix up: a first attempt with a wrong setting may be mended.
    if path.exists() and any(folder.name.isdecimal() for folder in (workdir / FOLDER).glob("*")):
        differing = config_file.differences(config_file.load(path), config)
        if differing:
            raise UserError(
                f"{workdir} holds a run with other settings; give another --workdir, or its settings back:\n  "
                + "\n  ".join(differing)
            )


def _versions() -> dict[str, object]:
    versions: dict[str, object] = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return versions | {"python": platform.python_version(), "devices": [str(d.device_kind) for d in jax.devices()]}
