"""Compiled programs, kept on disk with the name of all that they were made from.

JAX's own cache saves the compilation, but asks for the traced program first, and tracing a network takes seconds. Here
the key is what tracing would read: the source of this package, the method, the libraries, the devices. Code of callers
is not in it, so that only commands, which run nothing else, switch this on.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import pickle
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
from jax.experimental import serialize_executable

# What else decides what a function is traced and compiled to.
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_collections")
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
# Every change of the source or of a config makes new ones of 5 to 30 MB; the oldest go.
_MOST = 20

_folder: pathlib.Path | None = None
# Programs that this process has found in JAX's own cache.
_hits = 0


def _count(event: str, **_: Any) -> None:
    global _hits
    _hits += event == "/jax/compilation_cache/cache_hits"


jax.monitoring.register_event_listener(_count)


def keep(folder: pathlib.Path | None) -> None:
    """Has `kept` look for programs in a folder, and put them there; with None it leaves functions as they are."""
    global _folder
    _folder = folder


def kept(function: Any, *, made_from: str) -> Callable:
    """A compiled function whose program is taken from the folder, and put there when it was not.

    Args:
      function: of `jax.jit` or `jax.pmap`; pure, of this package, and always called with arguments of the same shapes.
      made_from: what it depends on besides its arguments and the source of this package.

    Returns:
      A function of the same arguments; `function` itself where programs are not kept, several processes share one, or
      it is for an accelerator, on which this was never tried.
    """
    if _folder is None or jax.process_count() > 1 or jax.default_backend() != "cpu":
        return function
    program = None

    def call(*arguments: Any) -> Any:
        nonlocal program
        if program is None:
            program = _found(_folder, function, arguments, made_from)
        return program(*arguments)

    return call


def _found(folder: pathlib.Path, function: Any, arguments: tuple, made_from: str) -> Callable:
    file = folder / f"{_key(arguments, made_from)}.program"
    # Whatever is wrong with a file, it can be made anew.
    with contextlib.suppress(Exception):
        made = pickle.loads(file.read_bytes())
        program = serialize_executable.deserialize_and_load(*made, execution_devices=_devices(arguments))
        os.utime(file)
        return program
    known = _hits
    program = function.lower(*arguments).compile()
    if _hits > known:  # a program that came from JAX's cache is incomplete when it is written again
        return program
    # A full disk, or a program that cannot be written, is no reason not to run it.
    with contextlib.suppress(Exception):
        _write(file, pickle.dumps(serialize_executable.serialize(program)))
    return program


def _write(file: pathlib.Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    for old in sorted(file.parent.glob("*.program"), key=os.path.getmtime)[:-_MOST]:
        old.unlink(missing_ok=True)


def _devices(arguments: tuple) -> list[jax.Device]:
    """Those that the arguments are on, and with them the function."""
    arrays = [leaf for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array)]
    return sorted(set().union(*(array.sharding.device_set for array in arrays)), key=lambda device: device.id)


def _key(arguments: tuple, made_from: str) -> str:
    leaves, tree = jax.tree.flatten(arguments)
    device, *_ = devices = _devices(arguments)
    parts = [
        made_from,
        str(tree),
        *(f"{jax.typeof(leaf)} {getattr(leaf, 'sharding', None)}" for leaf in leaves),
        f"{devices} {device.device_kind} {device.client.platform_version} {_processor()}",
        str(sorted((name, str(value)) for name, value in jax.config.values.items() if "cache" not in name)),
        str([(name, os.environ.get(name)) for name in _ENVIRONMENT]),
        platform.python_version(),
        *(importlib.metadata.version(name) for name in _LIBRARIES),
        _digest(pathlib.Path(__file__).parent),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _digest(package: pathlib.Path) -> str:
    """Of all source files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _processor() -> str:
    """What the processor can do: programs for a CPU use it all, and a home folder may serve several machines."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.processor()
