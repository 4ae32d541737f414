"""The type of a config: `ConfigDict` of ml_collections, or a plain stand-in where that is not installed.

The commands need ml_collections for their flags; everything below them trains and evaluates without it.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any


class Fields(dict):
    """Nested fields by name, as attributes too: what the library uses of `ConfigDict`, with the same meaning.

    It is neither locked nor does it check types; `config.check_types` does.
    """

    def __init__(self, values: Mapping[str, Any] | None = None):
        super().__init__()
        for name, value in (values or {}).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        plain = isinstance(value, Mapping) and not isinstance(value, Fields)
        super().__setitem__(name, Fields(value) if plain else value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no field {name!r}; there are {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def update(self, values: Mapping[str, Any]) -> None:  # type: ignore[override]  # ConfigDict's, not dict's
        """Sets fields; those of a section one by one."""
        for name, value in values.items():
            if isinstance(value, Mapping) and isinstance(self.get(name), Fields):
                self[name].update(value)
            else:
                self[name] = value

    def update_from_flattened_dict(self, values: Mapping[str, Any]) -> None:
        """Sets fields by names such as "model.width".

        Raises:
          KeyError: there is no such section.
        """
        for path, value in values.items():
            *sections, name = path.split(".")
            fields = self
            for section in sections:
                fields = fields[section]
            fields[name] = value

    def copy_and_resolve_references(self) -> "Fields":
        """A deep copy."""
        copy = type(self)()
        for name, value in self.items():
            copy[name] = value.copy_and_resolve_references() if isinstance(value, Fields) else value
        return copy

    @contextlib.contextmanager
    def unlocked(self) -> Iterator["Fields"]:
        """Nothing is ever locked."""
        yield self

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries."""
        return {name: value.to_dict() if isinstance(value, Fields) else value for name, value in self.items()}

    def to_json(self, **options: Any) -> str:
        """As JSON, whose options are those of `json.dumps`."""
        return json.dumps(self, **options)


try:
    from ml_collections import ConfigDict
except ModuleNotFoundError:
    ConfigDict = Fields

__all__ = ["ConfigDict", "Fields"]
