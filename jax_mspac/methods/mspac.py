"""MSPAC-MeCen: cascaded part attention, identity loss and the marginal exponential centre loss."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jax_mspac import augmentation, optimizers, parallel, pretrained
from jax_mspac.losses import distances
from jax_mspac.losses.hetero_center import hetero_center
from jax_mspac.losses.identity import cross_entropy
from jax_mspac.losses.mecen import mecen
from jax_mspac.losses.triplet import batch_hard, weighted_regularized
from jax_mspac.methods.base import Batch, Metrics, State
from jax_mspac.modalities import MODALITIES, VISIBLE
from jax_mspac.models.attention import CascadedPartAttention, check_partition
from jax_mspac.models.embedder import Embedder, flatten_parts
from jax_mspac.models.heads import Heads

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Mecen:
    """The centre loss: see `losses.mecen`.

    Attributes:
      weight: of the loss; 0 for none.
      feature: "before_neck" or "after_neck".
      margin, use_margin, use_exp, reduction: see `losses.mecen.mecen`.
      centers: how they are kept unit, which is a reading of ours. "normalize": where they are used; their own length
        grows, and they slow down with it. "project": after each step as well.
    """

    weight: float = 1.0
    feature: str = "after_neck"
    margin: float = 0.3
    use_margin: bool = True
    use_exp: bool = True
    reduction: str = "per_sample"
    centers: str = "normalize"


@dataclasses.dataclass(frozen=True)
class HeteroCenter:
    """The hetero-centre loss on the feature after the neck, a rival of MeCen: see `losses.hetero_center`.

    Attributes:
      weight: of the loss; 0 for none.
      margin: squared distance between the centres of the two modalities that is free.
    """

    weight: float = 0.0
    margin: float = 0.1


@dataclasses.dataclass(frozen=True)
class Triplet:
    """The triplet loss on the feature before the neck.

    Attributes:
      kind: "none", "batch_hard" or "weighted_regularized".
      weight: of the loss.
      margin: of "batch_hard".
    """

    kind: str = "none"
    weight: float = 1.0
    margin: float = 0.3


@dataclasses.dataclass(frozen=True)
class MSPAC:
    """The method of the slides, with its readings and rivals as switches. Implements `methods.base.Method`.

    Attributes:
      embedder: the network that is matched at test.
      num_identities: classes of the identity loss, and centres.
      image_size: (height, width) in pixels.
      augmentation: of the training images.
      identity_feature: "before_neck" or "after_neck", what the identity loss classifies.
      label_smoothing: of the identity loss.
      mecen: the centre loss.
      hetero_center: the hetero-centre loss.
      triplet: the triplet loss.
      recipe: of the optimizer; groups are "backbone", "heads" (all other layers) and "centers".
      steps: length of the run, for the schedule.
      seed: of the augmentation.
    """

    embedder: Embedder
    num_identities: int
    image_size: tuple[int, int]
    augmentation: augmentation.Augmentation
    identity_feature: str
    label_smoothing: float
    mecen: Mecen
    hetero_center: HeteroCenter
    triplet: Triplet
    recipe: optimizers.Recipe
    steps: int
    seed: int

    @property
    def heads(self) -> Heads:
        return Heads(num_classes=self.num_identities, centers=self.mecen.weight > 0)

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
        images = {
            modality: augmentation.augment(
                samples["image"],
                augmentation.sample_keys(self.seed, state.step, samples["slot"]),
                modality=modality,
                augmentation=self.augmentation,
            )
            for modality, samples in batch.items()
        }
        labels = jnp.concatenate([batch[modality]["label"] for modality in MODALITIES])
        trainable = {"embedder": state.variables["params"], "heads": state.training["heads"]}

        def loss(trainable: PyTree) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
            variables = {"params": trainable["embedder"], "batch_stats": state.variables["batch_stats"]}
            features, updated = self.embedder.apply(variables, images, train=True, mutable=["batch_stats"])
            outputs = self.heads.apply({"params": trainable["heads"]}, features[self.identity_feature])
            terms = self._losses(features, outputs, labels, len(batch[VISIBLE]["label"]))
            total = sum(weight * term for weight, term in terms.values())
            metrics = {"loss": total, **{name: term for name, (_, term) in terms.items()}}
            return total, (updated["batch_stats"], metrics)

        gradients, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(trainable)
        gradients, metrics = parallel.average((gradients, metrics))
        updates, optimizer_state = self.optimizer.update(gradients, state.training["optimizer"], trainable)
        trainable = optax.apply_updates(trainable, updates)
        if self.mecen.weight > 0 and self.mecen.centers == "project":
            trainable["heads"]["centers"] = distances.unit(trainable["heads"]["centers"])
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        metrics["learning_rate"] = optimizers.learning_rate(self.recipe, self.steps)(state.step)
        state = State(
            step=state.step + 1,
            variables={"params": trainable["embedder"], "batch_stats": batch_stats},
            training={"heads": trainable["heads"], "optimizer": optimizer_state},
        )
        return state, metrics

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

    def _losses(
        self, features: dict[str, jax.Array], outputs: dict[str, jax.Array], labels: jax.Array, num_visible: int
    ) -> dict[str, tuple[float, jax.Array]]:
        """Name -> (weight, loss of this device's share); the mean over devices is the loss of the batch.

        The first `num_visible` of the examples are visible, the others infrared.
        """
        logits = outputs["logits"]
        parts = logits.shape[1]
        identity = cross_entropy(
            logits.reshape(-1, logits.shape[-1]), jnp.repeat(labels, parts), label_smoothing=self.label_smoothing
        )
        terms = {"identity": (1.0, identity)}
        if self.mecen.weight > 0:
            # The reductions "sum" and "mean" are not means over devices of what each one has: all see the whole batch.
            term = mecen(
                parallel.gather(flatten_parts(features[self.mecen.feature])),
                outputs["centers"],
                parallel.gather(labels),
                margin=self.mecen.margin,
                use_margin=self.mecen.use_margin,
                use_exp=self.mecen.use_exp,
                reduction=self.mecen.reduction,
            )
            terms["mecen"] = (self.mecen.weight, term)
        if self.hetero_center.weight > 0:
            examples, n = flatten_parts(features["after_neck"]), num_visible
            sides = (examples[:n], labels[:n], examples[n:], labels[n:])
            term = hetero_center(*map(parallel.gather, sides), margin=self.hetero_center.margin)
            terms["hetero_center"] = (self.hetero_center.weight, term)
        if self.triplet.kind != "none":
            anchors = flatten_parts(features["before_neck"])
            pairs = (anchors, labels, parallel.gather(anchors), parallel.gather(labels))
            if self.triplet.kind == "batch_hard":
                term = batch_hard(*pairs, margin=self.triplet.margin)
            else:
                term = weighted_regularized(*pairs)
            terms["triplet"] = (self.triplet.weight, term)
        return terms


def build(config: ConfigDict, *, num_identities: int) -> MSPAC:
    """The method of a validated config.

    Raises:
      UserError: the parts do not divide the feature map.
    """
    model, loss, recipe = config.model, config.loss, config.optimizer
    stripes = model.stripes if loss.identity == "part" else 0
    check_partition(config.data.height, stride=16 * model.last_stride, parts=(*model.parts, stripes or 1))
    return MSPAC(
        embedder=Embedder(
            backbone=model.backbone,
            width=model.width,
            last_stride=model.last_stride,
            shared_from=model.shared_from,
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
        augmentation=augmentation.Augmentation(**config.augment),
        identity_feature=loss.identity_feature,
        label_smoothing=loss.label_smoothing,
        mecen=Mecen(**loss.mecen),
        hetero_center=HeteroCenter(**loss.hetero_center),
        triplet=Triplet(**loss.triplet),
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
