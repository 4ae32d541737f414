"""Which fields a config has, and of which types: the default config is the list of both."""

import inspect
import numbers
from typing import Any

from ml_collections import ConfigDict

from jax_mspac.protocols import PROTOCOLS

# A field may have what its default is; a fraction may be written as a whole number.
_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "True or False"),
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "a text"),
    tuple: ((tuple, list), "a list"),
}
# Of the items of lists that are empty by default.
_ITEMS = {"eval.postprocessing": str}
# Fields of `eval` that no protocol takes as they are.
_FURTHER = ("sysu_lists",)


def problems(config: ConfigDict, default: ConfigDict) -> list[str]:
    """One line per field that does not exist, is missing, or has a value of another type.

    Args:
      config: to be checked. A config file may add fields to `data`, for the builder of its data set, which checks them
        itself, and to `eval`, for its protocols.
      default: the config that has all others.
    """
    known_data_set = config.get("data", {}).get("name") if isinstance(config.get("data"), ConfigDict) else None
    protocols = [PROTOCOLS[known_data_set]] if known_data_set in PROTOCOLS else PROTOCOLS.values()
    added = {name for protocol in protocols for name in inspect.signature(protocol).parameters} | {*_FURTHER}
    lines: list[str] = []

    def visit(prefix: str, values: Any, defaults: ConfigDict) -> None:
        if not isinstance(values, ConfigDict):
            lines.append(f"  config.{prefix.removesuffix('.')} is {values!r}; expected a section of settings")
            return
        for name in sorted(set(values) - set(defaults)):
            if prefix != "data." and not (prefix == "eval." and name in added):
                lines.append(f"  config.{prefix}{name}: there is no such field; there are {', '.join(defaults)}")
        for name, expected in defaults.items():
            field = prefix + name
            if name not in values:
                lines.append(f"  config.{field} is missing; its default is {expected!r}")
            elif isinstance(expected, ConfigDict):
                visit(f"{field}.", values[name], expected)
            elif found := _mistyped(field, values[name], expected):
                lines.append(f"  config.{field} is {values[name]!r}; expected {found}")

    visit("", config, default)
    return lines


def _mistyped(field: str, value: Any, expected: Any) -> str | None:
    """What the value should be, if it is something else."""
    kinds, text = _TYPES[type(expected)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(expected, bool)):
        return text
    if isinstance(expected, tuple):
        item = type(expected[0]) if expected else _ITEMS[field]
        # A problem of an item is one of its list.
        if any(_mistyped(field, one, item()) for one in value):
            return f"a list, each item {_TYPES[item][1]}"
    elif isinstance(value, float) and value != value:
        return text
    return None
