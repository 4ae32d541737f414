"""Players that rest in a part of the run, against a count of their moves by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_mspac.methods.players import Outcome, Player, initial, play, step_of
from jax_mspac.runtime import parallel

STEPS = 7
# Who plays -> the steps, counted from 1, in which it does.
SPANS = {"early": ((1, 2), (5, 6)), "late": ((3, 7),), "never": (), "always": None}
MOVES = {"early": {1, 2, 5, 6}, "late": {3, 4, 5, 6, 7}, "never": set(), "always": set(range(1, 8))}


def player(name, **fields):
    def loss(networks, view, key):
        value = networks[name]["params"] * view
        metrics = {f"loss_{name}": value, f"odd_{name}": value}
        return value, Outcome({name: jnp.float32(1.0)}, metrics, {f"odd_{name}": view % 2 == 0})

    return Player(networks=(name,), loss=loss, optimizer=optax.sgd(1.0), spans=SPANS[name], **fields)


def test_who_rests_stays_as_it_is_and_tells_nothing():
    players = {name: player(name, every=2 if name == "late" else 1) for name in SPANS}
    networks = {name: {"params": jnp.float32(0.0), "batch_stats": jnp.float32(0.0)} for name in SPANS}
    state = initial(players, networks, {})
    update = jax.pmap(
        lambda state, view: play(players, state, view, jax.random.key(0)),
        axis_name=parallel.AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.local_devices()[:1],
    )
    expected = dict.fromkeys(SPANS, 0.0)
    for step in range(1, STEPS + 1):
        state, metrics, norms, resting = update(state, jnp.array([float(step)]))
        for name, moves in MOVES.items():
            moves = {number for number in moves if name != "late" or number % 2 == 0}
            plays = step in MOVES[name]
            before = expected[name]
            expected[name] -= step * (step in moves)
            assert float(state.variables[name]["params"]) == expected[name]
            if name == "never":
                assert not {"loss_never"} & {*metrics, *resting}
                assert float(state.variables[name]["batch_stats"]) == 0.0
                continue
            assert float(metrics[f"loss_{name}"]) == (before * step if plays else 0.0)
            assert float(norms[name]) == step * (step in moves)
            assert bool(resting.get(f"loss_{name}", False)) == (not plays)
            # Of what a player tells in odd steps alone.
            assert bool(resting[f"odd_{name}"]) == (not plays or step % 2 == 0)


@pytest.mark.parametrize("name", ["early", "late"])
def test_a_schedule_knows_the_step_of_each_move(name):
    steps = [int(step_of(SPANS[name], jnp.int32(move))) + 1 for move in range(len(MOVES[name]))]
    assert steps == sorted(MOVES[name])


def test_what_was_not_measured_is_not_logged():
    from jax_mspac.methods.base import State, Update
    from jax_mspac.training.nonfinite import Watch, guarded

    def update(state, batch):
        metrics = {"loss": jnp.float32(2.0), "game": jnp.float32(0.0), "other": jnp.float32(0.0)}
        resting = {"game": jnp.bool_(True), "other": jnp.bool_(False)}
        return Update(State(state.step + 1, state.variables, {}), metrics, {}, resting)

    state = State(jnp.int32(0), {"w": jnp.ones(3)}, {})
    _, metrics = jax.jit(guarded(update, skip=True))(state, None)
    watch = Watch(limit=0, skipped=0, files_of=lambda batch: [])
    told = watch.check(1, {name: float(value) for name, value in metrics.items()}, {})
    assert told == {"loss": 2.0, "other": 0.0}
    np.testing.assert_array_equal(state.variables["w"], 1)
