"""MPANet (Wu et al., CVPR 2021): one network, masks that pick parts, and classifiers of each modality that agree.

The network and the losses are those of the public code (github.com/DoubtedSteam/MPANet), the settings its own for
SYSU-MM01. With f the feature after the neck, p its class probabilities by the classifier of the image's own modality,
and q those by a slowly moving copy of the other modality's classifier, the mutual part of the loss is

    identity_weight (CE_visible + CE_infrared)  +  weight mean_i sum_c p_ic log(p_ic / q_ic),

where q has no gradient. Before each step a copy takes `update_rate` of its classifier and keeps the rest.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.losses import distances
from jax_mspac.losses.identity import cross_entropy
from jax_mspac.methods import learned
from jax_mspac.methods.base import Batch, PyTree, State, System, Update
from jax_mspac.methods.players import Networks, Outcome, Player
from jax_mspac.models import layouts
from jax_mspac.models.heads import ModalityClassifiers
from jax_mspac.models.layouts import LINEAR, OIHW, Row
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import NOT_NEGATIVE, POSITIVE, PROBABILITY, Collector, Problem, check, setting

# Names of networks.
CLASSIFIERS, COPIES = "modality_classifiers", "modality_copies"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutual:
    """How the classifiers of the modalities learn from each other; a section of the config."""

    identity_weight: float = setting(1.0, NOT_NEGATIVE, "of the identity losses of both modalities' classifiers")
    weight: float = setting(2.5, NOT_NEGATIVE, "of the divergence from the other modality's copy")
    update_rate: float = setting(0.2, PROBABILITY, "what the copies take over of the classifiers in a step")
    slower_from: float = setting(100 / 140, POSITIVE, "fraction of train.steps: then the rate falls as 1 / step")

    def __post_init__(self) -> None:
        check(self)


def divergence(logits: jax.Array, copied: jax.Array) -> jax.Array:
    """mean_i sum_c p_ic log(p_ic / q_ic), p and q the softmax of the logits and of the `copied` ones, [n, C] each.

    The copied ones get no gradient.
    """
    own = jax.nn.log_softmax(distances.bounded(logits), axis=1)
    other = jax.nn.log_softmax(distances.bounded(jax.lax.stop_gradient(copied)), axis=1)
    return jnp.mean(jnp.sum(jnp.exp(own) * (own - other), axis=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mpanet(learned.Learned):
    """One player, who owns a third network, the classifiers of the modalities; nobody owns their copies."""

    mutual: Mutual

    @property
    def classifiers(self) -> ModalityClassifiers:
        return ModalityClassifiers(self.num_identities)

    @property
    def players(self) -> dict[str, Player]:
        (player,) = super().players.values()
        return {"embedder": dataclasses.replace(player, networks=(*player.networks, CLASSIFIERS))}

    def networks(self, key: jax.Array, features: learned.Shapes) -> dict[str, PyTree]:
        _, parts, dim = features[self.identity.identity_feature].shape
        made = self.classifiers.init(jax.random.fold_in(key, 1), jnp.zeros((2, parts * dim)), 1)
        return {**super().networks(key, features), CLASSIFIERS: made, COPIES: jax.tree.map(jnp.copy, made)}

    def update(self, state: State, batch: Batch) -> Update:
        networks = state.training["networks"]
        networks = {**networks, COPIES: self.moved(networks[COPIES], networks[CLASSIFIERS], state.step)}
        return super().update(state.replace(training={**state.training, "networks": networks}), batch)

    def moved(self, copies: PyTree, classifiers: PyTree, step: jax.Array) -> PyTree:
        """The copies that the step of this number, from 0, is made with."""
        slower = self.mutual.slower_from * self.steps / (step + 1)
        rate = self.mutual.update_rate * jnp.minimum(slower, 1.0)
        return jax.tree.map(lambda copy, classifier: (1 - rate) * copy + rate * classifier, copies, classifiers)

    def loss(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        examples, statistics = self.examples(networks, view, key)
        total, terms = self.weighted(examples, networks["heads"]["params"])
        features, labels = examples.own(self.identity.identity_feature)
        n = examples.num_visible
        logits: Any = self.classifiers.apply(networks[CLASSIFIERS], features, n)
        copied: Any = self.classifiers.apply(networks[COPIES], features, n, crossed=True)
        terms["modality_identity"] = cross_entropy(logits[:n], labels[:n]) + cross_entropy(logits[n:], labels[n:])
        terms["mutual"] = divergence(logits, copied)
        total += self.mutual.identity_weight * terms["modality_identity"]
        total += self.mutual.weight * terms["mutual"]
        return total, Outcome(statistics, {"loss": total, **terms})


def build(config: ConfigDict, *, num_identities: int) -> Mpanet:
    """The network, the losses and the modalities' classifiers of a config.

    Raises:
      SettingsError: see `learned.build`; or a batch lacks a modality.
    """
    made = Collector()
    mutual = made.of(Mutual, "mpanet", config.mpanet)
    made.problems += [
        Problem(f"batch.{name}", 0, "1 or more, because MPANet has a classifier for each modality")
        for name in ("visible", "infrared")
        if config.batch[name] == 0
    ]
    made.raise_problems()
    return learned.build(config, num_identities=num_identities, kind=Mpanet, mutual=mutual)


def _settings(tensors: layouts.Tensors) -> dict[str, Any]:
    """The masks and the layers with alleviation are what the file holds."""
    alleviated = sum(f"backbone.MAM{layer}.channel_attention.0.weight" in tensors for layer in (3, 4))
    masks = len(tensors.get("spatial_attention.weight", ()))
    return {**layouts.resnet_settings(tensors), "model.modality_alleviation": alleviated, "model.pattern_masks": masks}


def _more(tensors: layouts.Tensors) -> dict[str, np.ndarray]:
    return {"bn_neck.bias": np.zeros_like(tensors["bn_neck.weight"])}


LAYOUT = layouts.Layout(
    streams={"shared": "backbone."},
    rows=(
        Row(r".*/alleviation(\d)/squeeze/kernel", r"backbone.MAM\1.channel_attention.0.weight", OIHW),
        Row(r".*/alleviation(\d)/excite/kernel", r"backbone.MAM\1.channel_attention.2.weight", OIHW),
        Row("embedder/patterns/masks/kernel", "spatial_attention.weight", OIHW),
        Row("embedder/patterns/masks/bias", "spatial_attention.bias"),
        *layouts.norm("embedder/neck", "bn_neck"),
        Row("heads/classifier", "classifier.weight", LINEAR),
        Row(rf"{CLASSIFIERS}/(\w+)", r"\1_classifier.weight", LINEAR),
        Row(rf"{COPIES}/(\w+)", r"\1_classifier_.weight", LINEAR),
    ),
    first=("classifier.weight", "bn_neck.weight", "visible_classifier_.weight"),
    settings=_settings,
    zeros=r"bn_neck\.bias",
    more=_more,
    nest="",
)
SYSTEM = System(
    title="MPANet",
    build=build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 0,
        "model.modality_alleviation": 2,
        "model.pattern_masks": 6,
        "loss.classifier_start": "torch",
        "loss.center_cluster.weight": 1.0,
        "loss.separation.weight": 0.5,
        "augment.erasing": 0.5,
        "augment.erasing_area": (0.02, 0.33),
        "augment.erasing_aspect": (0.3, 3.3),
    },
    images=(4, 4),
    sections={"mpanet": Mutual},
    layout=LAYOUT,
    recipe={
        "optimizer.name": "adam",
        "optimizer.learning_rate": 3.5e-4,
        "optimizer.backbone_factor": 1.0,
        "optimizer.weight_decay": 5e-4,
        "optimizer.decay_norms_and_biases": True,
        "optimizer.clip_norm": 0.0,
        "optimizer.schedule": "step",
        "optimizer.warmup": 0.0,
        # Epochs 80 and 120 of 140.
        "optimizer.milestones": (0.571, 0.857),
        "augment.border": "gray",
        "augment.channel_exchange": 0.0,
        "augment.random_gray": 0.0,
        "augment.erasing": 0.5,
        "batch.identities": 16,
    },
)
