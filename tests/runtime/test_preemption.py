"""SIGTERM and SIGINT, sent to real processes while they train, evaluate and prepare data."""

import gc
import os
import signal
import time

import pytest
from helpers import small_runs
from helpers.trees import draw_folder_tree

from jax_mspac.runtime import preemption


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def config(folder):
    # No checkpoint is due before the signal.
    return small_runs.config_of(folder, **{"checkpoint.every": 20, "eval.every": 12})


@pytest.fixture(scope="module")
def undisturbed(folder, config):
    process = small_runs.start(config, folder / "undisturbed", output=folder / "output")
    assert small_runs.end(process) == 0, (folder / "output").read_text()
    return folder / "undisturbed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_the_run_goes_on_from_there(number, folder, config, undisturbed, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "output"
    process = small_runs.start(config, workdir, output=output, pause=0.2)
    small_runs.wait_for(output, "step 4/24", process)
    os.kill(process.pid, number)
    began = time.monotonic()
    assert small_runs.end(process) == preemption.EXIT_STATUS == 75
    assert time.monotonic() - began < 30
    _, step = small_runs.state_of(config, workdir)
    said = output.read_text()
    assert 4 <= step < 12 and "Traceback" not in said, said
    line = f"interrupted by {number.name} after step {step}, which is saved; the same command goes on where it stopped"
    assert line in said
    assert [entry["step"] for entry in small_runs.metrics_of(workdir)] == list(range(1, step + 1))

    assert small_runs.end(small_runs.start(config, workdir, output=output)) == 0
    assert f"resuming from the checkpoint of step {step}" in output.read_text()
    small_runs.assert_equal_runs(config, undisturbed, workdir)


def test_an_evaluation_while_training_is_dropped_and_made_up_for(folder, config, undisturbed, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "output"
    process = small_runs.start(config, workdir, output=output, slow_evaluation=True)
    small_runs.wait_for(output, "evaluating", process)
    os.kill(process.pid, signal.SIGTERM)
    assert small_runs.end(process) == 75, output.read_text()
    assert "after step 12, which is saved" in output.read_text() and "Traceback" not in output.read_text()
    assert "val/mAP" not in small_runs.metrics_of(workdir)[-1]
    # Killed before it could be made up for: it still is.
    process = small_runs.start(config, workdir, output=output, slow_evaluation=True)
    small_runs.wait_for(output, "evaluating", process)
    small_runs.kill(process)
    assert small_runs.end(small_runs.start(config, workdir, output=output)) == 0, output.read_text()
    small_runs.assert_equal_runs(config, undisturbed, workdir)
    with (
        small_runs.Checkpoints(workdir / small_runs.FOLDER) as one,
        small_runs.Checkpoints(undisturbed / small_runs.FOLDER) as two,
    ):
        assert (one.best, one.steps) == (two.best, two.steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_evaluation(number, config, undisturbed, tmp_path):
    output = tmp_path / "output"
    process = small_runs.start(config, undisturbed, output=output, mode="evaluate", slow_evaluation=True)
    small_runs.wait_for(output, "evaluating", process)
    os.kill(process.pid, number)
    assert small_runs.end(process, timeout=20) == 75
    assert f"interrupted by {number.name}; the same command" in output.read_text()
    assert "Traceback" not in output.read_text()


def test_a_signal_ends_the_preparation_of_data_and_leaves_nothing_half_done(tmp_path):
    draw_folder_tree(tmp_path / "tree", identities=[f"person {i:04}" for i in range(400)], images=4)
    config = small_runs.config_of(tmp_path)
    output = tmp_path / "output"
    process = small_runs.start(config, tmp_path / "run", output=output, mode="prepare")
    deadline = time.monotonic() + 60
    while not any((tmp_path / "tfds").rglob("*incomplete*")):
        assert process.is_alive() and time.monotonic() < deadline, output.read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    assert small_runs.end(process, timeout=20) == 75, output.read_text()
    assert "Traceback" not in output.read_text()
    assert not any((tmp_path / "tfds").rglob("dataset_info.json"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_arrives_in_a_callback_of_the_garbage_collector_is_not_lost(number):
    arrived = []

    def collecting(phase, info):
        if phase == "start" and not arrived:
            arrived.append(True)
            signal.raise_signal(number)

    with pytest.raises(preemption.Interrupted), preemption.watched():
        gc.callbacks.append(collecting)
        try:
            gc.collect()
            assert arrived
            time.sleep(5)
        finally:
            gc.callbacks.remove(collecting)


def test_a_second_ctrl_c_ends_at_once(config, tmp_path):
    output = tmp_path / "output"
    process = small_runs.start(config, tmp_path / "run", output=output, pause=3.0)
    small_runs.wait_for(output, "step 1/24", process)
    time.sleep(0.5)  # the step that said so is over, and the pause of the next one has begun
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)  # schedulers repeat themselves; a second one changes nothing
    time.sleep(0.2)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    assert small_runs.end(process, timeout=2) == -signal.SIGINT


def test_signals_are_as_before_after_the_command():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with preemption.watched():
        assert signal.getsignal(signal.SIGTERM) != before[0]
        with pytest.raises(preemption.Interrupted, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_postponed_signals_are_told_of_and_raise_where_they_may():
    with preemption.watched(), preemption.postponed():
        assert not preemption.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.requested()
        with pytest.raises(preemption.Interrupted):
            with preemption.immediate():
                raise AssertionError("entered")
        assert preemption.requested()
