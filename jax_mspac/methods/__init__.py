"""The systems that can be trained, by name."""

from collections.abc import Callable

from ml_collections import ConfigDict

from jax_mspac.errors import UserError
from jax_mspac.methods import mspac
from jax_mspac.methods.base import Method

METHODS: dict[str, Callable[..., Method]] = {
    "mspac": mspac.build,
}


def build(config: ConfigDict, *, num_identities: int) -> Method:
    """The method that `config.method` names.

    Args:
      config: validated.
      num_identities: number of training identities. Embedding does not depend on it.

    Raises:
      UserError: there is no such method, or its settings do not fit together.
    """
    if config.method not in METHODS:
        raise UserError(f"config.method is {config.method!r}; there are {', '.join(METHODS)}")
    return METHODS[config.method](config, num_identities=num_identities)
