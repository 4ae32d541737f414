"""Checkpoints: what is kept, what comes back, what is refused, and what is noticed."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_mspac.errors import UserError
from jax_mspac.methods.base import State
from jax_mspac.runs.checkpoints import DAMAGED, FOLDER, Checkpoints, DamagedCheckpoint


def make_state(step, width=3):
    params = {"dense": {"kernel": jnp.arange(2.0 * width).reshape(2, width) + step, "bias": jnp.full(width, 0.1)}}
    optimizer = optax.chain(optax.trace(0.9), optax.scale_by_learning_rate(lambda count: 0.1)).init(params)
    return State(jnp.int32(step), {"params": params, "batch_stats": {"mean": jnp.float32(step)}}, {"o": optimizer})


def assert_equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(lambda x: x.dtype, two)


def test_state_comes_back_to_the_bit(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(7))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [7]
        assert_equal(checkpoints.restore(7, make_state(0)), jax.device_get(make_state(7)))


def test_latest_two_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, score in enumerate([0.1, 0.9, None, 0.5, None, 0.2], 1):
            checkpoints.save(make_state(step), score=score)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [2, 5, 6]
        assert checkpoints.best == 2
        assert [checkpoints.find(which) for which in ("latest", "best", "5")] == [6, 2, 5]


def test_a_save_holds_the_state_of_its_moment(tmp_path):
    # The step donates its state: the buffers are gone while the save may still be writing.
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        expected = jax.device_get(state)
        jax.tree.map(lambda x: x.delete(), state)
    with Checkpoints(tmp_path) as checkpoints:
        assert_equal(checkpoints.restore(1, expected), expected)


def test_variables_come_back_without_the_rest(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(3))
    # Damage everything else: restoring for inference must not look at it.
    for path in (tmp_path / "3" / "training").rglob("*"):
        if path.is_file() and path.name not in ("_METADATA", "_sharding"):
            path.write_bytes(b"")
    with Checkpoints(tmp_path) as checkpoints:
        variables = checkpoints.restore_variables(3, make_state(0).variables)
    assert_equal(variables, jax.device_get(make_state(3).variables))


def test_another_model_is_refused_with_names_and_shapes(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        with pytest.raises(UserError, match=r"dense/kernel: saved float32\[2, 3\], expected float32\[2, 5\]"):
            checkpoints.restore(1, make_state(0, width=5))
        renamed = {"params": {"other": jnp.ones(1)}, "batch_stats": {"mean": jnp.float32(0)}}
        with pytest.raises(UserError, match=r"dense/bias: saved float32\[3\], expected nothing"):
            checkpoints.restore_variables(1, renamed)


def test_missing_checkpoints_are_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint in"):
            checkpoints.find("latest")
        checkpoints.save(make_state(4))
        with pytest.raises(UserError, match="no checkpoint of step 5 .* there are 4"):
            checkpoints.find("5")
        with pytest.raises(UserError, match="no best one"):
            checkpoints.find("best")


def test_of_a_folder_of_several_runs_one_is_asked_for(tmp_path):
    for fold in ("fold_2", "fold_1"):
        with Checkpoints(tmp_path / fold / FOLDER) as checkpoints:
            checkpoints.save(make_state(1))
    with Checkpoints(tmp_path / FOLDER, read_only=True) as checkpoints:
        with pytest.raises(UserError, match=r"no checkpoint in .* holds 2 runs; name .* one, such as .*/fold_1$"):
            checkpoints.find("latest")


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
}


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints with an array that has a file of its own, as the large arrays of a network have."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(make_state(step, width=3000), score=step / 10)
    return folder


# Orbax reads all arrays of a part at once; when one fails, the readers of the others find their loop closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_noticed_or_does_no_harm(saved, damage, tmp_path):
    like = make_state(0, width=3000)
    states = {step: jax.device_get(make_state(step, width=3000)) for step in (1, 2)}
    noticed = 0
    for file in sorted(path.relative_to(saved) for path in (saved / "2").rglob("*") if path.is_file()):
        folder = shutil.copytree(saved, tmp_path / str(file).replace("/", "-"))
        DAMAGE[damage](folder / file)
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.steps == [1, 2], file
            assert checkpoints.best in (1, 2), file
            state = checkpoints.restore_latest(like)
            assert_equal(state, states[int(state.step)])
            whole = int(state.step) == 2
            assert checkpoints.steps == ([1, 2] if whole else [1]), file
            assert (folder / f"2{DAMAGED}").exists() != whole
            if not whole:
                noticed += 1
                # The run goes on from there, and comes to the same step again.
                checkpoints.save(make_state(2, width=3000))
        with Checkpoints(folder) as checkpoints:
            assert_equal(checkpoints.restore(2, like), states[2])
    assert noticed >= 5


def test_a_flipped_byte_in_an_array_is_named_and_evaluation_falls_back(saved, tmp_path, capsys):
    folder = shutil.copytree(saved, tmp_path / "run")
    largest = max((folder / "2/variables").rglob("d/*"), key=lambda path: path.stat().st_size)
    DAMAGE["flipped"](largest)
    like = make_state(0, width=3000).variables
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(DamagedCheckpoint, match=r"run/2 is damaged: "):
            checkpoints.restore_variables(2, like)
        step, variables = checkpoints.find_variables("latest", like)
        assert step == 1
        assert_equal(variables, jax.device_get(make_state(1, width=3000).variables))
        # Looking changes nothing on disk, and what is named has no replacement.
        assert checkpoints.steps == [1, 2]
        for which in ("best", "2"):
            with pytest.raises(DamagedCheckpoint, match="run/2 is damaged"):
                checkpoints.find_variables(which, like)
    said = capsys.readouterr().out
    assert "run/2 is damaged" in said and "falling back to the checkpoint of step 1" in said


def test_other_values_under_the_right_structure_are_damage(saved, tmp_path):
    # As after a mix-up of files: every file is whole.
    folder = shutil.copytree(saved, tmp_path / "run")
    shutil.rmtree(folder / "2/variables")
    shutil.copytree(folder / "1/variables", folder / "2/variables")
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(DamagedCheckpoint, match=r"the checksum of variables/\S+ does not fit \(\d+ of 3 arrays\)"):
            checkpoints.restore_variables(2, make_state(0, width=3000).variables)


def test_a_run_whose_checkpoints_are_all_damaged_is_an_error_that_names_them(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "run")
    for step in ("1", "2"):
        DAMAGE["truncated"](folder / step / "record" / "data.json")
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(UserError, match=r"(?s)no checkpoint in .*run is whole.*run/2 is.*run/1 is.*backup"):
            checkpoints.restore_latest(make_state(0, width=3000))
        assert checkpoints.steps == [1, 2]


def test_a_save_in_the_place_of_another_replaces_state_and_score(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1), score=0.5)
        checkpoints.save(make_state(2), evaluated=False)
        checkpoints.wait()
        assert (checkpoints.evaluated(1), checkpoints.evaluated(2)) == (True, False)
        checkpoints.save(make_state(2), score=0.7)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.evaluated(2)
        assert (checkpoints.steps, checkpoints.best) == ([1, 2], 2)


def test_a_save_that_fails_on_the_way_out_hides_no_error_that_says_more(tmp_path, monkeypatch):
    def left_with(error):
        with Checkpoints(tmp_path) as checkpoints:
            close = checkpoints._checkpointer.close

            def broken():
                close()
                raise FileNotFoundError("4.orbax-checkpoint-tmp")

            monkeypatch.setattr(checkpoints._checkpointer, "close", broken)
            if error:
                raise error

    with pytest.raises(UserError, match="is gone"):
        left_with(UserError("the folder is gone"))
    for error in (None, KeyboardInterrupt()):
        with pytest.raises(FileNotFoundError):
            left_with(error)
