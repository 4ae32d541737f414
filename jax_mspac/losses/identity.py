"""Identity loss: each training identity is a class."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from jax_mspac.losses import distances
from jax_mspac.losses.base import FEATURES, Examples
from jax_mspac.settings import FRACTION, NOT_NEGATIVE, at_least, check, one_of, setting, within

FORMS = ("global", "part", "both")
PARTS = ("apart", "mixed")
CLASSIFIER_STARTS = ("small", "torch")


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Mean cross-entropy between softmax(logits) and the labels.

    The target is (1 - label_smoothing) on the label plus label_smoothing / C on each of the C classes. Logits are
    [n, C], labels int [n], each in [0, C), and label_smoothing is in [0, 1].
    """
    log_probabilities = jax.nn.log_softmax(distances.bounded(logits), axis=1)
    labeled = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    uniform = jnp.mean(log_probabilities, axis=1)
    return -jnp.mean((1.0 - label_smoothing) * labeled + label_smoothing * uniform)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """The identity loss of a training step, which every learned system has: that of `Examples.over_parts`.

    The fields of the classifier are those of `models.heads.Heads`.
    """

    identity: str = setting("global", one_of(FORMS), "global: one classifier; part: one per stripe; both: of each kind")
    identity_feature: str = setting("after_neck", one_of(FEATURES), "what is classified")
    identity_weight: float = setting(1.0, NOT_NEGATIVE, "of this loss; the number of parts makes it their sum")
    identity_parts: str = setting(
        "apart", one_of(PARTS), "apart: a loss of each part; mixed: of the mean of the parts' probabilities, as MFEN's"
    )
    label_smoothing: float = setting(0.0, FRACTION)
    classifier_bias: bool = setting(False, None, "whether the classifiers have a bias")
    classifier_slope: float = setting(1.0, within(0, 1), "of a leaky ReLU before the classifiers; 1: none")
    classifier_hidden: int = setting(0, at_least(0), "units of a layer with ReLU before the classifiers; 0: none")
    classifier_start: str = setting("small", one_of(CLASSIFIER_STARTS), "small: deviation 0.001; torch: PyTorch's own")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, examples: Examples) -> jax.Array:
        loss = functools.partial(cross_entropy, label_smoothing=self.label_smoothing)
        if self.identity_parts == "mixed":
            # Logarithms of probabilities are logits as well.
            each = jax.nn.log_softmax(distances.bounded(examples.logits), axis=2)
            mixed = jax.nn.logsumexp(each, axis=1) - math.log(each.shape[1])
            return loss(mixed, examples.labels)
        return examples.over_parts(jax.vmap(loss, in_axes=(1, None))(examples.logits, examples.labels))
