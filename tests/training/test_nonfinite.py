"""Steps whose loss or gradient is not finite: what is said, what is saved, and what is skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_runs

from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods.base import State, System, Update
from jax_mspac.training import loop
from jax_mspac.training.nonfinite import STATE_IS_FINITE, Watch, guarded

BAD = 6  # a step that is saved and evaluated too


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Trains with a gradient that is not finite at some steps, and returns the config and the folder of the run."""

    def run(*, bad=(), name="run", **changes):
        def build(config, *, num_identities):
            return small_runs.Linear(num_identities, nan_at=bad)

        monkeypatch.setitem(methods.METHODS, "linear", System(title="Linear", build=build))
        config = small_runs.config_of(folder, **{"train.steps": 8, "checkpoint.every": 1, **changes})
        loop.train(config, tmp_path / name)
        return config, tmp_path / name

    return run


def test_nothing_is_saved_after_a_gradient_that_is_not_finite_behind_a_finite_loss(run, tmp_path, folder):
    with pytest.raises(UserError, match=rf"the state after the update of step {BAD} is not finite") as error:
        run(bad=(BAD,))
    assert "rgb/person" in str(error.value) and "Earlier checkpoints are whole" in str(error.value)
    state, step = small_runs.state_of(small_runs.config_of(folder), tmp_path / "run")
    assert step == BAD - 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert [line["step"] for line in small_runs.metrics_of(tmp_path / "run")] == list(range(1, BAD))


def test_nothing_is_saved_after_it_where_checkpoints_are_rare(run, tmp_path, folder):
    # The step after the bad one is on its way when the host looks at the bad one.
    with pytest.raises(UserError, match="of step 3 is not finite"):
        run(bad=(3,), **{"checkpoint.every": 4, "eval.every": 0})
    assert not [path for path in (tmp_path / "run" / small_runs.FOLDER).iterdir() if path.name.isdecimal()]


def test_skipped_steps_leave_the_state_alone_and_are_counted_also_after_a_resume(run, tmp_path, capsys):
    config, workdir = run(bad=(3, BAD), **{"train.skip_nonfinite": 2})
    said = capsys.readouterr().out
    assert "step 3 is skipped, number 1 of at most 2: the state after the update is not finite. The batch held" in said
    lines = small_runs.metrics_of(workdir)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["skipped"] for line in lines] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert all(np.isfinite(value) for line in lines for value in line.values())
    with small_runs.Checkpoints(workdir / small_runs.FOLDER, keep=9) as checkpoints:
        assert checkpoints.steps == [6, 7, 8]  # 6: the best, the one that was evaluated
    # Killed after step 7: the count goes on where it was.
    (workdir / small_runs.FOLDER / "8").rename(tmp_path / "gone")
    with pytest.raises(UserError, match="of step 8 is not finite, and config.train.skip_nonfinite allows 2"):
        run(bad=(3, BAD, 8), **{"train.skip_nonfinite": 2})


def test_a_skipped_step_is_as_if_it_had_not_been(run):
    state = State(jnp.int32(4), {"w": jnp.ones(3)}, {"count": jnp.int32(7)})

    def update(state, batch):
        moved = State(state.step + 1, {"w": state.variables["w"] * batch}, {"count": state.training["count"] + 1})
        return Update(moved, {"loss": jnp.float32(1.0), "other": batch})

    for skip, batch, expected in ((True, 2.0, 2.0), (True, jnp.nan, 1.0), (True, jnp.inf, 1.0), (False, 2.0, 2.0)):
        after, metrics = jax.jit(guarded(update, skip=skip))(state, jnp.float32(batch))
        sound = bool(np.isfinite(batch))
        assert int(after.step) == 5 and float(metrics[STATE_IS_FINITE]) == sound
        np.testing.assert_array_equal(after.variables["w"], np.full(3, expected))
        assert int(after.training["count"]) == (8 if sound else 7)


def test_where_the_norm_of_the_gradients_is_told_they_and_the_statistics_are_looked_at():
    def update(state, batch):
        params = jax.tree.map(lambda w: w - batch["gradient"], state.variables["net"]["params"])
        variables = {"net": {"params": params, "batch_stats": {"mean": batch["mean"]}}}
        norms = {"net": jnp.linalg.norm(batch["gradient"])}
        return Update(State(state.step + 1, variables, {}), {"loss": jnp.float32(1.0)}, norms)

    state = State(jnp.int32(0), {"net": {"params": {"w": jnp.ones(3)}, "batch_stats": {"mean": jnp.zeros(2)}}}, {})
    step = jax.jit(guarded(update, skip=True))
    for broken in ((), ("gradient",), ("mean",), ("gradient", "mean")):
        batch = {"gradient": jnp.ones(3), "mean": jnp.ones(2)}
        after, metrics = step(state, batch | {name: batch[name].at[1].set(jnp.nan) for name in broken})
        told = {name for name, value in metrics.items() if not np.isfinite(value)}
        assert told == ({"gradient_norm"} if "gradient" in broken else set())
        assert float(metrics[STATE_IS_FINITE]) == ("mean" not in broken)
        np.testing.assert_array_equal(after.variables["net"]["params"]["w"], np.full(3, 1.0 if broken else 0.0))


def test_a_loss_that_is_not_finite_behind_a_finite_state_is_skipped_too():
    def update(state, batch):
        return Update(State(state.step + 1, state.variables, state.training), {"loss": jnp.float32(jnp.nan)})

    state = State(jnp.int32(0), {"w": jnp.ones(3)}, {})
    after, metrics = jax.jit(guarded(update, skip=True))(state, None)
    assert int(after.step) == 1 and float(metrics[STATE_IS_FINITE]) == 1
    watch = Watch(limit=1, skipped=0, files_of=lambda batch: ["a.png"])
    assert watch.check(1, {name: float(value) for name, value in metrics.items()}, {}) == {"skipped": 1.0}


def test_all_terms_and_some_files_are_named():
    watch = Watch(limit=0, skipped=0, files_of=lambda batch: [f"{i}.png" for i in range(9)])
    metrics = {"loss": np.nan, "triplet": np.inf, "identity": 1.0, STATE_IS_FINITE: 0.0}
    with pytest.raises(UserError, match=r"training diverged: loss, triplet of step 5 .* 7\.png and more"):
        watch.check(5, metrics, {})


def test_a_sound_step_is_the_same_with_and_without_skipping(run):
    states = [
        small_runs.state_of(*run(name=name, **{"train.skip_nonfinite": limit})) for name, limit in (("a", 0), ("b", 3))
    ]
    # Two programs: the compiler orders their sums. With the loops of a default compilation they agree to the bit.
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7), *states)
