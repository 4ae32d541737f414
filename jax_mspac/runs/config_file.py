"""The config of a run as its folder keeps it: written, read again, and compared."""

import json
import os
from collections.abc import Collection
from typing import Any

from jax_mspac.config import default_config
from jax_mspac.errors import UserError
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.runtime.files import write_whole

# Name of the resolved config in the workdir.
FILE = "config.json"
# What a resumed run may change: where the data lies, and what does not touch the model. All else makes another run.
MAY_CHANGE = (
    "data.source",
    "data.data_dir",
    "data.memory",
    "train.log_every",
    "train.skip_nonfinite",
    "train.decoded_gb",
    "train.compilation_cache",
    "checkpoint",
    "eval",
)


def save(config: ConfigDict, path: str | os.PathLike) -> None:
    """Writes the resolved config as JSON."""
    write_whole(path, config.to_json(indent=2, sort_keys=True))


def load(path: str | os.PathLike) -> ConfigDict:
    """Reads a config that a run has kept.

    Raises:
      UserError: there is no such file, or it is not a config.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = _tuples(json.load(file))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: is this the --workdir of a training run?") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file: {error}") from None
    # Whatever the libraries make of values of another type.
    try:
        # Fields that are younger than the run have their defaults, as they had in effect then.
        config = ConfigDict(default_config(values["data"]["name"]).to_dict())
        config.update(values)
    except Exception as error:
        raise UserError(f"{path} is not the config of a run ({error}); copy it again from where it came from") from None
    return config


def flat(config: ConfigDict) -> dict[str, Any]:
    """Every field under its name, such as "model.width", ascending; lists are tuples."""
    fields: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                visit(f"{prefix}.{name}" if prefix else name, inner)
        else:
            fields[prefix] = value

    visit("", _tuples(config.to_dict()))
    return dict(sorted(fields.items()))


def differences(old: ConfigDict, new: ConfigDict, may_change: Collection[str] = MAY_CHANGE) -> list[str]:
    """Fields that make `new` another run than `old`, one line each: "config.seed was 0, now 1".

    Args:
      old: a config.
      new: another one.
      may_change: fields and sections that do not count.
    """
    before, after = flat(old), flat(new)
    return [
        f"config.{name} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and not {name, name.partition(".")[0]} & set(may_change)
    ]


def _tuples(value: Any) -> Any:
    """JSON has no tuples: every list was one."""
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list | tuple) else value
