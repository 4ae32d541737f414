"""PMT (Lu et al., AAAI 2023): a vision transformer that learns from gray images first, and from visible ones then.

The network and the settings are those of the public code (github.com/hulu88/PMT) for SYSU-MM01: a shared ViT-B/16 with
overlapping patches, whose class token is the feature. With the identity losses of both modalities go

- in the first stage, where visible images are gray, a triplet loss inside each modality: `loss.intra_modality`;
- in the second all others: a triplet loss of both modalities together, `loss.batch_hard`, and the paper's own
  `loss.modality_shared` and `loss.discriminative_center`.

A loss that is not used in a stage reads 0 there.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.methods import learned, optimizers
from jax_mspac.methods.base import Batch, System, Update
from jax_mspac.methods.players import Networks, Outcome, play
from jax_mspac.modalities import LUMA, VISIBLE
from jax_mspac.models import layouts
from jax_mspac.models.layouts import LINEAR, Row
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector, check, setting, within

# Losses of the first stage alone.
_FIRST = ("intra_modality",)
# Of 256x128 pixels at a stride of 12, the only size that the public code has been published for.
_POSITIONS = 1 + 21 * 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stages:
    """Progressive learning; a section of the config."""

    gray: float = setting(0.25, within(0, 1), "fraction of train.steps that is the first stage, of gray images")

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pmt(learned.Learned):
    """One player, whose losses and visible images depend on the step."""

    stages: Stages

    def is_gray(self, step: jax.Array) -> jax.Array:
        """Whether a step, int [], is one of the first stage."""
        return step < round(self.stages.gray * self.steps)

    def view(self, batch: Batch, step: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """As of `Learned`, of visible images that are gray in the first stage."""
        images = batch[VISIBLE]["image"].astype(jnp.float32)
        gray = sum(images[..., i : i + 1] * weight for i, weight in enumerate(LUMA))
        images = jnp.where(self.is_gray(step), gray, images)
        return super().view({**batch, VISIBLE: {**batch[VISIBLE], "image": images}}, step)

    def update(self, state: learned.State, batch: Batch) -> Update:
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        view = (*self.view(batch, state.step), self.is_gray(state.step))
        update = play(self.players, state, view, key)
        rate = optimizers.learning_rate(self.recipe, self.steps)(state.step)
        return update._replace(metrics={**update.metrics, "learning_rate": rate})

    def loss(self, networks: Networks, view: Any, key: jax.Array) -> tuple[jax.Array, Outcome]:
        *seen, gray = view
        examples, statistics = self.examples(networks, seen, key)
        _, terms = self.weighted(examples, networks["heads"]["params"])
        terms |= {name: jnp.where(gray == (name in _FIRST), terms[name], 0.0) for name in self.losses}
        total = self.identity.identity_weight * terms["identity"]
        total += sum(loss.weight * terms[name] for name, loss in self.losses.items())
        return total, Outcome(statistics, {"loss": total, **terms})


def build(config: ConfigDict, *, num_identities: int) -> Pmt:
    """The network, its losses and their stages, of a config.

    Raises:
      SettingsError: see `learned.build`.
    """
    made = Collector()
    stages = made.of(Stages, "pmt", config.pmt)
    made.raise_problems()
    return learned.build(config, num_identities=num_identities, kind=Pmt, stages=stages)


def _settings(tensors: layouts.Tensors) -> dict[str, Any]:
    positions, channels = tensors["base.pos_embed"].shape[1:]
    size = {"data.height": 256, "data.width": 128} if positions == _POSITIONS else {}
    return {"model.backbone": "vit_b16", "model.width": channels // 12, **size}


def _more(tensors: layouts.Tensors) -> dict[str, np.ndarray]:
    """The frozen bias of the neck."""
    return {"bottleneck.bias": np.zeros_like(tensors["bottleneck.weight"])}


LAYOUT = layouts.Layout(
    streams={"shared": "base."},
    rows=(
        *layouts.norm("embedder/neck", "bottleneck"),
        Row("heads/classifier", "classifier.weight", LINEAR),
    ),
    first=("classifier.weight", "bottleneck.weight", "base.pos_embed"),
    settings=_settings,
    zeros=r"bottleneck\.bias",
    more=_more,
)
SYSTEM = System(
    title="PMT",
    build=build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.backbone": "vit_b16",
        "model.patch_stride": 12,
        "model.tokens": "class",
        "model.drop_path": 0.1,
        "model.dropout": 0.03,
        "model.norm_epsilon": 1e-5,
        "model.shared_from": 0,
        # The sum of the two modalities' means.
        "loss.identity_weight": 2.0,
        "loss.intra_modality.weight": 1.0,
        "loss.intra_modality.margin": 0.1,
        "loss.batch_hard.weight": 1.0,
        "loss.batch_hard.margin": 0.1,
        "loss.modality_shared.weight": 0.5,
        "loss.discriminative_center.weight": 0.5,
    },
    sections={"pmt": Stages},
    layout=LAYOUT,
    images=(4, 4),
    recipe={
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 3e-4,
        "optimizer.backbone_factor": 0.5,
        "optimizer.weight_decay": 1e-4,
        "optimizer.decay_norms_and_biases": True,
        "optimizer.clip_norm": 0.0,
        "optimizer.schedule": "cosine_from_start",
        "optimizer.warmup": 0.125,  # 3 of 24 epochs
        "optimizer.warmup_start": 0.01,
        "optimizer.final_rate": 0.01,
        "augment.pad": 0,
        "augment.channel_exchange": 0.0,
        "augment.random_gray": 0.0,
        "augment.erasing": 0.5,
        "augment.infrared_distortion": 1.0,
        "batch.identities": 8,
    },
)
