"""The data sets by name. Neither TensorFlow nor JAX is needed to know them."""

from jax_mspac.data import folder, llcm, regdb, synthetic, sysu_mm01
from jax_mspac.data.data_set import DataSet
from jax_mspac.errors import UserError

DATA_SETS: dict[str, DataSet] = {
    data_set.name: data_set for data_set in (synthetic.SET, folder.SET, sysu_mm01.SET, regdb.SET, llcm.SET)
}


def named(name: str) -> DataSet:
    """The data set of a name.

    Raises:
      UserError: there is none.
    """
    if name not in DATA_SETS:
        raise UserError(f"config.data.name is {name!r}; there are {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


__all__ = ["DATA_SETS", "DataSet", "named"]
