"""The networks of AlignGAN and what is computed of them; see `aligngan` for the games that they play."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_mspac.errors import UserError
from jax_mspac.losses.adversarial import accuracy, least_squares
from jax_mspac.losses.cosine_triplet import cosine_triplet
from jax_mspac.losses.identity import cross_entropy
from jax_mspac.methods import augmentation, learned
from jax_mspac.methods.base import Batch, PyTree, State
from jax_mspac.methods.players import Networks, initial
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.models.joint_alignment import BottleneckHeads, JointDiscriminator
from jax_mspac.models.translation import Generator, PatchDiscriminator
from jax_mspac.runtime import parallel
from jax_mspac.settings import FRACTION, NOT_NEGATIVE, POSITIVE, at_least, check, setting

# The generator of each modality's images, by the modality of what it is given.
GENERATORS = {VISIBLE: "to_infrared", INFRARED: "to_visible"}
# Folded into the keys of images, beside what the augmentation folds in: what dropout leaves in either phase.
OF_FEATURES, OF_PIXELS = 3, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignment:
    """Phases, weights and sizes of AlignGAN; a section of the config."""

    feature_warmup: float = setting(50 / 251, FRACTION, "of train.steps: the encoder alone, on real infrared images")
    pixel_warmup: float = setting(100 / 251, FRACTION, "of train.steps, after these: the generators alone")
    identities: int = setting(4, at_least(2), "of a batch whose images are translated back and forth")
    learning_rate: float = setting(2e-4, POSITIVE, "of Adam, of generators and discriminators; on optimizer.schedule")
    generator_width: int = setting(0, at_least(0), "channels of a generator's first layer; 0: model.width")
    blocks: int = setting(4, at_least(0), "residual blocks of a generator")
    discriminator_width: int = setting(0, at_least(0), "channels of a discriminator's first layer; 0: model.width")
    layers: int = setting(5, at_least(3), "of stride 2 of a discriminator; two of these are the joint ones")
    running: bool = setting(True, None, "at test, instance normalization by running statistics; False: the image's own")
    height: int = setting(0, at_least(0), "pixels of what the encoder sees; 0: data.height")
    width: int = setting(0, at_least(0), "likewise; 0: data.width")
    dropout: float = setting(0.5, FRACTION, "of the pooled feature that is classified")
    margin: float = setting(1.0, NOT_NEGATIVE, "of the triplets' cosines")
    triplet: float = setting(1.0, NOT_NEGATIVE, "weight in the encoder's loss")
    feature_game: float = setting(0.1, NOT_NEGATIVE, "likewise, of fooling the joint discriminator")
    cycle: float = setting(10.0, NOT_NEGATIVE, "weight in the generators' loss: an image there and back")
    mapping: float = setting(5.0, NOT_NEGATIVE, "likewise: an image that is of the kind to make already")
    pixel_triplet: float = setting(0.1, NOT_NEGATIVE, "likewise")
    pixel_identity: float = setting(0.1, NOT_NEGATIVE, "likewise")

    def __post_init__(self) -> None:
        check(self)


class View(NamedTuple):
    """A batch in [-1, 1], or a part of it: modality -> images, labels, and keys of the images; and the step before."""

    images: Mapping[str, jax.Array]
    labels: Mapping[str, jax.Array]
    keys: Mapping[str, jax.Array]
    step: jax.Array


class Encoded(NamedTuple):
    """Pooled features [n, D], their maps [n, h, w, D], and the encoder's new "batch_stats"."""

    features: jax.Array
    maps: jax.Array
    statistics: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentNetworks(learned.Learned):
    """Encoder, heads, generators and discriminators of a run, and terms of their losses.

    Attributes:
      alignment: settings of its own.
      identities: of a batch, on all devices.
    """

    features = ("before_neck",)
    alignment: Alignment
    identities: int

    @property
    def bottleneck_heads(self) -> BottleneckHeads:
        loss = self.identity
        return BottleneckHeads(self.num_identities, loss.classifier_hidden, loss.classifier_slope, parallel.AXIS)

    @property
    def generator(self) -> Generator:
        embedder, settings = self.embedder, self.alignment
        return Generator(
            settings.generator_width or embedder.width,
            settings.blocks,
            running=settings.running,
            remat=embedder.remat,
            dtype=jnp.dtype(embedder.dtype),
            kernels=embedder.kernels,
        )

    def discriminator(self, *, joint: bool = False) -> Any:
        embedder, settings = self.embedder, self.alignment
        kind = JointDiscriminator if joint else PatchDiscriminator
        width = settings.discriminator_width or embedder.width
        return kind(width, settings.layers, dtype=jnp.dtype(embedder.dtype))

    def init(self, key: jax.Array) -> State:
        embedder, *keys = jax.random.split(key, 8)
        images = jnp.zeros((1, *self.image_size, 3))
        encoder_images = {modality: self.resized(images) for modality in MODALITIES}
        variables = {"embedder": self.embedder.init(embedder, encoder_images, train=False)}
        variables |= {name: self.generator.init(keys.pop(), images) for name in GENERATORS.values()}
        encoded = jax.eval_shape(lambda: self.encoded(variables, images, train=False))
        names = ("discriminator_visible", "discriminator_visible_warmup", "discriminator_infrared_warmup")
        networks = {name: self.discriminator().init(keys.pop(), images) for name in names}
        maps = jnp.zeros(encoded.maps.shape)
        networks["discriminator_joint"] = self.discriminator(joint=True).init(keys.pop(), images, maps)
        networks["heads"] = self.bottleneck_heads.init(keys.pop(), jnp.zeros(encoded.features.shape))
        return initial(self.players, variables, networks)

    def parts(self, batch: Batch, step: jax.Array) -> tuple[View, View]:
        """The batch, and those of its identities whose images are translated back and forth.

        These are spread evenly, so that several devices choose what one does.

        Raises:
          UserError: the devices cannot share them equally.
        """
        normalized, _ = self.view(batch, step)
        whole = View(
            images={m: from_normalized(of) for m, of in normalized.items()},
            labels={m: batch[m]["label"] for m in MODALITIES},
            keys={m: augmentation.sample_keys(self.seed, step, batch[m]["slot"]) for m in MODALITIES},
            step=step,
        )
        devices = jax.lax.psum(1, parallel.AXIS)
        count = self.alignment.identities
        if count % devices:
            raise UserError(
                f"config.aligngan.identities is {count}, which {devices} devices cannot share equally; make it a "
                f"multiple of {devices}"
            )
        own, chosen = self.identities // devices, count // devices
        rows = jnp.array([number * own // chosen for number in range(chosen)])

        def of_chosen(of: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            grouped = {m: x.reshape(own, -1, *x.shape[1:])[rows] for m, x in of.items()}
            return {m: x.reshape(-1, *x.shape[2:]) for m, x in grouped.items()}

        return whole, View(of_chosen(whole.images), of_chosen(whole.labels), of_chosen(whole.keys), step)

    def encoded(self, variables: PyTree, images: jax.Array, *, train: bool) -> Encoded:
        """The encoder's features of infrared images in [-1, 1], real or made."""
        features, updated = self.embedder.apply(
            variables["embedder"],
            {INFRARED: self.resized(images)},
            train=train,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name == "backbone",
        )
        maps = updated["intermediates"]["backbone"]["__call__"][0]
        return Encoded(features["before_neck"][:, 0], maps, updated["batch_stats"])

    def made(self, networks: Networks, modality: str, images: jax.Array) -> tuple[jax.Array, PyTree]:
        """What the generator of a modality's images makes of them in training, and the network with new statistics."""
        name = GENERATORS[modality]
        made, updated = self.generator.apply(networks[name], images, train=True, mutable=["batch_stats"])
        # The mean of the devices' statistics is that of the batch.
        return made, {**networks, name: {**networks[name], **parallel.average(updated)}}

    def seen(self, variables: PyTree, images: jax.Array, modality: str) -> jax.Array:
        images = from_normalized(images)
        if modality == VISIBLE:
            made: Any = self.generator.apply(variables[GENERATORS[VISIBLE]], images)
            images = made
        return self.resized(images)

    def embed_normalized(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        features = super().embed_normalized(variables, images, modality)
        return {name: features[name] for name in self.features}

    def translate(self, variables: PyTree, images: jax.Array, modality: str) -> jax.Array:
        """What the generator of a modality makes of its images, uint8 [N, H, W, 3] both."""
        made: Any = self.generator.apply(variables[GENERATORS[modality]], images.astype(jnp.float32) / 127.5 - 1.0)
        return jnp.round((made + 1.0) * 127.5).astype(jnp.uint8)

    def resized(self, images: jax.Array) -> jax.Array:
        """Images in [-1, 1] as the encoder sees them: of its size, and normalized."""
        height, width = self.alignment.height or images.shape[1], self.alignment.width or images.shape[2]
        if (height, width) != images.shape[1:3]:
            shape = (images.shape[0], height, width, images.shape[3])
            images = jax.image.resize(images, shape, "bilinear", antialias=False)
        return augmentation.normalize((images + 1.0) * 127.5)

    def classified(
        self, networks: Networks, encoded: Encoded, view: View, modality: str, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """The identity loss of images and their embeddings; `number` sets the draws of dropout apart."""
        keys = augmentation.folded(view.keys[modality], number)
        left = 1.0 - self.alignment.dropout
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, left, encoded.features.shape[1:]))(keys) / left
        # The statistics of its normalization are of the batch always: the running ones serve nothing.
        made, _ = self.bottleneck_heads.apply(networks["heads"], encoded.features, kept, mutable=["batch_stats"])
        logits, embeddings = made
        labels, smoothing = view.labels[modality], self.identity.label_smoothing
        return cross_entropy(logits, labels, label_smoothing=smoothing), embeddings

    def one_way(self, anchors: jax.Array, labels: jax.Array, others: jax.Array, other_labels: jax.Array) -> jax.Array:
        others, other_labels = parallel.gather(others), parallel.gather(other_labels)
        return cosine_triplet(anchors, labels, others, other_labels, margin=self.alignment.margin)

    def triplet(self, embeddings: Any, view: View) -> jax.Array:
        """Both ways, of the embeddings of infrared images made and real."""
        made, real = ((of, view.labels[m]) for of, m in zip(embeddings, MODALITIES, strict=True))
        return self.one_way(*made, *real) + self.one_way(*real, *made)

    def joint(self, networks: Networks, images: jax.Array, maps: jax.Array) -> jax.Array:
        scores: Any = self.discriminator(joint=True).apply(networks["discriminator_joint"], images, maps)
        return scores

    def judged_images(self, networks: Networks, name: str, view: View, modality: str) -> tuple[jax.Array, jax.Array]:
        """The loss and the accuracy of a discriminator of a modality's images."""
        (other,) = (m for m in MODALITIES if m != modality)
        made, _ = self.made(networks, other, view.images[other])
        real = view.images[modality]
        real, of_made = jnp.split(self.score(networks, name, jnp.concatenate([real, made])), [len(real)])
        return (least_squares(real, 1.0) + least_squares(of_made, 0.0)) / 2, accuracy(real, of_made)

    def score(self, networks: Networks, name: str, images: jax.Array) -> jax.Array:
        scores: Any = self.discriminator().apply(networks[name], images)
        return scores

    def of_others(self, images: jax.Array) -> jax.Array:
        """For each image of this device one of the next identity in the batch of all."""
        everyone, count = parallel.gather(images), len(images)
        moved = jnp.roll(everyone, -(len(everyone) // self.alignment.identities), axis=0)
        return jax.lax.dynamic_slice_in_dim(moved, jax.lax.axis_index(parallel.AXIS) * count, count)


def from_normalized(images: jax.Array) -> jax.Array:
    """Normalized images in [-1, 1]."""
    return (images * augmentation.STD + augmentation.MEAN) / 127.5 - 1.0
