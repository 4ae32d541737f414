"""A network that is trained with weighted losses: every learned system is one, told apart by its settings."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.losses import LOSSES, Examples, Identity, Loss, distances
from jax_mspac.losses.base import FEATURES
from jax_mspac.methods import augmentation, optimizers
from jax_mspac.methods.base import Batch, Metrics, State, Update
from jax_mspac.methods.players import Networks, Outcome, Player, initial, play
from jax_mspac.modalities import MODALITIES, VISIBLE
from jax_mspac.models import pooling, pretrained
from jax_mspac.models.attention import CascadedPartAttention
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder, flatten_parts
from jax_mspac.models.heads import Heads
from jax_mspac.runtime import parallel
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector, Problem, at_least, check, setting

PyTree = Any
# Of features by name.
Shapes = Mapping[str, jax.ShapeDtypeStruct]

# Settings that most systems share: the plain network and the identity loss alone.
IDENTITY_ALONE = {
    "model.parts": (),
    "loss.identity": "global",
    **{f"loss.{name}.weight": 0.0 for name in LOSSES},
}
# Recipes. Our SGD is Nesterov's; that of the systems on AlexNet is not.
SGD = {
    "optimizer.name": "sgd",
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "optimizer.clip_norm": 0.0,
    "augment.channel_exchange": 0.0,
    "augment.random_gray": 0.0,
    "augment.erasing": 0.0,
}
# The published codes of AGW and its relatives let everything decay, and pad with black.
OF_AGW_S_FAMILY = {**SGD, "optimizer.decay_norms_and_biases": True, "augment.border": "black"}
ZERO_PADDING_RECIPE = {**SGD, "optimizer.learning_rate": 0.001, "optimizer.backbone_factor": 1.0}
ALEXNET_RECIPE = {
    **ZERO_PADDING_RECIPE,
    "optimizer.weight_decay": 0.0,
    "optimizer.schedule": "constant",
    "optimizer.warmup": 0.0,
}
AGW_RECIPE = {
    **OF_AGW_S_FAMILY,
    "optimizer.learning_rate": 0.1,
    "optimizer.backbone_factor": 0.1,
    "optimizer.schedule": "step",
    "optimizer.warmup": 0.12,
    "optimizer.milestones": (0.25, 0.62),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What the embedder's own settings leave open."""

    stripes: int = setting(6, at_least(1), "of the embedding where loss.identity is 'part' or 'both'")
    unit_parts: bool = setting(False, None, "match stripes or embeddings that are each of unit length")
    pretrained: str = setting("none", None, "none, a .safetensors/.npz/.pth file, hf://OWNER/NAME, or a workdir")

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """An embedder, its heads, losses and recipe: one player. Implements `methods.base.Trained`.

    Its networks are "embedder", which is matched at test, and "heads".

    Attributes:
      embedder: the network that is matched at test.
      num_identities: classes of the identity loss, and centers.
      image_size: (height, width) in pixels.
      augmentation: of the training images.
      identity: the identity loss.
      losses: name -> the losses that are used beside the identity loss.
      recipe: of the optimizer; groups are "backbone", "heads" (all other layers), "centers" and "exponent".
      steps: length of the run, for the schedule.
      seed: of the augmentation and of whatever else is random in a step.
      unit_parts: whether each part of an embedding gets unit length before the parts are joined.
      group_devices: neighboring devices that share a batch; the steps of such groups are averaged. 0: all devices.
    """

    embedder: Embedder
    num_identities: int
    image_size: tuple[int, int]
    augmentation: augmentation.Augmentation
    identity: Identity
    losses: Mapping[str, Loss]
    recipe: optimizers.Recipe
    steps: int
    seed: int
    unit_parts: bool = False
    group_devices: int = 0
    features: ClassVar[tuple[str, ...]] = FEATURES

    @property
    def heads(self) -> Heads:
        return Heads(
            num_classes=self.num_identities,
            use_bias=self.identity.classifier_bias,
            shared=self.embedder.diverse_embeddings,
            slope=self.identity.classifier_slope,
            hidden=self.identity.classifier_hidden,
            start=self.identity.classifier_start,
            owned={name: loss.init for name, loss in self.losses.items() if type(loss).init is not Loss.init},
        )

    def gather(self, x: jax.Array) -> jax.Array:
        """[n, ...] of this device -> [N, ...] of the devices that share its batch."""
        return parallel.gather(x, self.group_devices)

    @property
    def players(self) -> dict[str, Player]:
        player = Player(
            networks=("embedder", "heads"),
            loss=self.loss,
            optimizer=optimizers.build(self.recipe, self.steps, self.group),
            constrain=self.constrain,
        )
        return {"embedder": player}

    def init(self, key: jax.Array) -> State:
        embedder_key, heads_key = jax.random.split(key)
        images = {modality: jnp.zeros((1, *self.image_size, 3)) for modality in MODALITIES}
        variables, features = self.variables(embedder_key, images)
        return initial(self.players, variables, self.networks(heads_key, features))

    def variables(self, key: jax.Array, images: Mapping[str, jax.Array]) -> tuple[dict[str, PyTree], Shapes]:
        """The networks that embedding needs, network -> variables, and the shapes of what `embedded` makes of images.

        The images are normalized ones of both modalities.
        """
        features, embedder = self.embedder.init_with_output(key, images, train=False)
        return {"embedder": embedder}, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), features)

    def networks(self, key: jax.Array, features: Shapes) -> dict[str, PyTree]:
        """What training needs beside them: network -> variables; `features` are the shapes of `embedded`."""
        return {"heads": self.heads.init(key, jnp.zeros(features["after_neck"].shape))}

    def load_pretrained(self, state: State, tensors: Mapping[str, np.ndarray], *, source: str) -> State:
        names = BACKBONES[self.embedder.backbone].torch_names
        embedder = pretrained.load_into(state.variables["embedder"], tensors, names, source=source)
        return state.replace(variables={**state.variables, "embedder": embedder})

    def update(self, state: State, batch: Batch) -> Update:
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        update = play(self.players, state, self.shown(state, batch), key)
        rate = optimizers.learning_rate(self.recipe, self.steps)(state.step)
        return update._replace(metrics={**update.metrics, "learning_rate": rate})

    def shown(self, state: State, batch: Batch) -> Any:
        """What the players see of a batch: the `view`, if nothing else."""
        return self.view(batch, state.step)

    def loss(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        """The weighted sum of the losses on a view: see `players.Player`."""
        examples, statistics = self.examples(networks, view, key)
        total, terms = self.weighted(examples, networks["heads"]["params"])
        return total, Outcome(statistics, {"loss": total, **terms})

    def examples(self, networks: Networks, view: Any, key: jax.Array) -> tuple[Examples, dict[str, PyTree]]:
        """What the losses see of a view, and the new statistics of the embedder by the name of the network."""
        images, labels = view
        features, statistics = self.embedded(networks["embedder"], images, train=True, rngs={"dropout": key})
        if parallel.neighbors(parallel.AXIS, self.group_devices):
            # Each group has statistics of its own, and the state is one.
            statistics = parallel.average(statistics)
        # By its types `apply` might give a pair, as it does with `mutable`.
        logits: Any = self.heads.apply(networks["heads"], features[self.identity.identity_feature])
        examples = Examples(
            features=features,
            logits=logits,
            labels=labels,
            num_visible=len(images.get(VISIBLE, ())),
            gather=self.gather,
            global_part=self.embedder.global_part,
        )
        return examples, {"embedder": statistics}

    def embedded(
        self, variables: PyTree, images: Mapping[str, jax.Array], *, train: bool, **options: Any
    ) -> tuple[dict[str, jax.Array], PyTree]:
        """Features of normalized images by modality, [N, P, D] each, and the new "batch_stats"."""
        features, updated = self.embedder.apply(variables, images, train=train, mutable=["batch_stats"], **options)
        return features, updated["batch_stats"]

    def weighted(self, examples: Examples, heads: PyTree) -> tuple[jax.Array, Metrics]:
        """The weighted sum of the losses, and each without its weight; `heads` are parameters."""
        terms = {"identity": self.identity(examples)}
        terms |= {name: loss(examples, heads.get(name, {})) for name, loss in self.losses.items()}
        total = self.identity.identity_weight * terms["identity"]
        total += sum(loss.weight * terms[name] for name, loss in self.losses.items())
        return total, terms

    def group(self, path: str) -> str:
        """The group of the recipe that a parameter belongs to."""
        if backbone := re.fullmatch(r"embedder/backbone/\w+/(.*)", path):
            new = BACKBONES[self.embedder.backbone].new_layers
            return "heads" if re.fullmatch(new, backbone[1]) else "backbone"
        if path.startswith("embedder/pooling/"):
            return "exponent"
        return "centers" if path.startswith("heads/") and not path.startswith("heads/classifier") else "heads"

    def constrain(self, params: PyTree) -> PyTree:
        """The parameters after an optimizer's step, where those of GeM or of a loss have to keep to something."""
        heads = params["heads"]
        kept = {name: loss.constrain(heads[name]) for name, loss in self.losses.items() if name in heads}
        return {**params, "embedder": pooling.constrained(params["embedder"]), "heads": {**heads, **kept}}

    def view(self, batch: Batch, step: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """Augmented images by modality, and the labels of the visible, then of the infrared ones.

        A modality without images is left out: layers of its own would normalize by the statistics of nothing.
        """
        present = [modality for modality in MODALITIES if batch[modality]["slot"].size]
        keys = {m: augmentation.sample_keys(self.seed, step, batch[m]["slot"]) for m in present}
        given, labels = ({m: batch[m][name] for m in present} for name in ("image", "label"))
        if self.augmentation.amplitude_exchange:
            given = augmentation.exchange_amplitudes(given, labels, keys, self.augmentation, gather=self.gather)

        def augmented(modality: str, keys: jax.Array, how: augmentation.Augmentation) -> jax.Array:
            return augmentation.augment(given[modality], keys, modality=modality, augmentation=how)

        images = {m: augmented(m, keys[m], self.augmentation) for m in present}
        if VISIBLE in images and self.augmentation.channel_augmentation:
            second = augmentation.folded(keys[VISIBLE], len(MODALITIES))
            exchanged = augmented(VISIBLE, second, dataclasses.replace(self.augmentation, channel_exchange=1.0))
            images[VISIBLE] = jnp.concatenate([images[VISIBLE], exchanged])
            labels[VISIBLE] = jnp.tile(labels[VISIBLE], 2)
        return images, jnp.concatenate([labels[m] for m in present])

    def settle(self, variables: PyTree, batch: Batch) -> PyTree:
        images, _ = self.view(batch, jnp.int32(0))
        images = {modality: self.seen(variables, of, modality) for modality, of in images.items()}
        _, updated = self.embedder.apply(variables["embedder"], images, train=True, mutable=["batch_stats"])
        return {**variables, "embedder": {**variables["embedder"], **updated}}

    def embed(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        return self.embed_normalized(variables, augmentation.normalize(images), modality)

    def embed_normalized(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        """As `embed`, of float32 images that are normalized already."""
        images = self.seen(variables, images, modality)
        features = self.embedder.apply(variables["embedder"], {modality: images}, train=False)
        if self.unit_parts:
            features = jax.tree.map(distances.unit, features)
        return jax.tree.map(flatten_parts, features)

    def seen(self, variables: PyTree, images: jax.Array, modality: str) -> jax.Array:
        """What the embedder is given of normalized images float32 [N, H, W, 3] of one modality, at test: these."""
        return images

    def attention(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, Any]:
        """What the network attends to in uint8 images [N, H, W, 3] of one modality, for reports.

        Returns:
          "activation": float32 [N, h, w], the channel mean of the squared final feature map. And for each level k of
          the cascade, from 0, "level{k}": {"channel_gate": float32 [N, parts, C], "spatial_gate": float32 [N, h, w]}.
        """
        _, captured = self.embedder.apply(
            variables["embedder"],
            {modality: self.seen(variables, augmentation.normalize(images), modality)},
            train=False,
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, CascadedPartAttention),
        )
        sown = captured["intermediates"]["attention"]
        activation = jnp.square(sown["__call__"][0].astype(jnp.float32)).mean(axis=-1)
        # Of several maps of an image it is the mean.
        activation = activation.reshape(len(images), -1, *activation.shape[1:]).mean(axis=1)
        attention: dict[str, Any] = {"activation": activation}
        for level, parts in enumerate(self.embedder.parts):
            gates = [sown[f"level{level}_part{i}"] for i in range(parts)]
            attention[f"level{level}"] = {
                "channel_gate": jnp.stack([part["channel_gate"][0] for part in gates], axis=1),
                "spatial_gate": jnp.concatenate([part["spatial_gate"][0] for part in gates], axis=1),
            }
        return attention


def build(config: ConfigDict, *, num_identities: int, kind: type[Any] = Learned, **more: Any) -> Any:
    """The network and the losses of a config, as a `kind` of `Learned` whose further fields are `more`.

    Raises:
      SettingsError: lists the settings, under their names in the config, that are out of their ranges or do not fit
        together.
    """
    made = Collector()
    identity = made.of(Identity, "loss", config.loss)
    losses = {name: made.of(kind, f"loss.{name}", config.loss[name]) for name, kind in LOSSES.items()}
    used = {name: loss for name, loss in losses.items() if loss is not None and loss.weight > 0}
    augment = made.of(augmentation.Augmentation, "augment", config.augment)
    if min(config.batch.visible, config.batch.infrared) == 0:
        alone = "0, because one modality alone is learned with the identity loss"
        made.problems += [Problem(f"loss.{name}.weight", loss.weight, alone) for name, loss in used.items()]
        if augment is not None and augment.amplitude_exchange:
            other = "0, because there are no images of another modality in a batch"
            made.problems.append(Problem("augment.amplitude_exchange", augment.amplitude_exchange, other))
    recipe = made.of(optimizers.Recipe, "optimizer", config.optimizer)
    embedder = made.of(
        Embedder,
        "model",
        config.model,
        stripes=0 if config.loss.identity == "global" else config.model.stripes,
        global_part=config.loss.identity == "both",
        axis_name=parallel.AXIS,
        norm_devices=config.batch.group_devices,
    )
    if embedder is not None:
        made.problems += [p._replace(field=f"model.{p.field}") for p in embedder.misfits(config.data.height)]
    for name, loss in used.items():
        section, _, field = loss.needs.partition(".")
        if field and not config[section][field]:
            nothing = f"0, because without {loss.needs} there is nothing that it sees"
            made.problems.append(Problem(f"loss.{name}.weight", loss.weight, nothing))
    made.raise_problems()
    return kind(
        embedder=embedder,
        num_identities=num_identities,
        image_size=(config.data.height, config.data.width),
        augmentation=augment,
        identity=identity,
        losses=used,
        recipe=recipe,
        steps=config.train.steps,
        seed=config.seed,
        unit_parts=config.model.unit_parts,
        group_devices=config.batch.group_devices,
        **more,
    )
