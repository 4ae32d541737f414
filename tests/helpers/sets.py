"""Data sets and protocols by name, with as few arguments as a test needs."""

from jax_mspac.data import preparation
from jax_mspac.data.registry import DATA_SETS
from jax_mspac.protocols import folder, llcm, regdb, sysu_mm01


def build(name, *, data_dir, **options):
    """The builder of a data set, not yet prepared."""
    data_set = DATA_SETS[name]
    found = data_set.look({"height": 96, "width": 48, "trial": 1, **options})
    return preparation.builder_of(data_set, found, str(data_dir or ""))


def prepared(data):
    """The prepared builder of a `config.data`."""
    return preparation.prepared(DATA_SETS[data.name], data, data.data_dir)


def load_split(builder, splits):
    """The images of a split, or of several joined by "+"."""
    return preparation.load(builder, splits.split("+"))


def _with_defaults(protocols, **defaults):
    return lambda *labels, **options: protocols(*labels, **{**defaults, **options})


_FOLDER = _with_defaults(folder.protocols, shots=(1,), trials=10, exclude_same_camera=False)
PROTOCOLS = {
    "sysu_mm01": _with_defaults(
        sysu_mm01.protocols, galleries=("seeded",), modes=("all", "indoor"), shots=(1,), trials=10
    ),
    "regdb": regdb.protocols,
    "llcm": llcm.protocols,
    "folder": _FOLDER,
    "synthetic": _FOLDER,
}
