"""Visible-infrared person re-identification in JAX/Flax: MSPAC-MeCen, other systems, and the official protocols."""

from typing import Any

__all__ = ["Index", "UserError", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # JAX takes a second to import; `--help` and the config files do without.
    if name == "load":
        from jax_mspac.runs.inference import load

        return load
    if name == "Index":
        from jax_mspac.search.index import Index

        return Index
    if name == "UserError":
        from jax_mspac.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
