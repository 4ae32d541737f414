"""cmGAN (Dai et al., IJCAI 2018): a shared network learns people and hides from a discriminator what took the image.

With L_G the sum of the cross-modality triplet loss and of the identity losses of both modalities, and L_D the loss of
the discriminator,

    the embedder and its heads minimize  L_G - weight L_D,    the discriminator minimizes  L_D,

each with an optimizer of its own; the discriminator moves in every K-th step. This is the paper's formula. The one
public code (github.com/sshkhr/cmGAN at cb449c3, by others than the authors), whose numbers the settings are, has one
optimizer for all: there the discriminator is driven away from the truth together with the embedder in four of five
epochs, and in every fifth everything minimizes weight L_D - L_G, so that the embedder unlearns people. Ours does not.

The identity loss is a mean over both modalities, where L_G has a sum: weight 2. All images of a batch are anchors.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_mspac.losses import Examples, modality
from jax_mspac.methods import learned, optimizers
from jax_mspac.methods.base import Game as PlayedGame
from jax_mspac.methods.base import Metrics, PyTree, System
from jax_mspac.methods.players import Networks, Outcome, Player
from jax_mspac.models.modality_discriminator import ModalityDiscriminator
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import NOT_NEGATIVE, POSITIVE, Collector, Problem, at_least, check, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """How the discriminator plays, and how much the embedder minds it; a section of the config."""

    weight: float = setting(0.05, NOT_NEGATIVE, "of the discriminator's loss in the embedder's; 0: it does not mind")
    every: int = setting(5, at_least(1), "the discriminator moves in every n-th step: K")
    rate_factor: float = setting(1.0, POSITIVE, "learning rate of the discriminator relative to the new layers'")

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CmGan(learned.Learned):
    """Two players: the embedder with its heads, and after K of its moves the discriminator.

    The discriminator sees the feature that is classified.
    """

    games = (PlayedGame("The modality of a feature", {"discriminator": "modality"}, ("discriminator_accuracy",)),)
    game: Game
    discriminator: ModalityDiscriminator = ModalityDiscriminator()

    @property
    def players(self) -> dict[str, Player]:
        rate = self.recipe.learning_rate * self.game.rate_factor
        discriminator = Player(
            networks=("discriminator",),
            loss=self.tell_apart,
            optimizer=optimizers.build(
                dataclasses.replace(self.recipe, learning_rate=rate),
                self.steps // self.game.every,  # those that it moves in
                lambda path: "heads",
            ),
            every=self.game.every,
        )
        return {**super().players, "discriminator": discriminator}

    def networks(self, key: jax.Array, features: learned.Shapes) -> dict[str, PyTree]:
        _, parts, dim = features[self.identity.identity_feature].shape
        discriminator = self.discriminator.init(jax.random.fold_in(key, 1), jnp.zeros((1, parts * dim)))
        return {**super().networks(key, features), "discriminator": discriminator}

    def tell_apart(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The discriminator's loss; the embedder's, which is computed in every step, tells its metrics."""
        examples, _ = self.examples(networks, view, key)
        return self.judged(networks, examples)["modality"], Outcome({}, {})

    def loss(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        examples, statistics = self.examples(networks, view, key)
        total, terms = self.weighted(examples, networks["heads"]["params"])
        terms |= self.judged(networks, examples)
        total -= self.game.weight * terms["modality"]
        return total, Outcome(statistics, {"loss": total, **terms})

    def judged(self, networks: Networks, examples: Examples) -> Metrics:
        """The discriminator's loss and accuracy, as "modality" and "discriminator_accuracy"."""
        features, _ = examples.own(self.identity.identity_feature)
        logits: Any = self.discriminator.apply(networks["discriminator"], features)
        return {
            "modality": modality.cross_entropy(logits, examples.num_visible),
            "discriminator_accuracy": modality.accuracy(logits, examples.num_visible),
        }


def build(config: ConfigDict, *, num_identities: int) -> CmGan:
    """The network, the losses and the discriminator of a config.

    Raises:
      SettingsError: see `learned.build`; or a batch lacks a modality.
    """
    made = Collector()
    game = made.of(Game, "cmgan", config.cmgan)
    made.problems += [
        Problem(f"batch.{name}", 0, "1 or more, because cmGAN's discriminator tells the modalities apart")
        for name in ("visible", "infrared")
        if config.batch[name] == 0
    ]
    made.raise_problems()
    return learned.build(config, num_identities=num_identities, kind=CmGan, game=game)


SYSTEM = System(
    title="cmGAN",
    build=build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 0,
        "loss.identity_feature": "before_neck",
        "loss.identity_weight": 2.0,
        "loss.classifier_hidden": 512,
        "loss.classifier_bias": True,
        "loss.cross_modality_triplet.weight": 1.0,
        "eval.feature": "before_neck",
    },
    images=(2, 2),
    sections={"cmgan": Game},
    recipe={
        **learned.SGD,
        "augment.pad": 0,
        "optimizer.learning_rate": 1e-4,
        "optimizer.backbone_factor": 1.0,
        "optimizer.weight_decay": 0.0,
        "optimizer.schedule": "constant",
        "optimizer.warmup": 0.0,
        "cmgan.rate_factor": 10.0,
    },
)
