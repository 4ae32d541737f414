"""What every command does around its work: quiet libraries, errors and signals as a line, a compilation cache."""

import contextlib
import gc
import io
import logging as standard_logging
import os
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, logging

from jax_mspac.errors import UserError
from jax_mspac.runtime import preemption

# For threads of libraries to end after an error.
_GRACE_SECONDS = 5
# Of a clone; an installed package has none.
_REQUIREMENTS = pathlib.Path(__file__).parents[2] / "requirements"
# The extra of the package that brings a library; the core goes without.
_EXTRAS = {
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "tensorboard": "train",
    "skimage": "classical",
    "sklearn": "classical",
    "matplotlib": "report",
    "jinja2": "report",
    "av": "video",
    "cv2": "video",
    "onnxruntime": "video",
    "torch": "torch",
    "starlette": "serve",
    "uvicorn": "serve",
    "qdrant_client": "cluster",
    "onnx": "onnx",
    "onnx_ir": "onnx",
}
# A library whose own requirements contradict ours -> how it is installed without them.
_BESIDE = {"jax2onnx": "pip install --no-deps 'jax2onnx>=0.17,<0.18'"}


def run(main: Callable[[list[str]], None], **options: Any) -> None:
    """`absl.app.run` for a program that ends even where a failed disk keeps threads of libraries waiting.

    It looks for garbage less often: what libraries and a network's tracing make is many objects, most of which stay.
    """
    gc.set_threshold(10_000, 10, 10)
    for stream in (sys.stdout, sys.stderr):
        # What a locale without UTF-8 cannot show, such as the sign of a deviation, must not end a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app.run(main, **options)
    except SystemExit as end:
        end_soon(end)
        raise


def end_soon(end: SystemExit) -> None:
    """Gives the threads of the process some seconds to end by themselves."""
    status = end.code if isinstance(end.code, int) else int(end.code is not None)
    timer = threading.Timer(_GRACE_SECONDS, os._exit, (status,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def command(going_on: str = "the same command goes on where it stopped") -> Iterator[None]:
    """Ends the process with a line and a status: 1 for a user's mistake, `preemption.EXIT_STATUS` for a signal.

    After a signal the line says what to do: `going_on`.
    """
    try:
        with preemption.watched():
            yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        how = _BESIDE.get(library) or (library in _EXTRAS and installing(_EXTRAS[library]))
        if not how:
            raise
        sys.exit(f"error: {library} is not installed, which this needs: {how}")
    except preemption.Interrupted as interrupted:
        print(f"{interrupted}; {going_on}", file=sys.stderr, flush=True)
        sys.exit(preemption.EXIT_STATUS)


def installing(extra: str) -> str:
    """The command that installs an extra: of the package, or of the clone that runs."""
    file = _REQUIREMENTS / f"{extra}.txt"
    return f"pip install -r {file}" if file.exists() else f"pip install 'jax_mspac[{extra}]'"


def quiet_libraries() -> None:
    """Libraries tell their own story at every start; the errors that they raise are enough.

    When a disk fails, Orbax also logs the stack trace of every thread, and its abandoned tasks find their loop closed.
    """
    logging.set_verbosity(logging.FATAL)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    sys.unraisablehook = _without_closed_loops
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # TensorFlow imports Keras, which nothing here uses and which takes two seconds with all that it imports. Told to
    # use the older Keras, which is not installed, TensorFlow goes without.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def parse_flags(argv: list[str]) -> list[str]:
    """Flags and config overrides; a mistake in them ends with a line, not with the stack trace of a library.

    `--config NAME` finds the project's own config of that name. A config of a folder `configs` may import its neighbors
    (`from configs import study`) wherever the command runs.
    """
    argv = list(argv)
    for place, argument in enumerate(argv):
        if given := re.fullmatch(r"(--?config=)(.+)", argument):
            argv[place] = given[1] + _located(given[2])
        elif re.fullmatch(r"--?config", argument) and place + 1 < len(argv):
            argv[place + 1] = _located(argv[place + 1])
    sys.path.append(str(shipped_configs().parent))
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        kind = "there is no such setting" if isinstance(error, AttributeError | KeyError) else "a setting is wrong"
        # The text of a KeyError is quoted, and holds quotes.
        told = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(f"error: {kind}: {str(told).strip(chr(34)).replace(chr(10), '. ')}")


def shipped_configs() -> pathlib.Path:
    """The folder of the project's configs: of the clone, or of the installed package."""
    package = pathlib.Path(__file__).parents[1]
    clone = package.parent / "configs"
    return clone if (clone / "demo.py").exists() else package / "shipped" / "configs"


def _located(config: str) -> str:
    """FILE or NAME, either with :ARGUMENT for its get_config, as FILE; its folder's neighbors can be imported."""
    name, *argument = config.split(":")
    shipped = shipped_configs()
    file = shipped / f"{name}.py" if re.fullmatch(r"\w+", name) else pathlib.Path(name).expanduser()
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in shipped.glob("*.py")))
        sys.exit(f"error: --config: there is no file {file}. Give a file of your own, or one of {names}")
    sys.path.append(str(file.resolve().parent.parent))
    return ":".join((str(file), *argument))


def cache_compilations() -> None:
    """Keeps compiled programs in a folder of this user."""
    import jax
    import jaxlib

    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    # Programs of another jaxlib are never reused; a folder each keeps them easy to delete.
    folder = cache / "jax_mspac" / f"xla-{jaxlib.__version__}"
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _without_closed_loops(unraisable: "sys.UnraisableHookArgs") -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
