"""What a method is: a state it owns, an update and an embedding, all pure; and what sets one system apart."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np

from jax_mspac.models.layouts import Layout

PyTree = Any
# Of JAX in a compiled program, and of numpy outside.
Array = Any
Batch = dict[str, dict[str, Array]]
Metrics = dict[str, jax.Array]


# What a step reads of a batch, for each modality.
READS = ("image", "label", "slot")


class State(flax.struct.PyTreeNode):
    """Everything that changes while training.

    Attributes:
      step: int32 scalar, the number of updates done.
      variables: network -> what embedding needs of it, such as {"params": ..., "batch_stats": ...}. Evaluation restores
        this alone.
      training: what only training needs: "networks" (network -> its variables), "optimizers" (player -> its state), and
        whatever else a method keeps there.
    """

    step: jax.Array
    variables: PyTree
    training: PyTree


class Update(NamedTuple):
    """What a step gives: the new state, scalar metrics, and the global norm of each player's gradients.

    All are equal on all devices. Where norms are given, the state is finite if they, the metrics and the statistics of
    the networks are; without norms all of it is looked at. `resting` says of a metric whether it was not measured in
    this step; those that it does not name were.
    """

    state: State
    metrics: Metrics
    gradient_norms: Mapping[str, jax.Array] = {}
    resting: Mapping[str, jax.Array] = {}


class Game(NamedTuple):
    """A game that players of a method play, by names of its metrics, for reports.

    Attributes:
      title: what is fought about.
      losses: side -> the loss that it minimizes in the game.
      accuracies: how often discriminators are right; 1/2 where they know nothing.
    """

    title: str
    losses: Mapping[str, str]
    accuracies: tuple[str, ...]


class Method(Protocol):
    """A system that embeds persons: `Trained`, `Fitted` or both.

    One that translates images between the modalities may have `translate(variables, images, modality)`, from uint8
    [N, H, W, 3] of a modality to such of the other; one that attends `attention(variables, images, modality)`, see
    `learned.Learned`; and one whose players play against each other `games`, a tuple of `Game`. Reports show them.

    Attributes:
      features: names of the features that `embed` gives.
    """

    @property
    def features(self) -> tuple[str, ...]: ...

    def init(self, key: jax.Array) -> State:
        """The state of step 0."""

    def embed(self, variables: PyTree, images: Array, modality: str) -> dict[str, Array]:
        """Features of uint8 images [N, H, W, 3] of one modality: feature name -> float32 [N, D].

        Of a `Trained` method it is compiled for the devices; otherwise it gets and returns numpy arrays.
        """


@runtime_checkable
class Trained(Protocol):
    """A method that learns step by step. The training loop knows this interface and nothing else of it.

    A method that reads more of a batch than `READS` names all that it reads as `reads`: the rest stays on the host.
    """

    def update(self, state: State, batch: Batch) -> Update:
        """One step on this device's share of the batch; runs under `parallel.data_parallel`."""

    def settle(self, variables: PyTree, batch: Batch) -> PyTree:
        """The variables with BatchNorm statistics moved toward those of a batch, under `parallel.data_parallel`."""

    def load_pretrained(self, state: State, tensors: Mapping[str, np.ndarray], *, source: str) -> State:
        """The state with its backbone's weights replaced by torchvision's; `source` names them in errors."""


@runtime_checkable
class Fitted(Protocol):
    """A method that ends with a fit to features of the training images, after its steps or in their place."""

    def extract(self, variables: PyTree, images: Array, modality: str) -> dict[str, Array]:
        """What is fitted to, of uint8 images [N, H, W, 3] of one modality: {"source": float32 [N, D]}."""

    def fit(self, state: State, features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> State:
        """The fitted state; features float32 [N, D], identities and modalities int [N]."""

    def is_fitted(self, state: State) -> bool:
        """Whether `fit` has made this state."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """A system to train, as data: what it changes in a config, and what builds it from one.

    Attributes:
      title: as tables print it.
      build: makes the method: `build(config, num_identities=...)`.
      settings: config field, such as "model.shared_from" -> value: the network, the losses, the augmentation.
      images: (visible, infrared) images of an identity in a batch, whose size stays the config's; None leaves both.
      recipe: config field -> value: its own optimizer, schedule and identities per step, for `recipe="own"`.
      sections: sections that it adds to the config: name -> a dataclass of settings, see `settings`.
      layout: of the checkpoints of its public code, which `convert` reads and writes.
    """

    title: str
    build: Callable[..., Method]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: tuple[int, int] | None = None
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sections: Mapping[str, type] = dataclasses.field(default_factory=dict)
    layout: Layout | None = None
