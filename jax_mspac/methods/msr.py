"""MSR (Feng, Lai and Xie, TIP 2020): a network for each modality, shared layers on top, and a metric per modality.

There is no public code, and only the abstract is open: the parts are the paper's, what they are made of is our reading.
With f the pooled map of a modality's own layers and g the feature of the shared ones behind it, the loss is

    CE(shared classifier of g)  +  specific_weight CE(the modality's own classifier of f)
      +  weight mean_y ||c_visible,y - c_infrared,y||^2  +  view_weight CE(view classifier of f),

where c is the mean of g after the neck, of unit length each, of an identity in one modality: the cross-modality
Euclidean constraint, which is `losses.hetero_center` without a margin. The metric is fitted to g at the end.

What is open, and what was chosen:

- where the networks join: after layer 3 of ResNet (`model.shared_from=4`);
- what a view is: a modality. In other papers of the authors it is a camera;
- what the view classifier sees: f. It does not play against the network. On g it would contradict the constraint;
- whether the constraint is of pairs or of centers, and of f or g: of centers of g, as f need not have common axes;
- the weights: 1 each;
- the metric: that of CRAFT, with a projection for each modality; by `metric.learner` another one;
- the recipe: the config's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses.identity import cross_entropy
from jax_mspac.methods import learned, learned_metric, metric
from jax_mspac.methods.base import PyTree, System
from jax_mspac.methods.players import Networks, Outcome, Player
from jax_mspac.modalities import MODALITIES
from jax_mspac.models.heads import SpecificHeads
from jax_mspac.models.pooling import average_pool
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import NOT_NEGATIVE, Collector, Problem, check, setting

# The name of f among the features.
SPECIFIC = "specific"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specific:
    """Losses of what the modalities do not share; a section of the config."""

    specific_weight: float = setting(1.0, NOT_NEGATIVE, "of the identity loss of each modality's own layers")
    view_weight: float = setting(1.0, NOT_NEGATIVE, "of the view classifier's loss on these layers")

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Msr(learned_metric.LearnedMetric):
    """One player, who owns a third network: the heads of the modalities' own layers."""

    specific: Specific

    @property
    def specific_heads(self) -> SpecificHeads:
        return SpecificHeads(self.num_identities)

    @property
    def players(self) -> dict[str, Player]:
        (player,) = super().players.values()
        return {"embedder": dataclasses.replace(player, networks=(*player.networks, SPECIFIC))}

    def variables(self, key: jax.Array, images: Mapping[str, jax.Array]) -> tuple[dict[str, PyTree], learned.Shapes]:
        variables, _ = super().variables(key, images)
        features, _ = jax.eval_shape(lambda v: self.embedded(v, images, train=False), variables["embedder"])
        return variables, features

    def networks(self, key: jax.Array, features: learned.Shapes) -> dict[str, PyTree]:
        *_, dim = features[SPECIFIC].shape
        heads = self.specific_heads.init(jax.random.fold_in(key, 1), jnp.zeros((len(MODALITIES), dim)), 1)
        return {**super().networks(key, features), SPECIFIC: heads}

    def embedded(
        self, variables: PyTree, images: Mapping[str, jax.Array], *, train: bool, **options: Any
    ) -> tuple[dict[str, jax.Array], PyTree]:
        """As of `Learned`, with f beside the other features."""
        features, updated = self.embedder.apply(
            variables,
            images,
            train=train,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name in MODALITIES,  # see `models.backbone.streams`
            **options,
        )
        maps = updated["intermediates"]["backbone"]
        pooled = [average_pool(maps[modality]["__call__"][0]) for modality in MODALITIES if modality in images]
        return {**features, SPECIFIC: jnp.concatenate(pooled)[:, None]}, updated["batch_stats"]

    def loss(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        examples, statistics = self.examples(networks, view, key)
        total, terms = self.weighted(examples, networks["heads"]["params"])
        features, labels = examples.own(SPECIFIC)
        made: Any = self.specific_heads.apply(networks[SPECIFIC], features, examples.num_visible)
        logits, views = made
        terms["specific_identity"] = self.identity(dataclasses.replace(examples, logits=logits[:, None]))
        terms["view"] = cross_entropy(views, (jnp.arange(len(labels)) >= examples.num_visible).astype(jnp.int32))
        total += self.specific.specific_weight * terms["specific_identity"]
        total += self.specific.view_weight * terms["view"]
        return total, Outcome(statistics, {"loss": total, **terms})


def build(config: ConfigDict, *, num_identities: int) -> Msr:
    """The network, its losses and the metric of a config.

    Raises:
      SettingsError: see `learned.build`.
    """
    made = Collector()
    specific = made.of(Specific, "msr", config.msr)
    if config.model.shared_from == 0:
        made.problems.append(Problem("model.shared_from", 0, "1 or more, because MSR has layers of each modality"))
    made.raise_problems()
    return learned_metric.build(config, num_identities=num_identities, kind=Msr, specific=specific)


SYSTEM = System(
    title="MSR",
    build=build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 4,
        "loss.hetero_center.weight": 1.0,
        "loss.hetero_center.margin": 0.0,
        "metric.learner": "craft",
        "metric.dims": 100,
        "eval.feature": metric.FEATURE,
        "eval.every": 0,  # the metric is fitted at the end
    },
    sections={"metric": metric.Metric, "msr": Specific},
)
