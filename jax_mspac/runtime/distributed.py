"""Several processes, usually one per host, that train and evaluate together through JAX's distributed runtime.

All run the same program, each on its share of a batch. The main one, process 0, speaks and writes for all; what the
others print goes nowhere, but for errors. They share the workdir. In a single process all of this does nothing.
"""

import contextlib
import itertools
import os
import pathlib
import socket
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from jax_mspac.errors import UserError

T = TypeVar("T")

# One host may prepare a large data set while the others wait.
_PATIENCE_MS = 24 * 3600 * 1000
# After as long without a sign of life a process counts as dead, and JAX ends the others and says which it was.
_HEARTBEAT_SECONDS = 40
# For processes that fail alike to end by themselves before the main one, which takes the runtime away, does.
_GRACE_SECONDS = 3
_barriers = itertools.count()


@contextlib.contextmanager
def joined(
    *,
    detect: bool = False,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[None]:
    """Joins the other processes, if there are any; to be entered before anything uses a device.

    Leaving it waits for all of them, and parts from them. An error ends this process at once instead, because Python's
    own end would wait for processes that may be waiting for this one.

    Args:
      detect: find the others through Slurm, Cloud TPU, GKE, Open MPI or Kubernetes, as `jax.distributed` does.
      coordinator_address: HOST:PORT of process 0. Instead of `detect`, with the two below.
      num_processes: how many processes there are.
      process_id: which of them this is, from 0.

    Raises:
      UserError: the arguments are incomplete or contradict each other, or there is nothing to detect.
    """
    if not _checked(detect, coordinator_address, num_processes, process_id):
        yield
        return
    # It would take SIGTERM from `interruption`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            local_device_ids=_device_ids(),
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        if not detect:
            raise UserError(f"the processes did not find each other at {coordinator_address}: {error}") from error
        raise UserError(
            f"--distributed finds no other processes here ({error}). It knows Slurm (start with srun), Open MPI "
            "(mpirun), Cloud TPU, GKE and Kubernetes (with jax[k8s] installed); elsewhere give "
            "--coordinator_address=HOST:PORT of process 0, --num_processes and --process_id in its place"
        ) from error
    with contextlib.ExitStack() as stack:
        if not is_main():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        try:
            yield
            barrier()
        except Exception as error:
            if jax.process_count() == 1:
                raise
            _leave(error)
        finally:
            # Together: the runtime ends with process 0, and those that are still in it then end with an error.
            jax.distributed.shutdown()


def is_main() -> bool:
    """Whether this process speaks and writes for all."""
    return jax.process_index() == 0


def barrier() -> None:
    """Waits until every process is here. Unlike a collective it keeps no device busy and may take long."""
    multihost.get_barrier_sync_fn()(key=f"jax_mspac_{next(_barriers)}", timeout_ms=_PATIENCE_MS)


def in_turn(work: Callable[[], T]) -> T:
    """What `work` returns, called by the main process first, then by one process of each other host, then by the rest.

    So files that it writes are written once per disk, whether the hosts share it or not.

    Raises:
      UserError: another process failed.
      Exception: what `work` raises.
    """
    hosts = _of_all(np.uint32(zlib.crc32(socket.gethostname().encode())))
    first_of_host = np.argmax(hosts == hosts[jax.process_index()]) == jax.process_index()
    turn = 0 if is_main() else 1 if first_of_host else 2
    for now in range(3):
        failure = None
        if now == turn:
            try:
                result = work()
            except Exception as error:
                failure = error
        barrier()
        failed = np.flatnonzero(_of_all(np.bool_(failure is not None)))
        if failed.size:
            raise failure or UserError(f"process {failed[0]} failed, see its own error; this one waited for it")
    return result


def check_same(what: str, parts: Iterable[bytes]) -> None:
    """Checks that the processes have the same bytes, before what depends on them leaves them waiting for each other.

    Raises:
      UserError: they differ; on all processes.
    """
    if jax.process_count() == 1:
        return
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    checksums = _of_all(np.uint32(checksum))
    if differing := np.flatnonzero(checksums != checksums[0]).tolist():
        raise UserError(f"{what}: process {', '.join(map(str, differing))} and process 0 do not see the same")


def check_shared(workdir: pathlib.Path) -> None:
    """Checks that the processes see one workdir and the same checkpoints in it, which Orbax reads together.

    Raises:
      UserError: they do not; on all processes.
    """
    if jax.process_count() == 1:
        return
    token = workdir / ".shared"
    if is_main() and workdir.is_dir():
        token.write_bytes(os.urandom(16))
    barrier()
    steps = sorted(path.name for path in workdir.glob("*/*") if path.name.isdecimal())
    seen = token.read_bytes() if token.exists() else b""
    check_same(f"{workdir}, which all hosts must share", [seen, str(steps).encode()])
    if is_main():
        token.unlink(missing_ok=True)


def share(positions: np.ndarray) -> np.ndarray:
    """This process's part of [N]: the same number for each, so the last ones repeat some positions."""
    count = jax.process_count()
    return np.resize(positions, (count, -(-len(positions) // count)))[jax.process_index()]


def gathered(values: np.ndarray) -> np.ndarray:
    """[n, ...] of each process -> [processes * n, ...] on every one, in the order of the processes."""
    return multihost_utils.process_allgather(values, tiled=True)


def _checked(detect: bool, address: str | None, count: int | None, number: int | None) -> bool:
    """Whether there is anything to join."""
    explicit = {"--coordinator_address": address, "--num_processes": count, "--process_id": number}
    given = [name for name, value in explicit.items() if value is not None]
    missing = [name for name in explicit if name not in given]
    if detect and given:
        raise UserError(f"--distributed finds everything by itself; give it or {', '.join(given)}, not both")
    if given and missing:
        raise UserError(f"{', '.join(given)} given without {', '.join(missing)}; all three, or --distributed instead")
    if address is not None and count is not None and number is not None:
        if not address.rpartition(":")[2].isdecimal() or address.startswith(":"):
            raise UserError(f"--coordinator_address is {address!r}; expected HOST:PORT of process 0")
        if not 0 <= number < count:
            raise UserError(f"--process_id is {number}; expected 0 to {count - 1}, --num_processes is {count}")
    return detect or bool(given)


def _device_ids() -> list[int] | None:
    """All devices of the host for a process that is alone on it; JAX would give it one under Slurm and Open MPI."""
    tasks = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1")
    alone = tasks.partition("(")[0] == "1" and "JAX_LOCAL_DEVICE_IDS" not in os.environ
    return [] if alone else None  # JAX reads [] as no restriction and None as its default


def _of_all(value: np.generic) -> np.ndarray:
    """[processes]: the value of each."""
    return np.reshape(multihost_utils.process_allgather(value), -1)


def _leave(error: Exception) -> None:
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    if "Gloo" in str(error):
        # A connection broke. The runtime tells within its heartbeat which process is gone, and ends this one.
        time.sleep(_HEARTBEAT_SECONDS + 5)
    if is_main():
        time.sleep(_GRACE_SECONDS)
    os._exit(1)
