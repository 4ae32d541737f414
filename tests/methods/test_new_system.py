"""A system of two players is one file and one line in a registry: an encoder against a discriminator of modalities."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import small_runs

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods.base import System
from jax_mspac.methods.players import Outcome, Player, initial, play
from jax_mspac.modalities import MODALITIES
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.runtime import parallel
from jax_mspac.settings import NOT_NEGATIVE, Collector, check, setting
from jax_mspac.training.loop import train

STEPS = 8


class Encoder(nn.Module):
    """Pixels to a feature, with a running mean of it."""

    @nn.compact
    def __call__(self, pixels):
        feature = nn.Dense(8, name="dense")(pixels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (8,), jnp.float32)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            mean.value = jax.lax.pmean(feature.mean(axis=0), parallel.AXIS)
        return feature


@dataclasses.dataclass(frozen=True, kw_only=True)
class GameSettings:
    fooling: float = setting(0.5, NOT_NEGATIVE, "weight of the encoder's side of the game")
    nan_at: int = 0
    nan_of: str = ""

    __post_init__ = check


@dataclasses.dataclass(frozen=True)
class Game:
    """An encoder with a classifier that fools a discriminator; the discriminator moves in every second step."""

    settings: GameSettings
    num_identities: int
    features = ("before_neck", "after_neck")

    @property
    def players(self):
        return {
            "discriminator": Player(
                networks=("discriminator",), loss=self.unmask, optimizer=optax.adam(1e-2, b1=0.5), every=2
            ),
            "encoder": Player(
                networks=("encoder", "classifier"), loss=self.fool, optimizer=optax.sgd(0.05, momentum=0.9)
            ),
        }

    def init(self, key):
        keys = jax.random.split(key, 3)
        feature = jnp.zeros((1, 8))
        return initial(
            self.players,
            {"encoder": Encoder().init(keys[0], jnp.zeros((1, 24)))},
            {
                "classifier": nn.Dense(self.num_identities).init(keys[1], feature),
                "discriminator": nn.Dense(1).init(keys[2], feature),
            },
        )

    def _modality(self, networks, features, side):
        logits = nn.Dense(1).apply(networks["discriminator"], features)[:, 0]
        return optax.sigmoid_binary_cross_entropy(logits, side).mean()

    def unmask(self, networks, view, key):
        pixels, _, side, step = view
        features = Encoder().apply(networks["encoder"], pixels)
        loss = self._broken("discriminator", step, self._modality(networks, features, side))
        return loss, Outcome({}, {"loss_discriminator": loss})

    def fool(self, networks, view, key):
        pixels, labels, side, step = view
        features, updated = Encoder().apply(networks["encoder"], pixels, mutable=["batch_stats"])
        logits = nn.Dense(self.num_identities).apply(networks["classifier"], features)
        identity = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        loss = identity - self.settings.fooling * self._modality(networks, features, side)
        loss = self._broken("encoder", step, loss)
        return loss, Outcome({"encoder": updated["batch_stats"]}, {"loss": identity})

    def _broken(self, player, step, loss):
        bad = (step + 1 == self.settings.nan_at) & (player == self.settings.nan_of)
        return loss * jnp.where(bad, jnp.nan, 1.0)

    def view(self, batch, step):
        pixels = jnp.concatenate([small_runs._pixels(batch[m]["image"]) for m in MODALITIES])
        labels = jnp.concatenate([batch[m]["label"] for m in MODALITIES])
        side = jnp.concatenate([jnp.full(len(batch[m]["label"]), float(i)) for i, m in enumerate(MODALITIES)])
        return pixels, labels, side, step

    def update(self, state, batch):
        return play(self.players, state, self.view(batch, state.step), jax.random.key(0))

    def settle(self, variables, batch):
        return variables

    def load_pretrained(self, state, tensors, *, source):
        return state

    def embed(self, variables, images, modality):
        features = Encoder().apply(variables["encoder"], small_runs._pixels(images))
        return {"before_neck": features, "after_neck": features - variables["encoder"]["batch_stats"]["mean"][None]}


def build(config, *, num_identities):
    made = Collector()
    settings = made.of(GameSettings, "game", config.game, **NAN)
    made.raise_problems()
    return Game(settings, num_identities)


NAN = {}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    system = System(title="A game", build=build, sections={"game": GameSettings})
    monkeypatch.setitem(methods.METHODS, "game", system)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("game"))


def game_config(folder, **changes):
    defaults = {"train.steps": STEPS, "checkpoint.every": 1, "checkpoint.keep": STEPS, "eval.every": 4}
    return small_runs.config_of(folder, method="game", **defaults | changes)


def state_of(config, workdir, step):
    with Checkpoints(workdir / FOLDER, read_only=True) as checkpoints:
        return checkpoints.restore(step, jax.eval_shape(build(config, num_identities=5).init, jax.random.key(0)))


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

    # As if it had been killed after step 3: between a move and a rest.
    train(config, tmp_path / "again")
    for step in range(4, STEPS + 1):
        (tmp_path / "again" / FOLDER / str(step)).rename(tmp_path / f"gone{step}")
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
    method = Game(GameSettings(), 5)
    rng = np.random.default_rng(0)
    results = {}
    for devices in (1, 4):
        used = jax.local_devices()[:devices]
        update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
        state = jax.device_get(method.init(jax.random.key(1)))
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
    monkeypatch.setitem(NAN, "nan_at", 4)  # a step in which both move
    monkeypatch.setitem(NAN, "nan_of", player)
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
