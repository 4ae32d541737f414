"""What a table of runs is: rows that change a config, beside the scores of the slides."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_mspac.errors import UserError

SLIDES = "SYSU-MM01, all-search, single-shot"


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One system of a table, by the name that the table prints.

    `settings`: config field, such as "loss.mecen.weight" -> its value in this row. `slides`: score, a name of
    `results.SCORES` -> percent in the slides; empty for a row that they do not have.
    """

    name: str
    settings: Mapping[str, Any]
    slides: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Rows, in the order of the slides, that answer one question, the title; `name` is what the command line calls it.

    The columns, `scores`, are names of `results.SCORES`; `appendix` is Markdown to stand below the table.
    """

    name: str
    title: str
    scores: tuple[str, ...]
    rows: tuple[Row, ...]
    appendix: str = ""

    def chosen(self, names: Sequence[str]) -> tuple[Row, ...]:
        """The rows of these names, in the order of the table; all of them for no name.

        Raises:
          UserError: there is no row of a name.
        """
        there = [row.name for row in self.rows]
        unknown = [name for name in names if name not in there]
        if unknown:
            raise UserError(f"table {self.name} has no row {', '.join(unknown)}; its rows are {', '.join(there)}")
        return tuple(row for row in self.rows if not names or row.name in names)
