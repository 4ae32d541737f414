"""From the `eval` settings to the arguments of a data set's protocols."""

import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax_mspac.errors import UserError
from jax_mspac.protocols import PROTOCOLS
from jax_mspac.protocols.sysu_lists import load_permutations

LISTS_FILE = "rand_perm_cam.mat"


# For a data set and a split what holds there whatever the settings, which are for the test split, say.
FIXED: dict[tuple[str, str], dict[str, Any]] = {
    ("sysu_mm01", "val"): {"modes": ("validation",), "galleries": ("seeded",)},
}


def options(
    data_set: str, settings: Mapping[str, Any], identity_names: Sequence[str], *, split: str = "test"
) -> dict[str, Any]:
    """The keyword arguments for `PROTOCOLS[data_set]`.

    Args:
      data_set: a name of `PROTOCOLS`.
      settings: such as `config.eval`; those that the function takes are passed on, and `DERIVED` adds its own.
      identity_names: the name of each rank in the split.
      split: what is searched; for some, `FIXED` replaces settings.

    Raises:
      UserError: the settings ask for a file that is missing or damaged.
    """
    settings = {**settings, **FIXED.get((data_set, split), {})}
    accepted = inspect.signature(PROTOCOLS[data_set]).parameters
    chosen = {name: value for name, value in settings.items() if name in accepted}
    return chosen | (DERIVED[data_set](settings, identity_names) if data_set in DERIVED else {})


def _official_lists(settings: Mapping[str, Any], identity_names: Sequence[str]) -> dict[str, Any]:
    if "official" not in settings.get("galleries", ()):
        return {}
    folder = settings.get("sysu_lists", "")
    places = [pathlib.Path(folder, inside, LISTS_FILE) for inside in ("", "exp")]
    found = [place for place in places if folder and place.is_file()]
    if not found:
        raise UserError(
            f"config.eval.sysu_lists is {folder!r}; the official galleries need the folder with {LISTS_FILE}, which "
            "comes with SYSU-MM01, in it or in its exp folder. config.eval.galleries=seeded needs none"
        )
    return {
        "permutations": load_permutations(found[0]),
        "identity_numbers": [int(name) for name in identity_names],
    }


# For each data set that needs more than settings, a function of (settings, identity names) that gives it.
DERIVED: dict[str, Callable[[Mapping[str, Any], Sequence[str]], dict[str, Any]]] = {"sysu_mm01": _official_lists}
