"""Temporary."""

import inspect
import types

from jax_mspac.data import datasets
from jax_mspac.errors import UserError
from jax_mspac.protocols import PROTOCOLS
from jax_mspac.protocols.options import options

DataSet = object
BASE = {"source", "data_dir", "height", "width", "skip_bad_images"}


def named(name):
    if name not in datasets.DATASETS:
        raise UserError(f"config.data.name is {name!r}; there are {', '.join(datasets.DATASETS)}")
    f = inspect.signature(datasets.DATASETS[name]).parameters
    e = inspect.signature(PROTOCOLS[name]).parameters

    def search(ids, cams, mods, *, identity_names, split, settings):
        return PROTOCOLS[name](ids, cams, mods, **options(name, settings, identity_names, split=split))

    skip = ("name", "permutations", "identity_numbers")
    return types.SimpleNamespace(
        name=name,
        search=search,
        fields={k: v.default for k, v in f.items() if k not in BASE},
        eval_fields={k: v.default for k, v in e.items() if v.default is not inspect.Parameter.empty and k not in skip}
        | ({"sysu_lists": ""} if name == "sysu_mm01" else {}),
    )
