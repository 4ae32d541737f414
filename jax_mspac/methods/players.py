"""Players: each has parameters, a loss and an optimizer of its own. Most systems are one player, a game has several.

A player owns networks, by their names in a `State`. In a step the players move one after the other; each sees the
networks as those before it have left them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jax_mspac.methods.base import Metrics, PyTree, State, Update
from jax_mspac.runtime import parallel

Networks = Mapping[str, Any]


class Outcome(NamedTuple):
    """What a loss tells besides its value.

    Attributes:
      statistics: network -> its new "batch_stats".
      metrics: scalars.
      view: what the players after it see in this step in place of the view, such as images that it has made of it; None
        leaves the view as it is. It carries no gradient to them.
    """

    statistics: Mapping[str, PyTree]
    metrics: Metrics
    view: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Player:
    """Parameters that one loss moves.

    Attributes:
      networks: names of the networks whose "params" it owns; no other player owns them.
      loss: (networks, view, key) -> (scalar, Outcome). `networks` are those of all players, `view` is what the method
        made of the batch, `key` is of this step, player and device: for dropout and its like. Its mean over the devices
        is what is minimized.
      optimizer: of its parameters, a mapping by network. It counts the moves, not the steps.
      every: it moves in every n-th step: n, 2 n, ..., counted from 1. In others its loss is computed for the metrics
        alone, and not at all if it tells none.
      constrain: what keeps its parameters where they belong, after each move.
    """

    networks: tuple[str, ...]
    loss: Callable[[Networks, Any, jax.Array], tuple[jax.Array, Outcome]]
    optimizer: optax.GradientTransformation
    every: int = 1
    constrain: Callable[[PyTree], PyTree] = lambda params: params


def initial(players: Mapping[str, Player], variables: PyTree, networks: PyTree) -> State:
    """The state of step 0, of the networks by name: `variables` that embedding needs, the others that training does."""
    everything = {**variables, **networks}
    optimizers = {name: player.optimizer.init(_owned(player, everything)) for name, player in players.items()}
    return State(jnp.int32(0), variables, {"networks": networks, "optimizers": optimizers})


def play(players: Mapping[str, Player], state: State, view: Any, key: jax.Array) -> Update:
    """One step of all players, in their order; runs under `parallel.data_parallel`.

    What else than `initial` made is in the state's `training` stays. The losses see the view of the batch, or what a
    player before them has handed on. Of the key, which is the step's, devices get different ones. Metrics are as the
    losses name them.
    """
    networks = {**state.training["networks"], **state.variables}
    key = jax.random.fold_in(key, jax.lax.axis_index(parallel.AXIS))
    metrics: Metrics = {}
    optimizers, norms = {}, {}
    for number, (name, player) in enumerate(players.items()):
        key_of_player = jax.random.fold_in(key, number)
        operands = networks, state.training["optimizers"][name]
        move, rest = (_bound(turn, player, view, key_of_player) for turn in (_move, _rest))
        if player.every == 1:
            result = move(*operands)
        else:
            result = jax.lax.cond((state.step + 1) % player.every == 0, move, rest, *operands)
        networks, optimizers[name], of_player, norms[name], handed = result
        view = view if handed is None else handed
        metrics |= of_player
    training = {
        **state.training,
        "networks": {name: networks[name] for name in state.training["networks"]},
        "optimizers": optimizers,
    }
    return Update(State(state.step + 1, {name: networks[name] for name in state.variables}, training), metrics, norms)


def _bound(turn: Callable, player: Player, view: Any, key: jax.Array) -> Callable:
    return lambda networks, optimizer: turn(player, networks, optimizer, view, key)


def _move(player: Player, networks: Networks, optimizer: PyTree, view: Any, key: jax.Array):
    gradients, (statistics, metrics, handed) = jax.grad(_objective, has_aux=True)(
        _owned(player, networks), player, networks, view, key
    )
    gradients, metrics = parallel.average((gradients, metrics))
    networks, optimizer = descend(player, networks, optimizer, gradients)
    for name, batch_stats in statistics.items():
        networks[name] = {**networks[name], "batch_stats": batch_stats}
    return networks, optimizer, metrics, optax.tree.norm(gradients), handed


def descend(player: Player, networks: Networks, optimizer: PyTree, gradients: PyTree) -> tuple[dict[str, Any], PyTree]:
    """The networks and the state of the optimizer after its step; gradients by network."""
    own = _owned(player, networks)
    updates, optimizer = player.optimizer.update(gradients, optimizer, own)
    own = player.constrain(optax.apply_updates(own, updates))
    return {**networks, **{name: {**networks[name], "params": params} for name, params in own.items()}}, optimizer


def _rest(player: Player, networks: Networks, optimizer: PyTree, view: Any, key: jax.Array):
    _, (_, metrics, handed) = _objective(_owned(player, networks), player, networks, view, key)
    return dict(networks), optimizer, parallel.average(metrics), jnp.float32(0), handed


def _objective(own: PyTree, player: Player, networks: Networks, view: Any, key: jax.Array):
    seen = {**networks, **{name: {**networks[name], "params": params} for name, params in own.items()}}
    loss, outcome = player.loss(seen, view, key)
    return loss, tuple(outcome)


def _owned(player: Player, networks: Networks) -> PyTree:
    return {name: networks[name]["params"] for name in player.networks}
