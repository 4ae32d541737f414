"""A network that is trained with weighted losses: every learned system is one, told apart by its settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jax_mspac.losses import distances
from jax_mspac.methods import augmentation, optimizers
from jax_mspac.methods.base import GRADIENT_NORM, Batch, Metrics, State
from jax_mspac.methods.terms import LOSSES, Examples, Loss, identity
from jax_mspac.modalities import MODALITIES, VISIBLE
from jax_mspac.models import pretrained
from jax_mspac.models.attention import CascadedPartAttention, check_partition
from jax_mspac.models.embedder import Embedder, flatten_parts
from jax_mspac.models.heads import Heads
from jax_mspac.runtime import parallel

PyTree = Any

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
ZERO_PADDING_RECIPE = {**SGD, "optimizer.learning_rate": 0.001, "optimizer.backbone_factor": 1.0}
ALEXNET_RECIPE = {
    **ZERO_PADDING_RECIPE,
    "optimizer.weight_decay": 0.0,
    "optimizer.schedule": "constant",
    "optimizer.warmup": 0.0,
}
AGW_RECIPE = {
    **SGD,
    "optimizer.learning_rate": 0.1,
    "optimizer.backbone_factor": 0.1,
    "optimizer.schedule": "step",
    "optimizer.warmup": 0.12,
    "optimizer.milestones": (0.25, 0.62),
}


@dataclasses.dataclass(frozen=True)
class Learned:
    """An embedder, its heads, losses and recipe. Implements `methods.base.Method`.

    Attributes:
      embedder: the network that is matched at test.
      num_identities: classes of the identity loss, and centers.
      image_size: (height, width) in pixels.
      augmentation: of the training images.
      channel_augmentation: whether each visible image is shown a second time, with one channel in all three (CAJ).
      identity_feature: "before_neck" or "after_neck", what the identity loss classifies.
      label_smoothing: of the identity loss.
      losses: name -> the losses that are used beside the identity loss.
      project_centers: whether the centers are made unit after each step, too.
      recipe: of the optimizer; groups are "backbone", "heads" (all other layers) and "centers".
      steps: length of the run, for the schedule.
      seed: of the augmentation.
    """

    embedder: Embedder
    num_identities: int
    image_size: tuple[int, int]
    augmentation: augmentation.Augmentation
    channel_augmentation: bool
    identity_feature: str
    label_smoothing: float
    losses: Mapping[str, Loss]
    project_centers: bool
    recipe: optimizers.Recipe
    steps: int
    seed: int
    learns = True
    on_host = False

    @property
    def heads(self) -> Heads:
        return Heads(num_classes=self.num_identities, centers="mecen" in self.losses)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optimizers.build(self.recipe, self.steps, _group)

    def init(self, key: jax.Array) -> State:
        embedder_key, heads_key = jax.random.split(key)
        images = {modality: jnp.zeros((1, *self.image_size, 3)) for modality in MODALITIES}
        variables = self.embedder.init(embedder_key, images, train=False)
        features = jax.eval_shape(lambda v: self.embedder.apply(v, images, train=False), variables)
        heads = self.heads.init(heads_key, jnp.zeros(features["after_neck"].shape))["params"]
        trainable = {"embedder": variables["params"], "heads": heads}
        return State(jnp.int32(0), variables, {"heads": heads, "optimizer": self.optimizer.init(trainable)})

    def load_pretrained(self, state: State, tensors: Mapping[str, np.ndarray], *, source: str) -> State:
        return state.replace(variables=pretrained.load_into(state.variables, tensors, source=source))

    def update(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        images, labels = self._examples(batch, state.step)

        def loss(trainable: PyTree) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
            variables = {"params": trainable["embedder"], "batch_stats": state.variables["batch_stats"]}
            features, updated = self.embedder.apply(variables, images, train=True, mutable=["batch_stats"])
            outputs = self.heads.apply({"params": trainable["heads"]}, features[self.identity_feature])
            examples = Examples(features, outputs, labels, len(images[VISIBLE]))
            terms = {"identity": identity(examples, label_smoothing=self.label_smoothing)}
            terms |= {name: loss(examples) for name, loss in self.losses.items()}
            total = terms["identity"] + sum(loss.weight * terms[name] for name, loss in self.losses.items())
            metrics = {"loss": total, **terms}
            return total, (updated["batch_stats"], metrics)

        gradients, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(trainable_of(state))
        gradients, metrics = parallel.average((gradients, metrics))
        metrics[GRADIENT_NORM] = optax.tree.norm(gradients)
        metrics["learning_rate"] = optimizers.learning_rate(self.recipe, self.steps)(state.step)
        return self.descend(state, gradients, batch_stats), metrics

    def descend(self, state: State, gradients: PyTree, batch_stats: PyTree) -> State:
        """The state after the optimizer's step.

        Args:
          state: before it.
          gradients: of the tree that `trainable_of` returns.
          batch_stats: the new ones.
        """
        trainable = trainable_of(state)
        updates, optimizer_state = self.optimizer.update(gradients, state.training["optimizer"], trainable)
        trainable = optax.apply_updates(trainable, updates)
        if self.project_centers:
            trainable["heads"]["centers"] = distances.unit(trainable["heads"]["centers"])
        return State(
            step=state.step + 1,
            variables={"params": trainable["embedder"], "batch_stats": batch_stats},
            training={"heads": trainable["heads"], "optimizer": optimizer_state},
        )

    def _examples(self, batch: Batch, step: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """Augmented images by modality, and the labels of the visible, then of the infrared ones."""

        def augmented(modality: str, keys: jax.Array, how: augmentation.Augmentation) -> jax.Array:
            return augmentation.augment(batch[modality]["image"], keys, modality=modality, augmentation=how)

        keys = {m: augmentation.sample_keys(self.seed, step, batch[m]["slot"]) for m in MODALITIES}
        images = {m: augmented(m, keys[m], self.augmentation) for m in MODALITIES}
        labels = {m: batch[m]["label"] for m in MODALITIES}
        if self.channel_augmentation:
            second = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys[VISIBLE], len(MODALITIES))
            exchanged = augmented(VISIBLE, second, dataclasses.replace(self.augmentation, channel_exchange=1.0))
            images[VISIBLE] = jnp.concatenate([images[VISIBLE], exchanged])
            labels[VISIBLE] = jnp.tile(labels[VISIBLE], 2)
        return images, jnp.concatenate([labels[m] for m in MODALITIES])

    def embed(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        features = self.embedder.apply(variables, {modality: augmentation.normalize(images)}, train=False)
        return jax.tree.map(flatten_parts, features)

    def attention(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, Any]:
        """What the network attends to in uint8 images [N, H, W, 3] of one modality, for reports.

        Returns:
          "activation": float32 [N, h, w], the channel mean of the squared final feature map. And for each level k of
          the cascade, from 0, "level{k}": {"channel_gate": float32 [N, parts, C], "spatial_gate": float32 [N, h, w]}.
        """
        _, captured = self.embedder.apply(
            variables,
            {modality: augmentation.normalize(images)},
            train=False,
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, CascadedPartAttention),
        )
        sown = captured["intermediates"]["attention"]
        attention: dict[str, Any] = {"activation": jnp.square(sown["__call__"][0].astype(jnp.float32)).mean(axis=-1)}
        for level, parts in enumerate(self.embedder.parts):
            gates = [sown[f"level{level}_part{i}"] for i in range(parts)]
            attention[f"level{level}"] = {
                "channel_gate": jnp.stack([part["channel_gate"][0] for part in gates], axis=1),
                "spatial_gate": jnp.concatenate([part["spatial_gate"][0] for part in gates], axis=1),
            }
        return attention


def trainable_of(state: State) -> PyTree:
    """The parameters of the embedder and of the heads: {"embedder": ..., "heads": ...}."""
    return {"embedder": state.variables["params"], "heads": state.training["heads"]}


def build(config: ConfigDict, *, num_identities: int) -> Learned:
    """The network and the losses of a validated config.

    Raises:
      UserError: the parts do not divide the feature map.
    """
    model, loss, recipe = config.model, config.loss, config.optimizer
    augment = config.augment.to_dict()
    channel_augmentation = augment.pop("channel_augmentation")
    losses = {name: kind(**loss[name]) for name, kind in LOSSES.items() if loss[name].weight > 0}
    stripes = model.stripes if loss.identity == "part" else 0
    check_partition(config.data.height, stride=16 * model.last_stride, parts=(*model.parts, stripes or 1))
    return Learned(
        embedder=Embedder(
            backbone=model.backbone,
            width=model.width,
            last_stride=model.last_stride,
            shared_from=model.shared_from,
            nonlocal_blocks=model.nonlocal_blocks,
            input_form=model.input_form,
            parts=tuple(model.parts),
            attention_form=model.attention_form,
            attention_kernel=model.attention_kernel,
            pooling=model.pooling,
            embedding_dim=model.embedding_dim or None,
            stripes=stripes,
            dtype=jnp.dtype(model.dtype),
            axis_name=parallel.AXIS,
        ),
        num_identities=num_identities,
        image_size=(config.data.height, config.data.width),
        augmentation=augmentation.Augmentation(**augment),
        channel_augmentation=channel_augmentation,
        identity_feature=loss.identity_feature,
        label_smoothing=loss.label_smoothing,
        losses=losses,
        project_centers="mecen" in losses and losses["mecen"].centers == "project",
        recipe=optimizers.Recipe(
            name=recipe.name,
            learning_rate=recipe.learning_rate,
            factors=(("backbone", recipe.backbone_factor), ("centers", recipe.centers_factor)),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            decay_norms_and_biases=recipe.decay_norms_and_biases,
            clip_norm=recipe.clip_norm,
            schedule=recipe.schedule,
            warmup=recipe.warmup,
            milestones=tuple(recipe.milestones),
        ),
        steps=config.train.steps,
        seed=config.seed,
    )


def _group(path: str) -> str:
    if path.startswith("embedder/backbone/"):
        return "backbone"
    return "centers" if path == "heads/centers" else "heads"
