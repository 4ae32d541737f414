"""What every command does before its work: quiet libraries, flags without stack traces, a compilation cache."""

import os
import pathlib
import sys

from absl import app, logging


def quiet_libraries() -> None:
    """Libraries tell their own story at every start; errors are enough."""
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def parse_flags(argv: list[str]) -> list[str]:
    """Flags and config overrides; a mistake in them ends with a line, not with the stack trace of a library."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        kind = "there is no such setting" if isinstance(error, AttributeError | KeyError) else "a setting is wrong"
        sys.exit(f"error: {kind}: {error}")


def cache_compilations() -> None:
    """Keeps compiled programs in a folder of this user."""
    import jax
    import jaxlib

    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    # Programs of another jaxlib are never reused; a folder each keeps them easy to delete.
    jax.config.update("jax_compilation_cache_dir", str(cache / "jax_mspac" / f"xla-{jaxlib.__version__}"))
