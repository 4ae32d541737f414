"""AlignGAN (Wang et al., ICCV 2019): visible images become infrared ones, whose features meet those of real ones.

A generator makes an infrared image of a visible one, another one the reverse; an encoder of infrared images, real and
made, learns people. A discriminator of visible images, and one of infrared images together with feature maps, play
against the generators and the encoder. What the generators make is a third kind of image: no data set has it.

Terms and weights are those of the public code (github.com/wangguanan/AlignGAN at b376862). With v and i real images,
V and I made ones (I of v, V of i), f(.) the encoder's feature map, T the cosine triplet loss both ways, D scores, and
LS the least squares of scores,

    encoder:     CE(I) + CE(i) + triplet T(I, i) + feature_game LS(D(i, f(I)), 1)
    generators:  [LS(D(V), 1) + LS(D(I, f(i)), 1)] / 2 + cycle |cycle - real| + mapping |G(own kind) - own kind|
                 + pixel_triplet T(I, i) + pixel_identity CE(I)
    D of v:      [LS(D(v), 1) + LS(D(V), 0)] / 2
    joint D:     [LS(D(i, f(i)), 1) + mean of LS(D(i', f(i)), 0), LS(D(i, f(I)), 0), LS(D(I, f(i)), 0),
                 LS(D(I, f(I)), 0)] / 2

where i' is the infrared image of another identity, and | | is the mean of both directions. The encoder sees the whole
batch, the others `aligngan.identities` of its identities. The run has three phases: the encoder learns real infrared
images alone; then the generators play against discriminators of images that are dropped afterwards; then all of the
above, in this order in each step. At test a visible image passes the generator, and the pooled map is matched.

Beside the public code: a discriminator judges what the generators make after their move, not before it; both batches
of a step hold the same people; and images are mirrored, where that is asked for at test, before they are translated.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_mspac.losses import LOSSES
from jax_mspac.losses.adversarial import absolute, accuracy, least_squares
from jax_mspac.methods import learned, optimizers
from jax_mspac.methods.aligngan_networks import (
    GENERATORS,
    OF_FEATURES,
    OF_PIXELS,
    Alignment,
    AlignmentNetworks,
    View,
)
from jax_mspac.methods.base import Batch, Game, Metrics, PyTree, State, System, Update
from jax_mspac.methods.players import Networks, Outcome, Player, play, step_of
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.models.translation import Generator
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector, Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignGan(AlignmentNetworks):
    """Four players: encoder, generators, discriminators of their warm-up, and those that play with the encoder."""

    games = (
        Game(
            "Visible images",
            {
                "generator": "fooling_visible",
                "discriminator, warm-up": "discriminator_visible_warmup",
                "discriminator": "discriminator_visible",
            },
            ("accuracy_visible_warmup", "accuracy_visible"),
        ),
        Game(
            "Infrared images, from the third phase on with feature maps",
            {
                "generator": "fooling_infrared",
                "encoder": "fooling_features",
                "discriminator, warm-up": "discriminator_infrared_warmup",
                "joint discriminator": "discriminator_joint",
            },
            ("accuracy_infrared_warmup", "accuracy_joint"),
        ),
    )

    @property
    def phases(self) -> tuple[int, int]:
        """The last steps of the first and of the second phase."""
        first = round(self.alignment.feature_warmup * self.steps)
        return first, first + round(self.alignment.pixel_warmup * self.steps)

    @property
    def players(self) -> dict[str, Player]:
        first, second = self.phases

        def spans(*of: tuple[int, int]) -> tuple[tuple[int, int], ...]:
            return tuple(span for span in of if span[0] <= span[1])

        def of_images(networks: tuple[str, ...], loss: Any, span: tuple[int, int]) -> Player:
            recipe = dataclasses.replace(self.recipe, learning_rate=self.alignment.learning_rate)
            within, rate = spans(span), optimizers.learning_rate(recipe, self.steps)
            adam = optax.adam(lambda move: rate(step_of(within, move)), b1=0.5, b2=0.999)
            return Player(networks=networks, loss=loss, optimizer=adam, spans=within)

        (encoder,) = super().players.values()
        apart = spans((1, first), (second + 1, self.steps))
        optimizer = optimizers.build(self.recipe, self.steps, self.group, functools.partial(step_of, apart))
        later, last = (second + 1, self.steps), (first + 1, self.steps)
        warmup = ("discriminator_visible_warmup", "discriminator_infrared_warmup")
        return {
            "encoder": dataclasses.replace(encoder, optimizer=optimizer, spans=apart),
            "generators": of_images(tuple(GENERATORS.values()), self.translated, last),
            "warmup": of_images(warmup, self.judged_in_warmup, (first + 1, second)),
            "discriminators": of_images(("discriminator_visible", "discriminator_joint"), self.judged, later),
        }

    def update(self, state: State, batch: Batch) -> Update:
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        update = play(self.players, state, self.parts(batch, state.step), key)
        rate = optimizers.learning_rate(self.recipe, self.steps)(state.step)
        return update._replace(metrics={**update.metrics, "learning_rate": rate})

    def loss(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The encoder's: of real infrared images in the first phase, of real and made ones in the third."""
        whole, _ = view
        first, _ = self.phases
        if first == 0:
            return self._aligned(networks, whole)
        return jax.lax.cond(whole.step < first, self._learned_alone, self._aligned, dict(networks), whole)

    def _learned_alone(self, networks: Networks, view: View) -> tuple[jax.Array, Outcome]:
        encoded = self.encoded(networks, view.images[INFRARED], train=True)
        labels = view.labels[INFRARED]
        identity, embedding = self.classified(networks, encoded, view, INFRARED, OF_FEATURES)
        triplet = self.one_way(embedding, labels, embedding, labels)
        metrics = {"identity": identity, "triplet": triplet, "fooling_features": jnp.zeros(())}
        return self._of_encoder(metrics, networks, encoded.statistics, alone=True)

    def _aligned(self, networks: Networks, view: View) -> tuple[jax.Array, Outcome]:
        images, moved = self.made(networks, VISIBLE, view.images[VISIBLE])
        # The encoder's loss does not reach the generator, whose parameters are none of its.
        of_made = self.encoded(networks, images, train=True)
        embedder = {**networks["embedder"], "batch_stats": of_made.statistics}
        of_real = self.encoded({"embedder": embedder}, view.images[INFRARED], train=True)
        sides = ((of_made, VISIBLE), (of_real, INFRARED))
        identities, embeddings = zip(
            *(self.classified(networks, of, view, m, OF_FEATURES) for of, m in sides), strict=True
        )
        scores = self.joint(networks, view.images[INFRARED], of_made.maps)
        metrics = {
            "identity": sum(identities),
            "triplet": self.triplet(embeddings, view),
            "fooling_features": least_squares(scores, 1.0),
        }
        return self._of_encoder(metrics, moved, of_real.statistics, alone=False)

    def _of_encoder(
        self, metrics: Metrics, networks: Networks, embedder: PyTree, *, alone: bool
    ) -> tuple[jax.Array, Outcome]:
        of = self.alignment
        total = self.identity.identity_weight * metrics["identity"]
        total += of.triplet * metrics["triplet"] + of.feature_game * metrics["fooling_features"]
        statistics = {"embedder": embedder, **_statistics(networks)}
        resting = {"fooling_features": jnp.bool_(alone)}
        return total, Outcome(statistics, {"loss": total, **metrics}, resting)

    def translated(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The generators', in the second and the third phase."""
        _, part = view
        real = part.images
        own, first_made, moved = {}, {}, networks
        for modality, other in ((VISIBLE, INFRARED), (INFRARED, VISIBLE)):
            # The images to translate, and those that should stay as they are.
            both, moved = self.made(moved, modality, jnp.concatenate([real[modality], real[other]]))
            first_made[other], own[other] = jnp.split(both, [len(real[modality])])
        back = {}
        for modality, other in ((VISIBLE, INFRARED), (INFRARED, VISIBLE)):
            back[other], moved = self.made(moved, modality, first_made[modality])
        of_real = self.encoded(networks, real[INFRARED], train=True)
        embedder = {**networks["embedder"], "batch_stats": of_real.statistics}
        of_made = self.encoded({"embedder": embedder}, first_made[INFRARED], train=True)
        identity, embedding = self.classified(networks, of_made, part, VISIBLE, OF_PIXELS)
        real_heads, _ = self.bottleneck_heads.apply(networks["heads"], of_real.features, mutable=["batch_stats"])
        visible, infrared = self._fooling(networks, part.step, first_made, of_real.maps)
        metrics = {
            "fooling_visible": visible,
            "fooling_infrared": infrared,
            "cycle": (absolute(back[VISIBLE], real[VISIBLE]) + absolute(back[INFRARED], real[INFRARED])) / 2,
            "mapping": (absolute(own[VISIBLE], real[VISIBLE]) + absolute(own[INFRARED], real[INFRARED])) / 2,
            "pixel_triplet": self.triplet((embedding, real_heads[1]), part),
            "pixel_identity": identity,
        }
        of = self.alignment
        weights = {name: getattr(of, name) for name in ("cycle", "mapping", "pixel_triplet", "pixel_identity")}
        total = (visible + infrared) / 2 + sum(weight * metrics[name] for name, weight in weights.items())
        statistics = {"embedder": of_made.statistics, **_statistics(moved)}
        return total, Outcome(statistics, {"generators": total, **metrics})

    def judged_in_warmup(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The loss of the discriminators of the second phase, each of the images of a modality alone."""
        _, part = view
        visible, infrared = (self.judged_images(networks, f"discriminator_{m}_warmup", part, m) for m in MODALITIES)
        metrics = {
            "discriminator_visible_warmup": visible[0],
            "accuracy_visible_warmup": visible[1],
            "discriminator_infrared_warmup": infrared[0],
            "accuracy_infrared_warmup": infrared[1],
        }
        return visible[0] + infrared[0], Outcome({}, metrics)

    def judged(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The loss of the discriminators of the third phase."""
        _, part = view
        visible, right = self.judged_images(networks, "discriminator_visible", part, VISIBLE)
        real = part.images[INFRARED]
        made, _ = self.made(networks, VISIBLE, part.images[VISIBLE])
        of_real, of_made = (self.encoded(networks, images, train=True).maps for images in (real, made))
        pairs: tuple[tuple[Any, Any], ...] = (
            (real, of_real),
            (self.of_others(real), of_real),
            (real, of_made),
            (made, of_real),
            (made, of_made),
        )
        # Instance normalization: to score all at once is the same.
        scores = self.joint(networks, *(jnp.concatenate(of) for of in zip(*pairs, strict=True)))
        together, apart = jnp.split(scores, [len(real)])
        joint = (least_squares(together, 1.0) + least_squares(apart, 0.0)) / 2
        metrics = {
            "discriminator_visible": visible,
            "accuracy_visible": right,
            "discriminator_joint": joint,
            "accuracy_joint": accuracy(together, apart),
        }
        return visible + joint, Outcome({}, metrics)

    def _fooling(
        self, networks: Networks, step: jax.Array, made: Mapping[str, jax.Array], real_maps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The generators' side of the games, of visible and of infrared images, in the phase of the step."""

        def in_warmup(networks: Networks) -> tuple[jax.Array, ...]:
            return tuple(self.score(networks, f"discriminator_{m}_warmup", made[m]) for m in MODALITIES)

        def later(networks: Networks) -> tuple[jax.Array, ...]:
            joint = self.joint(networks, made[INFRARED], real_maps)
            return self.score(networks, "discriminator_visible", made[VISIBLE]), joint

        first, second = self.phases
        if first == second:
            scores = later(networks)
        else:
            scores = jax.lax.cond(step < second, in_warmup, later, dict(networks))
        visible, infrared = (least_squares(of, 1.0) for of in scores)
        return visible, infrared


def _statistics(networks: Networks) -> dict[str, PyTree]:
    """Those of the generators, if they follow any."""
    found = {name: networks[name].get("batch_stats") for name in GENERATORS.values()}
    return {name: statistics for name, statistics in found.items() if statistics is not None}


def build(config: ConfigDict, *, num_identities: int) -> AlignGan:
    """The encoder, the generators and the discriminators of a config.

    Raises:
      SettingsError: see `learned.build`; or a batch is too small, a modality is missing, the images do not fit the
        networks, or a setting belongs to other systems.
    """
    made = Collector()
    alignment = made.of(Alignment, "aligngan", config.aligngan)
    batch, data, because = config.batch, config.data, "because AlignGAN"
    for name in ("visible", "infrared"):
        if batch[name] == 0:
            told = f"1 or more, {because} translates between the modalities"
            made.problems.append(Problem(f"batch.{name}", 0, told))
    if batch.visible != batch.infrared and batch.visible and batch.infrared:
        told = f"{batch.visible}, as batch.visible, {because} pairs images of both modalities"
        made.problems.append(Problem("batch.infrared", batch.infrared, told))
    if alignment is not None:
        if batch.identities < alignment.identities:
            told = f"{alignment.identities} or more, {because} translates images of so many (aligngan.identities)"
            made.problems.append(Problem("batch.identities", batch.identities, told))
        if alignment.feature_warmup + alignment.pixel_warmup >= 1:
            told = f"less than 1 together with aligngan.feature_warmup, {because} trains jointly after both"
            made.problems.append(Problem("aligngan.pixel_warmup", alignment.pixel_warmup, told))
        # A map of one pixel would be normalized to zeros.
        if (data.height >> alignment.layers) * (data.width >> alignment.layers) < 2:
            told = (
                f"fewer, as images of {data.height}x{data.width} pixels leave less than 2 patches after so many layers"
            )
            made.problems.append(Problem("aligngan.layers", alignment.layers, told))
    for name in ("height", "width"):
        if data[name] % Generator.STRIDE:
            told = f"a multiple of {Generator.STRIDE}, {because}'s generators halve images twice"
            made.problems.append(Problem(f"data.{name}", data[name], told))
    if batch.group_devices:
        told = f"0, {because} translates images of the whole batch"
        made.problems.append(Problem("batch.group_devices", batch.group_devices, told))
    if config.augment.channel_augmentation:
        told = f"False, {because} pairs each visible image with an infrared one"
        made.problems.append(Problem("augment.channel_augmentation", True, told))
    if config.model.shared_from != 0:
        told = f"0, {because}'s encoder sees infrared images alone"
        made.problems.append(Problem("model.shared_from", config.model.shared_from, told))
    if config.loss.classifier_hidden == 0:
        made.problems.append(Problem("loss.classifier_hidden", 0, f"1 or more, {because} has a layer of so many units"))
    made.problems += [
        Problem(f"loss.{name}.weight", config.loss[name].weight, f"0, {because} has losses of its own")
        for name in LOSSES
        if config.loss[name].weight
    ]
    made.raise_problems()
    return learned.build(
        config, num_identities=num_identities, kind=AlignGan, alignment=alignment, identities=batch.identities
    )


SYSTEM = System(
    title="AlignGAN",
    build=build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 0,
        "model.last_stride": 1,
        "loss.identity_feature": "before_neck",
        "loss.classifier_hidden": 256,
        "loss.classifier_slope": 0.1,
        "eval.feature": "before_neck",
    },
    images=(4, 4),
    sections={"aligngan": Alignment},
    recipe={
        **learned.SGD,
        "augment.pad": 0,
        "optimizer.learning_rate": 0.2,
        "optimizer.backbone_factor": 0.1,
        "optimizer.decay_norms_and_biases": True,
        "optimizer.schedule": "step",
        "optimizer.warmup": 0.0,
        "optimizer.milestones": (200 / 251,),
    },
)
