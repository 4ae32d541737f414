"""Players: each has parameters, a loss and an optimizer of its own. Most systems are one player, a game has several.

A player owns networks, by their names in a `State`. In a step the players move one after the other; each sees the
networks as those before it have left them. Who plays in a part of the run alone rests in the other steps.
"""

import dataclasses
import functools
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
      resting: of a metric whether it was not measured in this step; those that it does not name were.
      view: what the players after it see in this step in place of the view, such as images that it has made of it; None
        leaves the view as it is. It carries no gradient to them. Of a player with `spans` it has the form of the view.
    """

    statistics: Mapping[str, PyTree]
    metrics: Metrics
    resting: Mapping[str, jax.Array] = {}
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
      spans: the (first, last) steps, counted from 1, that it plays in, in rising order; None for all. Outside of these
        it costs nothing, and its metrics are not told.
      constrain: what keeps its parameters where they belong, after each move.
    """

    networks: tuple[str, ...]
    loss: Callable[[Networks, Any, jax.Array], tuple[jax.Array, Outcome]]
    optimizer: optax.GradientTransformation
    every: int = 1
    spans: tuple[tuple[int, int], ...] | None = None
    constrain: Callable[[PyTree], PyTree] = lambda params: params

    def plays(self, step: jax.Array) -> jax.Array:
        """Whether it plays in the step, int counted from 1."""
        within = [(first <= step) & (step <= last) for first, last in self.spans or ()]
        return jnp.any(jnp.stack(within)) if within else jnp.bool_(self.spans is None)


def step_of(spans: tuple[tuple[int, int], ...], move: jax.Array) -> jax.Array:
    """The number of steps before the one in which a player of spans moves once more after `move` moves.

    For a schedule over the steps of the run, as an optimizer counts the moves.
    """
    rested, before = jnp.zeros_like(move), 0
    for first, last in spans:
        rested = jnp.where(move >= before, first - 1 - before, rested)
        before += last + 1 - first
    return move + rested


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
    networks: dict[str, Any] = {**state.training["networks"], **state.variables}
    key = jax.random.fold_in(key, jax.lax.axis_index(parallel.AXIS))
    metrics: Metrics = {}
    optimizers, norms = {}, {}
    resting: dict[str, jax.Array] = {}
    for number, (name, player) in enumerate(players.items()):
        if player.spans == ():  # such as in a phase without a step
            optimizers[name] = state.training["optimizers"][name]
            continue
        key_of_player = jax.random.fold_in(key, number)
        turn: Callable = functools.partial(_turn, player)
        operands = networks, state.training["optimizers"][name], state.step, view, key_of_player
        if player.spans is None:
            result = turn(*operands)
        else:
            # A function of its own, so that it is traced once, both for what it does and for what it tells.
            turn, plays = jax.jit(turn), player.plays(state.step + 1)
            result = jax.lax.cond(plays, turn, functools.partial(_pause, turn), *operands)
        networks, optimizers[name], (of_player, rests), norms[name], handed = result
        view = view if handed is None else handed
        metrics |= of_player
        if player.spans is not None:
            rests = {metric: ~plays | rests.get(metric, False) for metric in of_player}
        resting |= rests
    training = {
        **state.training,
        "networks": {name: networks[name] for name in state.training["networks"]},
        "optimizers": optimizers,
    }
    variables = {name: networks[name] for name in state.variables}
    return Update(State(state.step + 1, variables, training), metrics, norms, resting)


def _turn(player: Player, networks: Networks, optimizer: PyTree, step: jax.Array, view: Any, key: jax.Array):
    if player.every == 1:
        return _move(player, networks, optimizer, view, key)
    move, rest = (functools.partial(of, player) for of in (_move, _rest))
    return jax.lax.cond((step + 1) % player.every == 0, move, rest, networks, optimizer, view, key)


def _pause(turn: Callable, networks: Networks, optimizer: PyTree, step: jax.Array, view: Any, key: jax.Array):
    """What a turn gives that leaves all as it is, with zeros for the metrics."""
    *_, told, norm, handed = jax.eval_shape(turn, networks, optimizer, step, view, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (told, norm))
    return dict(networks), optimizer, *zeros, None if handed is None else view


def _move(player: Player, networks: Networks, optimizer: PyTree, view: Any, key: jax.Array):
    gradients, (statistics, metrics, resting, handed) = jax.grad(_objective, has_aux=True)(
        _owned(player, networks), player, networks, view, key
    )
    gradients, metrics = parallel.average((gradients, metrics))
    networks, optimizer = descend(player, networks, optimizer, gradients)
    for name, batch_stats in statistics.items():
        networks[name] = {**networks[name], "batch_stats": batch_stats}
    return networks, optimizer, (metrics, resting), optax.tree.norm(gradients), handed


def descend(player: Player, networks: Networks, optimizer: PyTree, gradients: PyTree) -> tuple[dict[str, Any], PyTree]:
    """The networks and the state of the optimizer after its step; gradients by network."""
    own = _owned(player, networks)
    updates, optimizer = player.optimizer.update(gradients, optimizer, own)
    own = player.constrain(optax.apply_updates(own, updates))
    return {**networks, **{name: {**networks[name], "params": params} for name, params in own.items()}}, optimizer


def _rest(player: Player, networks: Networks, optimizer: PyTree, view: Any, key: jax.Array):
    _, (_, metrics, resting, handed) = _objective(_owned(player, networks), player, networks, view, key)
    return dict(networks), optimizer, (parallel.average(metrics), resting), jnp.float32(0), handed


def _objective(own: PyTree, player: Player, networks: Networks, view: Any, key: jax.Array):
    seen = {**networks, **{name: {**networks[name], "params": params} for name, params in own.items()}}
    loss, outcome = player.loss(seen, view, key)
    return loss, tuple(outcome)


def _owned(player: Player, networks: Networks) -> PyTree:
    return {name: networks[name]["params"] for name in player.networks}
