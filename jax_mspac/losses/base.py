"""What a loss of a training step is: settings, and a function of a batch and of the parameters that it owns."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jax_mspac.settings import NOT_NEGATIVE, check, one_of, setting

PyTree = Any
# [n, ...] of this device -> [N, ...] of all devices, in their order. Gradients flow through.
Gather = Callable[[jax.Array], jax.Array]
FEATURES = ("before_neck", "after_neck")


def alone(x: jax.Array) -> jax.Array:
    """`gather` where there is one device."""
    return x


def total(x: jax.Array, gather: Gather) -> jax.Array:
    """The sum over the devices of what each of them has, of any shape."""
    return jnp.sum(gather(x[None]), axis=0)


def average(x: jax.Array, gather: Gather) -> jax.Array:
    """The mean over the devices of what each of them has, of any shape."""
    return jnp.mean(gather(x[None]), axis=0)


@dataclasses.dataclass(frozen=True)
class Examples:
    """This device's share of a batch, as the losses see it; visible examples come before infrared ones.

    All examples of an identity lie on one device.

    Attributes:
      features: "before_neck" and "after_neck", [n, P, D] each.
      logits: of the identity classifier, [n, P, C].
      labels: int [n].
      num_visible: how many of the n are visible.
      gather: see `Gather`.
      global_part: whether the last part is of the whole map, and those before it are its stripes.
    """

    features: Mapping[str, jax.Array]
    logits: jax.Array
    labels: jax.Array
    num_visible: int
    gather: Gather
    global_part: bool = False

    def own(self, feature: str) -> tuple[jax.Array, jax.Array]:
        """[n, P * D] and labels [n] of this device."""
        features = self.features[feature]
        return features.reshape(features.shape[0], -1), self.labels

    def whole(self, feature: str) -> tuple[jax.Array, jax.Array]:
        """The same of all devices."""
        features, labels = self.own(feature)
        return self.gather(features), self.gather(labels)

    def own_sides(self, feature: str) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Visible features and labels, then infrared ones, of this device."""
        (features, labels), n = self.own(feature), self.num_visible
        return features[:n], labels[:n], features[n:], labels[n:]

    def mean_of_parts(self, feature: str, loss: Callable[..., jax.Array]) -> jax.Array:
        """`over_parts` of a loss of `own_sides`, of each part's features [., D] alone."""
        features, n = self.features[feature], self.num_visible
        sides = (features[:n], self.labels[:n], features[n:], self.labels[n:])
        return self.over_parts(jax.vmap(loss, in_axes=(1, None, 1, None))(*sides))

    def over_parts(self, losses: jax.Array) -> jax.Array:
        """One loss of those of the parts, [P]: their mean; that of the whole map is added to the mean of the stripes'.

        So do PCB with a global branch and RLE (github.com/stone96123/RLE).
        """
        return jnp.mean(losses[:-1]) + losses[-1] if self.global_part else jnp.mean(losses)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss with its settings, which are a section of `config.loss`.

    Attributes:
      weight: of the loss in the total; the loss is left out at 0.
      feature: which feature it sees.
    """

    weight: float = setting(0.0, NOT_NEGATIVE, "0: this loss is not used")
    feature: str = setting("before_neck", one_of(FEATURES), "which feature it sees")

    # The field of the config, such as "model.diverse_embeddings", without which there is nothing that it sees.
    needs: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check(self)

    def init(self, key: jax.Array, *, dim: int, num_identities: int) -> PyTree:
        """Its parameters, or {}: `dim` is of the features [n, dim] of `Examples.own`."""
        return {}

    def __call__(self, examples: Examples, params: PyTree) -> jax.Array:
        """The loss; the mean over the devices of what it returns is the loss of the batch."""
        raise NotImplementedError

    def constrain(self, params: PyTree) -> PyTree:
        """Its parameters after a step of the optimizer, where they have to keep to something."""
        return params
