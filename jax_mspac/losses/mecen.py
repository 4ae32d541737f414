"""MeCen, the marginal exponential center loss."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.errors import UserError
from jax_mspac.losses import distances
from jax_mspac.losses.base import Examples, Gather, Loss, alone, average, total
from jax_mspac.settings import NOT_NEGATIVE, POSITIVE, one_of, setting

REDUCTIONS = ("per_sample", "mean", "sum")
CENTERS = ("normalize", "project")


def mecen(
    features: jax.Array,
    centers: jax.Array,
    labels: jax.Array,
    *,
    margin: float,
    use_margin: bool = True,
    use_exp: bool = True,
    reduction: str = "per_sample",
    normalize: bool = True,
    max_exponent: float = 2.0,
    gather: Gather = alone,
) -> jax.Array:
    """Marginal exponential center loss of the talk slides of the paper, arXiv 2012.06843.

    With d_i = ||x_i - c_{y_i}||^2 and the hinge h_i = max(d_i - margin, 0), the slides give

        sum:         exp(1/2 sum_i h_i) - 1,    ||c|| = 1

    The features' unit length and the other reductions are readings of ours; `sum` has one global gain per batch, which
    grows with the batch, `per_sample` has the "strong exponential constraints on hard positive examples" of the slides:

        mean:        exp(1/2 mean_i h_i) - 1
        per_sample:  mean_i (exp(1/2 h_i) - 1)

    Without `use_margin`, h_i = d_i; without `use_exp`, the loss is 1/2 sum_i h_i, or 1/2 mean_i h_i for the other two
    reductions. The rows of the slides' ablation are +center (neither), +margin (`use_margin` alone) and +exp (both).

    Above `max_exponent` the exponential goes on as its tangent: exp(a) - 1 + exp(a) (s - a). The gain of an example,
    exp(s), thus never exceeds exp(a). The default, 2, is the largest exponent that unit vectors reach per sample
    (d <= 4), so it binds for `sum` only, where s is about n / 2 at the start of training and the plain formula would
    give gains of 1e20 (and overflow at s = 88.7). A value of 10 already gives gains of 2e4, with which no one
    weight or learning rate gets along. Values up to 80 stay finite for 512 unit vectors.

    `sum` and `mean` exponentiate a statistic of the whole batch, of which devices add up their shares.

    Args:
      features: [n, D], this device's.
      centers: [C, D], one per identity, shared by both modalities.
      labels: int [n], each in [0, C).
      margin: squared distance below which an example does not count.
      use_margin: whether to subtract the margin and clamp at 0.
      use_exp: whether to take the exponential.
      reduction: "per_sample", "mean" or "sum".
      normalize: whether to scale features and centers to unit length first; if not, entries are clipped to +-2^40.
      max_exponent: where the linear continuation starts.
      gather: of `Examples`, where several devices share the batch.

    Returns:
      float32 scalar, whose mean over the devices is the loss of the batch.

    Raises:
      UserError: the reduction is not one of the three.
    """
    if reduction not in REDUCTIONS:
        raise UserError(f"reduction of MeCen is {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    prepare = distances.unit if normalize else distances.bounded
    # "fill" turns a label without a center into NaN; clamping would hide the mistake.
    own_centers = jnp.take(centers, labels, axis=0, mode="fill")
    distance = jnp.sum(jnp.square(prepare(features) - prepare(own_centers)), axis=1)
    half = 0.5 * (jnp.maximum(distance - margin, 0.0) if use_margin else distance)
    if reduction == "sum":
        half = total(jnp.sum(half), gather)
    elif reduction == "mean":
        half = average(jnp.mean(half), gather)
    return jnp.mean(_continued_expm1(half, max_exponent) if use_exp else half)


def _continued_expm1(s: jax.Array, above: float) -> jax.Array:
    """exp(s) - 1, continued above the given point by its tangent."""
    return jnp.expm1(jnp.minimum(s, above)) + math.exp(above) * jnp.maximum(s - above, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mecen(Loss):
    """The loss with its centers, one per identity, which are learned.

    How the centers are kept unit is a reading of ours. "normalize": where they are used; their own length grows, and
    they slow down with it. "project": after each step as well.
    """

    weight: float = setting(1.0, NOT_NEGATIVE, "0: no center loss")
    margin: float = setting(0.3, NOT_NEGATIVE, "squared distance below which an example does not count")
    use_margin: bool = setting(True)
    use_exp: bool = setting(True)
    reduction: str = setting("per_sample", one_of(REDUCTIONS), "sum: the slides'")
    centers: str = setting("normalize", one_of(CENTERS), "kept unit where used; or projected after each step as well")
    max_exponent: float = setting(2.0, POSITIVE, "where the exponential goes on as its tangent")

    def init(self, key: jax.Array, *, dim: int, num_identities: int) -> dict[str, jax.Array]:
        """{"centers": float32 [num_identities, dim]}, unit rows in random directions."""
        rows = jax.random.normal(key, (num_identities, dim), jnp.float32)
        return {"centers": rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)}

    def __call__(self, examples: Examples, params: Any) -> jax.Array:
        features, labels = examples.own(self.feature)
        return mecen(
            features,
            params["centers"],
            labels,
            margin=self.margin,
            use_margin=self.use_margin,
            use_exp=self.use_exp,
            reduction=self.reduction,
            max_exponent=self.max_exponent,
            gather=examples.gather,
        )

    def constrain(self, params: Any) -> Any:
        return {"centers": distances.unit(params["centers"])} if self.centers == "project" else params
