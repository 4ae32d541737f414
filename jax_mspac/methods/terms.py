"""The losses of a training step, each with its weight and settings: what `config.loss` names."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from jax_mspac.losses import contrastive, hetero_center, hetero_center_triplet, mecen, ranking, triplet
from jax_mspac.losses.identity import cross_entropy
from jax_mspac.models.embedder import flatten_parts
from jax_mspac.runtime import parallel


@dataclasses.dataclass(frozen=True)
class Examples:
    """This device's share of a batch, as the losses see it; visible examples come before infrared ones.

    Attributes:
      features: "before_neck" and "after_neck", [n, P, D] each.
      outputs: of the heads: "logits", [n, P, C], and perhaps "centers", [C, P * D].
      labels: int [n].
      num_visible: how many of the n are visible.
    """

    features: Mapping[str, jax.Array]
    outputs: Mapping[str, jax.Array]
    labels: jax.Array
    num_visible: int

    def own(self, feature: str) -> tuple[jax.Array, jax.Array]:
        """[n, P * D] and labels [n] of this device."""
        return flatten_parts(self.features[feature]), self.labels

    def whole(self, feature: str) -> tuple[jax.Array, jax.Array]:
        """The same of all devices."""
        return tuple(map(parallel.gather, self.own(feature)))

    def sides(self, feature: str) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Visible features and labels, then infrared ones, of all devices."""
        (features, labels), n = self.own(feature), self.num_visible
        return tuple(map(parallel.gather, (features[:n], labels[:n], features[n:], labels[n:])))


class Loss(Protocol):
    """A loss with its settings. The mean over devices of what it returns is the loss of the batch."""

    weight: float

    def __call__(self, examples: Examples) -> jax.Array: ...


def identity(examples: Examples, *, label_smoothing: float) -> jax.Array:
    """The identity loss, which every system has: the mean over examples and parts."""
    logits = examples.outputs["logits"]
    labels = jnp.repeat(examples.labels, logits.shape[1])
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), labels, label_smoothing=label_smoothing)


@dataclasses.dataclass(frozen=True)
class Mecen:
    """The center loss: see `losses.mecen`.

    Attributes:
      weight: of the loss; 0 for none, as for all losses.
      feature: "before_neck" or "after_neck".
      margin, use_margin, use_exp, reduction: see `losses.mecen.mecen`.
      centers: how they are kept unit, which is a reading of ours. "normalize": where they are used; their own length
        grows, and they slow down with it. "project": after each step as well.
    """

    weight: float
    feature: str
    margin: float
    use_margin: bool
    use_exp: bool
    reduction: str
    centers: str

    def __call__(self, examples: Examples) -> jax.Array:
        # The reductions "sum" and "mean" are not means over devices of what each one has: all see the whole batch.
        features, labels = examples.whole(self.feature)
        return mecen.mecen(
            features,
            examples.outputs["centers"],
            labels,
            margin=self.margin,
            use_margin=self.use_margin,
            use_exp=self.use_exp,
            reduction=self.reduction,
        )


@dataclasses.dataclass(frozen=True)
class HeteroCenter:
    """The hetero-center loss on the feature after the neck: see `losses.hetero_center`."""

    weight: float
    margin: float

    def __call__(self, examples: Examples) -> jax.Array:
        return hetero_center.hetero_center(*examples.sides("after_neck"), margin=self.margin)


@dataclasses.dataclass(frozen=True)
class BatchHard:
    """The batch-hard triplet loss on the feature before the neck: see `losses.triplet`."""

    weight: float
    margin: float

    def __call__(self, examples: Examples) -> jax.Array:
        return triplet.batch_hard(*examples.own("before_neck"), *examples.whole("before_neck"), margin=self.margin)


@dataclasses.dataclass(frozen=True)
class WeightedRegularized:
    """The weighted regularized triplet loss on the feature before the neck: see `losses.triplet`."""

    weight: float
    squared: bool

    def __call__(self, examples: Examples) -> jax.Array:
        pairs = (*examples.own("before_neck"), *examples.whole("before_neck"))
        return triplet.weighted_regularized(*pairs, squared=self.squared)


@dataclasses.dataclass(frozen=True)
class HeteroCenterTriplet:
    """The triplet loss of modality centers on the feature before the neck: see `losses.hetero_center_triplet`.

    Attributes:
      weight: of the loss.
      margin: of the distances.
      stripes: weight of the mean over the parts' own losses, relative to that of the whole feature.
    """

    weight: float
    margin: float
    stripes: float

    def __call__(self, examples: Examples) -> jax.Array:
        loss = functools.partial(hetero_center_triplet.hetero_center_triplet, margin=self.margin)
        total = loss(*examples.sides("before_neck"))
        if self.stripes:
            features, n = examples.features["before_neck"], examples.num_visible
            sides = (features[:n], examples.labels[:n], features[n:], examples.labels[n:])
            of_parts = jax.vmap(loss, in_axes=(1, None, 1, None))(*map(parallel.gather, sides))
            total += self.stripes * jnp.mean(of_parts)
        return total


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """TONE's contrastive loss on the feature before the neck: see `losses.contrastive`."""

    weight: float
    margin: float

    def __call__(self, examples: Examples) -> jax.Array:
        return contrastive.contrastive(*examples.sides("before_neck"), margin=self.margin)


@dataclasses.dataclass(frozen=True)
class DualConstrained:
    """BDTR's top-ranking loss on the feature before the neck: see `losses.ranking`."""

    weight: float
    margin: float

    def __call__(self, examples: Examples) -> jax.Array:
        return ranking.dual_constrained(*examples.sides("before_neck"), margin=self.margin)


@dataclasses.dataclass(frozen=True)
class CenterConstrained:
    """eBDTR's top-ranking loss on the feature before the neck: see `losses.ranking`."""

    weight: float
    margin: float

    def __call__(self, examples: Examples) -> jax.Array:
        return ranking.center_constrained(*examples.sides("before_neck"), margin=self.margin)


# Name in `config.loss` -> loss.
LOSSES = {
    "mecen": Mecen,
    "hetero_center": HeteroCenter,
    "batch_hard": BatchHard,
    "weighted_regularized": WeightedRegularized,
    "hetero_center_triplet": HeteroCenterTriplet,
    "contrastive": Contrastive,
    "dual_constrained": DualConstrained,
    "center_constrained": CenterConstrained,
}
