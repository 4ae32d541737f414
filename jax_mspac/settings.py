"""Settings: dataclass fields that carry their default, what they may be and what they mean, each written once.

A component is a dataclass of settings that checks itself when it is made; a section of the config is the settings of a
component. So the config's defaults are read off the components, and to check it is to make them.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jax_mspac.errors import UserError


class Expected(NamedTuple):
    """What a value may be: in words, and as a test."""

    text: str
    holds: Callable[[Any], bool]


class Problem(NamedTuple):
    """A setting that is out of its range; `field` may be a path such as "mecen.weight"."""

    field: str
    value: Any
    expected: str


class SettingsError(UserError):
    """Settings that are out of their ranges, all of one component."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("impossible settings:\n" + "\n".join(describe(self.problems)))


def describe(problems: Iterable[Problem], prefix: str = "") -> list[str]:
    """One line per problem; each problem once."""
    return list(dict.fromkeys(f"  {prefix}{p.field} is {p.value!r}; expected {p.expected}" for p in problems))


def at_least(least: int, text: str = "") -> Expected:
    """A number from `least` on."""
    return Expected(text or f"{least} or more", lambda value: value >= least)


def within(least: float, most: float) -> Expected:
    """A number from `least` to `most`."""
    return Expected(f"{least} to {most}", lambda value: least <= value <= most)


def one_of(choices: Collection[Any]) -> Expected:
    """One of the choices, which may be a registry: they are read when a value is checked."""
    return Expected(f"one of {', '.join(map(repr, choices))}", lambda value: value in choices)


def some_of(choices: Collection[Any], text: str) -> Expected:
    """A list of some of the choices."""
    return Expected(text, lambda values: set(values) <= set(choices))


PROBABILITY = Expected("a probability from 0 to 1", lambda value: 0 <= value <= 1)
FRACTION = Expected("a fraction from 0 to below 1", lambda value: 0 <= value < 1)
POSITIVE = Expected("a positive number", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Expected("0 or a positive number", lambda value: 0 <= value < math.inf)


def setting(default: Any, expected: Expected | None = None, meaning: str = "") -> Any:
    """A dataclass field for a setting: default, what it may be besides a value of that type, meaning for readers."""
    return dataclasses.field(default=default, metadata={"expected": expected, "meaning": meaning})


def check(component: Any) -> None:
    """Checks the settings of a component; to be called by its `__post_init__`.

    Raises:
      SettingsError: lists those that are out of their ranges.
    """
    found = problems(component)
    if found:
        raise SettingsError(found)


def problems(component: Any) -> list[Problem]:
    """The settings of a component that are out of their ranges."""
    found = []
    for field in dataclasses.fields(component):
        value, expected = getattr(component, field.name), field.metadata.get("expected")
        if expected and not _holds(expected, value):
            found.append(Problem(field.name, value, expected.text))
    return found


def defaults(component: type) -> dict[str, Any]:
    """Name -> default of the settings of a component."""
    return {field.name: field.default for field in dataclasses.fields(component) if "expected" in field.metadata}


# A field may have what its default is; a fraction may be written as a whole number.
_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "True or False"),
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "a text"),
    tuple: ((tuple, list), "a list"),
}


def mistyped(value: Any, default: Any) -> str | None:
    """What a value should be, if it is of another type than the default; None if it is right."""
    kinds, text = _TYPES[type(default)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        return text
    if isinstance(value, tuple | list) and default:
        # A problem of an item is one of its list.
        if any(mistyped(item, default[0]) for item in value):
            return f"a list, each item {_TYPES[type(default[0])][1]}"
    elif isinstance(value, float) and math.isnan(value):
        return text
    return None


class Collector:
    """Makes components of the sections of a config, and collects what is wrong with all of them.

    Attributes:
      problems: so far, under the names of the config.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def of(self, component: type, section: str, values: Mapping[str, Any], **more: Any) -> Any:
        """The component with those of the values that are its settings, or None if it refuses them.

        Args:
          component: a dataclass of settings.
          section: the name of the section, for problems; "" for fields without one.
          values: of the section; what is none of its settings is for other components.
          **more: further fields, or such as replace the section's.
        """
        known = {name: value for name, value in values.items() if name in defaults(component)}
        try:
            return component(**{**known, **more})
        except SettingsError as error:
            prefix = f"{section}." if section else ""
            self.problems += [p._replace(field=prefix + p.field) for p in error.problems]
            return None

    def raise_problems(self) -> None:
        """Raises a SettingsError if there are any."""
        if self.problems:
            raise SettingsError(self.problems)


def _holds(expected: Expected, value: Any) -> bool:
    try:
        return bool(expected.holds(value))
    except (TypeError, IndexError):  # such as a list of numbers where names are expected
        return False
