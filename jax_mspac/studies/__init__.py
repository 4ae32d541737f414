"""Tables of runs, by name: the slides' ablations and comparison, and what they leave open."""

from jax_mspac.studies import attention, comparison, losses, mecen, parts, readings, recipes
from jax_mspac.studies.base import Row, Table

TABLES: dict[str, Table] = {
    module.TABLE.name: module.TABLE for module in (attention, parts, mecen, readings, losses, recipes, comparison)
}

__all__ = ["TABLES", "Row", "Table"]
