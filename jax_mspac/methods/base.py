"""What a method is: a state it owns, an update and an embedding, all pure; and what sets one system apart."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np

PyTree = Any
Batch = dict[str, dict[str, jax.Array]]
Metrics = dict[str, jax.Array]

# The metric by which a method tells the global norm of its gradients.
GRADIENT_NORM = "gradient_norm"


@flax.struct.dataclass
class State:
    """Everything that changes while training.

    Attributes:
      step: int32 scalar, the number of updates done.
      variables: what embedding needs, {"params": ..., "batch_stats": ...}. Evaluation restores this alone.
      training: what only training needs: heads, centers, optimizer states, further networks.
    """

    step: jax.Array
    variables: PyTree
    training: PyTree


class Method(Protocol):
    """A system that learns to embed persons. The training loop knows this interface and nothing else of it.

    Attributes:
      learns: whether there are steps to train; a method without them is `Fitted`.
      on_host: whether it embeds with numpy, where others are compiled for the devices.
    """

    learns: bool
    on_host: bool

    def init(self, key: jax.Array) -> State:
        """The state of step 0."""

    def load_pretrained(self, state: State, tensors: Mapping[str, np.ndarray], *, source: str) -> State:
        """The state with its backbone's weights replaced by torchvision's; `source` names them in errors."""

    def update(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One step on this device's share of the batch; runs under `parallel.data_parallel`.

        Returns the new state and scalar metrics, both equal on all devices. `metrics["loss"]` is the total.
        """

    def embed(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        """Features of uint8 images [N, H, W, 3] of one modality: feature name -> float32 [N, D]."""


@runtime_checkable
class Fitted(Protocol):
    """A method that ends with a fit to features of the training images, after its steps or in their place."""

    def extract(self, variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
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
    """

    title: str
    build: Callable[..., Method]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: tuple[int, int] | None = None
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
