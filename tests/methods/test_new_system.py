"""A system of two players is one file and one line in a registry: an encoder against a discriminator of modalities."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import pages, small_runs

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.runtime import parallel
from jax_mspac.training.loop import train

PAGE = pages.module_of("extend.md", "A system")
STEPS = 8


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "game", PAGE.GAME)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("game"))


def game_config(folder, **changes):
    defaults = {"train.steps": STEPS, "checkpoint.every": 1, "checkpoint.keep": STEPS, "eval.every": 4}
    return small_runs.config_of(folder, method="game", **defaults | changes)


def state_of(config, workdir, step):
    with Checkpoints(workdir / FOLDER, read_only=True) as checkpoints:
        return checkpoints.restore(step, jax.eval_shape(PAGE.build(config, num_identities=5).init, jax.random.key(0)))


def test_it_trains_resumes_to_the_bit_and_is_evaluated(folder, tmp_path):
    config = game_config(folder)
    whole = train(config, tmp_path / "whole")
    lines = small_runs.metrics_of(tmp_path / "whole")
    # The metrics of a player that rests are told too.
    names = {"loss", "loss_discriminator", "gradient_norm_encoder", "gradient_norm_discriminator"}
    assert all(names <= line.keys() for line in lines) and len(lines) == STEPS
    assert [line["gradient_norm_discriminator"] > 0 for line in lines] == [False, True] * (STEPS // 2)
    states = [state_of(config, tmp_path / "whole", step) for step in range(1, STEPS + 1)]
    kernels = [state.training["networks"]["discriminator"]["params"]["kernel"] for state in states]
    moved = [not np.array_equal(a, b) for a, b in zip(kernels, kernels[1:], strict=False)]
    assert moved == [True, False] * 3 + [True]
    assert lines[-1]["loss"] < lines[0]["loss"]

    # Between a move and a rest.
    small_runs.killed_after(tmp_path / "whole", 3, tmp_path / "again")
    assert train(config, tmp_path / "again")["rows"] == whole["rows"]
    assert small_runs.metrics_of(tmp_path / "again") == lines
    one, two = (state_of(config, tmp_path / name, STEPS) for name in ("whole", "again"))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert evaluate_checkpoint(config, tmp_path / "whole")["rows"] == whole["rows"]


def test_its_section_counts_for_resuming_and_is_checked(folder, tmp_path):
    assert config_lib.default_config().game.to_dict() == {"fooling": 0.5}
    config = game_config(folder, **{"train.steps": 2, "eval.every": 0})
    train(config, tmp_path / "run")
    config.game.fooling = 0.25
    with pytest.raises(UserError, match=r"config\.game\.fooling was 0\.5, now 0\.25"):
        train(config, tmp_path / "run")
    config.game.fooling = -1.0
    with pytest.raises(UserError, match=r"config\.game\.fooling is -1\.0; expected 0 or a positive number"):
        config_lib.validate(config)


def test_four_devices_do_what_one_does():
    method = PAGE.Game(PAGE.GameSettings(), 5)
    rng = np.random.default_rng(0)
    results = {}
    for devices in (1, 4):
        used = jax.local_devices()[:devices]
        update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
        state = parallel.replicate(method.init(jax.random.key(1)), used)
        for _ in range(4):
            rng = np.random.default_rng(0)
            batch = {
                name: {
                    "image": rng.integers(0, 256, (devices, 8 // devices, 32, 16, 3)).astype(np.uint8),
                    "label": np.arange(8, dtype=np.int32).reshape(devices, -1) % 5,
                }
                for name in MODALITIES
            }
            state, metrics = update(state, parallel.shard(batch, used))
        results[devices] = jax.device_get((state, metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), results[1], results[4])


@pytest.mark.parametrize("player", ["encoder", "discriminator"])
def test_a_value_that_is_not_finite_in_either_player_stops_or_is_skipped(folder, tmp_path, monkeypatch, player):
    move = {"encoder": "fool", "discriminator": "unmask"}[player]
    sound = getattr(PAGE.Game, move)

    def broken(game, networks, view, key):
        loss, outcome = sound(game, networks, view, key)
        return loss * jnp.where(view["step"] == 3, jnp.nan, 1.0), outcome

    monkeypatch.setattr(PAGE.Game, move, broken)
    config = game_config(folder, **{"eval.every": 0})
    with pytest.raises(UserError, match=f"gradient_norm_{player}.* of step 4 is not finite"):
        train(config, tmp_path / "stops")
    assert sorted(int(p.name) for p in (tmp_path / "stops" / FOLDER).iterdir() if p.name.isdecimal()) == [1, 2, 3]
    config.train.skip_nonfinite = 1
    train(config, tmp_path / "skips")
    before, after = (state_of(config, tmp_path / "skips", step) for step in (3, 4))
    jax.tree.map(np.testing.assert_array_equal, before.variables, after.variables)
    jax.tree.map(np.testing.assert_array_equal, before.training, after.training)
    assert json.loads((tmp_path / "skips" / "metrics.jsonl").read_text().splitlines()[-1])["skipped"] == 1.0
