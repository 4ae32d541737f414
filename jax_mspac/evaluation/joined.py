"""Features before and after the neck as one: what published numbers are often ranked by."""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp

from jax_mspac.errors import UserError
from jax_mspac.losses.base import FEATURES
from jax_mspac.losses.distances import unit

# Name -> of both features, [N, D] each, the joined one, [N, 2 D].
JOINED: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    # The cosine of two such features is the mean of both cosines, and ranks as their sum.
    "sum": lambda before, after: jnp.concatenate([unit(before), unit(after)], axis=1),
    "concatenation": lambda before, after: jnp.concatenate([before, after], axis=1),
}


def join(features: Mapping[str, jax.Array], names: Collection[str]) -> dict[str, jax.Array]:
    """The features, and behind them the joined ones of these names.

    Raises:
      UserError: the features before and after the neck are not among them.
    """
    if names and (missing := [name for name in FEATURES if name not in features]):
        raise UserError(f"{', '.join(names)} join {' and '.join(FEATURES)}; this method has no {missing[0]}")
    return {**features, **{name: JOINED[name](*(features[part] for part in FEATURES)) for name in names}}
