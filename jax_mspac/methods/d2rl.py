"""D2RL (Wang et al., CVPR 2019): each image is translated to the other modality, and both are seen as four channels.

There is no public code, and the paper's weights could not be verified: the form is the paper's, the rest our reading.
The translators are UNIT's (`models.shared_latent`), with q(z|x) = N(E(x), 1), G(z) of the same modality, G'(z) of the
other, and a discriminator D of each modality. They minimize, summed over the images x of both modalities,

    adversarial mean (D'(G'(z)) - 1)^2  +  reconstruction |G(z) - x|  +  kl KL(q(z|x) || N(0, 1))
      +  cycle |G(z') - x|  +  cycle_kl KL(q(z'|G'(z)) || N(0, 1))  +  joint L,    z' ~ q(z'|G'(z)),

the discriminators (mean (D(x) - 1)^2 + mean D'(G'(z))^2) / 2, and the re-identification network L, the identity loss
and the batch-hard triplet of four-channel images: (x, G'(z)) of a visible image x, (G'(z), x) of an infrared one. At
test z is its mean, and an image of either modality becomes four channels.

docs/comparison.md lists what is open and what was chosen.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jax_mspac.losses import adversarial, variational
from jax_mspac.methods import augmentation, learned
from jax_mspac.methods.base import Batch, Game, Metrics, PyTree, State, System
from jax_mspac.methods.players import Networks, Outcome, Player
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.models.input_forms import four_channels, gray
from jax_mspac.models.shared_latent import CHANNELS, OTHER, ModalityCritics, SharedLatent
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import (
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Collector,
    Problem,
    SettingsError,
    at_least,
    check,
    setting,
)

# Folded into an image's key for the two samples of codes; augmentation takes 0 to 2.
_OF_IMAGE, _OF_TRANSLATION = 3, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation:
    """The translators, the discriminators and their losses; a section of the config.

    Weights and rates are UNIT's.
    """

    width: int = setting(0, at_least(0), "channels of the translators' first layer; 0: model.width, as UNIT's 64")
    blocks: int = setting(4, at_least(1), "residual blocks of each encoder and of each generator")
    shared_blocks: int = setting(1, at_least(0), "how many of them the modalities share")
    critic_width: int = setting(0, at_least(0), "channels of a discriminator's first layer; 0: model.width")
    critic_layers: int = setting(4, at_least(1), "of a discriminator, each of stride 2")
    adversarial: float = setting(10.0, NOT_NEGATIVE, "weight of the discriminators' opinion of translated images")
    reconstruction: float = setting(100.0, NOT_NEGATIVE, "weight of the difference of an image and its decoded code")
    kl: float = setting(0.1, NOT_NEGATIVE, "weight of the codes' divergence from a normal distribution")
    cycle: float = setting(100.0, NOT_NEGATIVE, "weight of the difference of an image and its translation's")
    cycle_kl: float = setting(0.1, NOT_NEGATIVE, "as kl, of the codes of translated images")
    joint: float = setting(1.0, NOT_NEGATIVE, "weight of the re-identification loss in the translators'; 0: without it")
    learning_rate: float = setting(1e-4, POSITIVE, "of Adam, for translators and discriminators")
    beta1: float = setting(0.5, FRACTION, "of Adam")

    def __post_init__(self) -> None:
        check(self)
        if self.shared_blocks > self.blocks:
            raise SettingsError([Problem("shared_blocks", self.shared_blocks, f"at most blocks, {self.blocks}")])


class View(NamedTuple):
    """A batch as the players see it; each mapping is by modality of the image.

    Attributes:
      pixels: what the translators see, [n, H, W, C] in [-1, 1].
      noise: standard normal numbers for the codes of the images, and for those of their translations.
      labels: int [N], of the visible, then of the infrared images.
      translated: the images' translations, [n, H, W, C'] of the other modality, once the translators have played.
    """

    pixels: Mapping[str, jax.Array]
    noise: Mapping[str, tuple[jax.Array, jax.Array]]
    labels: jax.Array
    translated: Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class D2rl(learned.Learned):
    """Three players: the translators, their discriminators, and the embedder with its heads.

    The translators move first and hand their translations on, made before they moved.
    """

    games = (
        Game(
            "Is an image real or translated?",
            {"translators": "adversarial", "discriminators": "discriminators"},
            ("discriminator_accuracy",),
        ),
    )
    translation: Translation

    @property
    def translators(self) -> SharedLatent:
        made = self.translation
        embedder = self.embedder
        return SharedLatent(
            made.width, made.blocks, made.shared_blocks, dtype=jnp.dtype(embedder.dtype), kernels=embedder.kernels
        )

    @property
    def critics(self) -> ModalityCritics:
        made = self.translation
        return ModalityCritics(made.critic_width, made.critic_layers, jnp.dtype(self.embedder.dtype))

    @property
    def players(self) -> dict[str, Player]:
        adam = optax.adam(self.translation.learning_rate, b1=self.translation.beta1)
        return {
            "translators": Player(networks=("translators",), loss=self.convert, optimizer=adam),
            "discriminators": Player(networks=("discriminators",), loss=self.judge, optimizer=adam),
            **super().players,
        }

    def variables(self, key: jax.Array, images: Mapping[str, jax.Array]) -> tuple[dict[str, PyTree], learned.Shapes]:
        pixels = {modality: _pixels(x, modality) for modality, x in images.items()}
        translators = self.translators.init(jax.random.fold_in(key, 1), pixels)
        variables, features = super().variables(key, images)
        return {**variables, "translators": translators}, features

    def networks(self, key: jax.Array, features: learned.Shapes) -> dict[str, PyTree]:
        images = {modality: jnp.zeros((1, *self.image_size, CHANNELS[modality])) for modality in MODALITIES}
        discriminators = self.critics.init(jax.random.fold_in(key, 1), images)
        return {**super().networks(key, features), "discriminators": discriminators}

    def shown(self, state: State, batch: Batch) -> View:
        images, labels = self.view(batch, state.step)
        height, width = self.image_size
        stride, channels = SharedLatent.STRIDE, 4 * self.translation.width

        def drawn(modality: str, purpose: int) -> jax.Array:
            keys = augmentation.sample_keys(self.seed, state.step, batch[modality]["slot"])
            keys = augmentation.folded(keys, purpose)
            return jax.vmap(lambda key: jax.random.normal(key, (height // stride, width // stride, channels)))(keys)

        noise = {m: (drawn(m, _OF_IMAGE), drawn(m, _OF_TRANSLATION)) for m in images}
        return View({m: _pixels(x, m) for m, x in images.items()}, noise, labels, {})

    def encode(self, networks: Networks, pixels: jax.Array, modality: str) -> jax.Array:
        """Means of the codes of images of one modality: see `SharedLatent`."""
        return self._applied("encode", modality)(networks["translators"], pixels)

    def decode(self, networks: Networks, codes: jax.Array, modality: str) -> jax.Array:
        """Images of one modality that codes stand for: see `SharedLatent`."""
        return self._applied("decode", modality)(networks["translators"], codes)

    def _applied(self, method: str, modality: str) -> Any:
        def apply(variables: PyTree, x: jax.Array) -> Any:
            return self.translators.apply(variables, x, modality, method=method)

        return jax.checkpoint(apply) if self.embedder.remat else apply

    def convert(self, networks: Networks, view: View, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The translators' loss."""
        terms, translated = self.translated(networks, view)
        view = view._replace(translated=translated)
        total = jnp.stack([getattr(self.translation, name) * term for name, term in terms.items()]).sum()
        metrics = {**terms, "translation": total}
        if self.translation.joint:
            examples, _ = self.examples(networks, view, key)
            total += self.translation.joint * self.weighted(examples, networks["heads"]["params"])[0]
        return total, Outcome({}, metrics, view=view)

    def translated(self, networks: Networks, view: View) -> tuple[Metrics, dict[str, jax.Array]]:
        """The terms of the translators' loss without weights, sums over both modalities, and the translations."""
        x, noise, counts = view.pixels, view.noise, [len(view.pixels[m]) for m in MODALITIES]
        means = {m: self.encode(networks, x[m], m) for m in MODALITIES}
        codes = jnp.concatenate([means[m] + noise[m][0] for m in MODALITIES])
        # What each generator makes of the codes of both modalities: [of the visible images, of the infrared ones].
        made = {m: jnp.split(self.decode(networks, codes, m), counts[:1]) for m in MODALITIES}
        decoded = {m: made[m][i] for i, m in enumerate(MODALITIES)}
        translated = {m: made[OTHER[m]][i] for i, m in enumerate(MODALITIES)}
        means_of_made = {m: self.encode(networks, translated[m], OTHER[m]) for m in MODALITIES}
        back = {m: self.decode(networks, means_of_made[m] + noise[m][1], m) for m in MODALITIES}
        scores = self._scores(networks, {OTHER[m]: translated[m] for m in MODALITIES})

        def total(of_modality: Callable[[str], jax.Array]) -> jax.Array:
            return jnp.stack([of_modality(m) for m in MODALITIES]).sum()

        terms = {
            "adversarial": total(lambda m: adversarial.least_squares(scores[m], 1.0)),
            "reconstruction": total(lambda m: adversarial.absolute(decoded[m], x[m])),
            "kl": total(lambda m: variational.divergence(means[m])),
            "cycle": total(lambda m: adversarial.absolute(back[m], x[m])),
            "cycle_kl": total(lambda m: variational.divergence(means_of_made[m])),
        }
        return terms, translated

    def judge(self, networks: Networks, view: View, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The discriminators' loss, the sum of both, and the share of images' patches that they tell right."""
        pairs = {m: jnp.concatenate([view.pixels[m], view.translated[OTHER[m]]]) for m in MODALITIES}
        scores = self._scores(networks, pairs)
        sides = [jnp.split(scores[m], [len(view.pixels[m])]) for m in MODALITIES]
        losses = [adversarial.least_squares(real, 1.0) + adversarial.least_squares(made, 0.0) for real, made in sides]
        right = [adversarial.accuracy(real, made) for real, made in sides]
        loss, right_of_all = jnp.stack(losses).sum() / 2, jnp.stack(right).mean()
        return loss, Outcome({}, {"discriminators": loss, "discriminator_accuracy": right_of_all})

    def _scores(self, networks: Networks, images: Mapping[str, jax.Array]) -> Any:
        return self.critics.apply(networks["discriminators"], images)

    def examples(self, networks: Networks, view: View, key: jax.Array) -> Any:
        return super().examples(networks, (_joined(view.pixels, view.translated), view.labels), key)

    def seen(self, variables: PyTree, images: jax.Array, modality: str) -> jax.Array:
        """Normalized images [N, H, W, 3] of one modality as ones of four channels, without noise in the codes."""
        pixels = _pixels(images, modality)
        return _joined({modality: pixels}, {modality: self._turned(variables, pixels, modality)})[modality]

    def _turned(self, variables: PyTree, pixels: jax.Array, modality: str) -> jax.Array:
        return self.decode(variables, self.encode(variables, pixels, modality), OTHER[modality])

    def translate(self, variables: PyTree, images: jax.Array, modality: str) -> jax.Array:
        """The other modality's images of uint8 images [N, H, W, 3] of one: uint8 [N, H, W, 3]."""
        made = self._turned(variables, _pixels(augmentation.normalize(images), modality), modality)
        return jnp.round(_levels(made)).astype(jnp.uint8)


def _pixels(images: jax.Array, modality: str) -> jax.Array:
    """Normalized images [N, H, W, 3] as the translators see them: see `View.pixels`."""
    scaled = (images * augmentation.STD + augmentation.MEAN) / 127.5 - 1
    if CHANNELS[modality] == 3:
        return scaled
    return gray(scaled)[..., None]


def _levels(pixels: jax.Array) -> jax.Array:
    """Images [N, H, W, C] in [-1, 1] as [N, H, W, 3] in [0, 255]."""
    return jnp.broadcast_to(127.5 * (pixels + 1), (*pixels.shape[:-1], 3))


def _joined(pixels: Mapping[str, jax.Array], translated: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Images and their translations, by modality of the image, as normalized images of four channels."""
    joined = {}
    for modality, x in pixels.items():
        pair = {modality: x, OTHER[modality]: translated[modality]}
        joined[modality] = four_channels(*(augmentation.normalize(_levels(pair[m])) for m in (VISIBLE, INFRARED)))
    return joined


def build(config: ConfigDict, *, num_identities: int) -> D2rl:
    """The translators, the discriminators, the network and its losses of a config.

    Raises:
      SettingsError: see `learned.build`; or a batch lacks a modality, or the images do not fit the translators.
    """
    made = Collector()
    translation = made.of(Translation, "d2rl", config.d2rl)
    made.problems += [
        Problem(f"batch.{name}", 0, "1 or more, because D2RL translates both ways")
        for name in MODALITIES
        if config.batch[name] == 0
    ]
    stride, data = SharedLatent.STRIDE, config.data
    fits = f"a multiple of {stride}, because D2RL's translators halve the images twice"
    made.problems += [Problem(f"data.{n}", data[n], fits) for n in ("height", "width") if data[n] % stride]
    if translation is not None and min(data.height, data.width) < 2**translation.critic_layers:
        least = f"fewer, because images of {data.height}x{data.width} pixels cannot be halved so often"
        made.problems.append(Problem("d2rl.critic_layers", translation.critic_layers, least))
    if config.model.input_form != "four_channels":
        form = "'four_channels', because D2RL adds the other modality to each image"
        made.problems.append(Problem("model.input_form", config.model.input_form, form))
    if config.augment.channel_augmentation:
        once = "False, because D2RL translates each image once"
        made.problems.append(Problem("augment.channel_augmentation", True, once))
    made.raise_problems()
    width = config.model.width
    widths = {"width": translation.width or width, "critic_width": translation.critic_width or width}
    translation = dataclasses.replace(translation, **widths)
    return learned.build(config, num_identities=num_identities, kind=D2rl, translation=translation)


SYSTEM = System(
    title="D2RL",
    build=build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 0,
        "model.input_form": "four_channels",
        "loss.batch_hard.weight": 1.0,
        # What the translators learn is what the images of a test look like.
        "augment.channel_exchange": 0.0,
        "augment.random_gray": 0.0,
        "augment.erasing": 0.0,
    },
    sections={"d2rl": Translation},
)
