"""The folder of a run: opened by one process at a time, for one run, with errors of the disk explained."""

import contextlib
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

from jax_mspac.errors import UserError
from jax_mspac.runs import config_file
from jax_mspac.runs.checkpoints import FOLDER
from jax_mspac.runtime import disk, distributed
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.runtime.files import write_whole

LOCK_FILE = "run.lock"
VERSIONS_FILE = "versions.json"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-cpu", "tensorflow-datasets", "numpy")


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
    with explained(config, workdir), contextlib.ExitStack() as stack:
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"{workdir} is a file; --workdir names the folder of a run")
        workdir.mkdir(parents=True, exist_ok=True)
        if distributed.is_main():
            stack.enter_context(_locked(workdir))
        check_settings(config, workdir)
        if distributed.is_main():
            config_file.save(config, workdir / config_file.FILE)
            write_whole(workdir / VERSIONS_FILE, json.dumps(_versions(), indent=2) + "\n")
        yield workdir


def explained(config: ConfigDict, workdir: str | os.PathLike) -> contextlib.AbstractContextManager[None]:
    """Errors of the disks that a run writes to as `UserError`s."""
    return disk.explained(
        {workdir: "--workdir", disk.sets_folder(config.data.data_dir): "--config.data.data_dir"},
        saved="What was saved is whole: the same command then goes on from the last checkpoint",
    )


def check_settings(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Checks that the run in a folder, which may be none, is the one of this config.

    Raises:
      UserError: a checkpoint in the folder was trained with other settings.
    """
    path = workdir / config_file.FILE
    # Without a checkpoint there is nothing to mix up: a first attempt with a wrong setting may be mended.
    if path.exists() and any(folder.name.isdecimal() for folder in (workdir / FOLDER).glob("*")):
        differing = config_file.differences(config_file.load(path), config)
        if differing:
            raise UserError(
                f"{workdir} holds a run with other settings; give another --workdir, or its settings back:\n  "
                + "\n  ".join(differing)
            )


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


def _versions() -> dict[str, object]:
    versions: dict[str, object] = {}
    for name in _PACKAGES:
        # Without TensorFlow a run reads its images from memory.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions | {"python": platform.python_version(), "devices": [str(d.device_kind) for d in jax.devices()]}
