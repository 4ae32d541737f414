"""Several processes with several devices each are the same run as one, and end together whatever happens to one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from helpers import sets
from helpers.joint_runs import Run, linear_config, network_config, run
from helpers.small_runs import end, kill, killed_after, metrics_of, tensorboard_steps
from helpers.trees import draw_folder_tree

from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.runs.checkpoints import FOLDER
from jax_mspac.runtime import distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tree, prepared."""
    folder = tmp_path_factory.mktemp("joint")
    draw_folder_tree(folder / "tree", identities=[f"person {i}" for i in range(17)], images=2)
    sets.prepared(network_config(folder).data)
    return folder


@pytest.fixture(scope="module")
def four_devices(folder):
    """Workdir of an undisturbed run of one process with four devices."""
    run(network_config(folder), folder / "four", devices=4)
    return folder / "four"


@pytest.fixture(scope="module")
def two_processes(folder):
    """Workdir of an undisturbed run of two processes with two devices each, and what they said."""
    return folder / "two", run(network_config(folder), folder / "two", processes=2, devices=2)


@pytest.fixture(scope="module")
def linear(folder):
    """Workdir of an undisturbed run of `linear_config`, of one process with four devices."""
    run(linear_config(folder), folder / "linear", devices=4)
    return folder / "linear"


def assert_same_run(one, other):
    """The same logs and the same table, but for rounding."""
    before, after = metrics_of(one), metrics_of(other)
    assert [line["step"] for line in after] == [line["step"] for line in before] == list(range(1, 21))
    assert tensorboard_steps(other) == list(range(1, 21))
    for old, new in zip(before, after, strict=True):
        assert new.keys() == old.keys()
        # The norm of a gradient adds up millions of roundings.
        for name in old.keys() - {"gradient_norm"}:
            assert new[name] == pytest.approx(old[name], abs=1e-5), (old["step"], name)
        assert new.get("gradient_norm", 0) == pytest.approx(old.get("gradient_norm", 0), rel=1e-3)
    tables = [json.loads((workdir / "results.json").read_text()) for workdir in (one, other)]
    assert tables[1]["rows"] == tables[0]["rows"]


def test_two_processes_are_the_run_of_one(four_devices, two_processes):
    workdir, said = two_processes
    assert_same_run(four_devices, workdir)
    assert "Results of step 20" in said[0] and "step 20/20" in said[0]
    # Threads of Gloo write past Python, into each other's lines, whose ends may then stand together.
    assert all("peer ranks" in line for line in filter(None, said[1].splitlines())), said[1]


def test_one_device_is_the_run_of_four(folder, four_devices):
    run(network_config(folder), folder / "one", devices=1)
    assert_same_run(four_devices, folder / "one")


def test_a_metric_that_two_processes_fit_to_learned_features_is_the_one_of_one(folder, tmp_path):
    config = network_config(folder, **{"method": "tone_hcml", "train.steps": 4, "checkpoint.every": 4})
    config = methods.configured(config, chosen=["batch.visible", "batch.infrared", "batch.identities"])
    config.model.embedding_dim, config.metric.dims = 16, 8
    run(config, tmp_path / "one", devices=2)
    said = run(config, tmp_path / "two", processes=2, devices=1)
    assert "fitting a metric to features of 36 training images" in said[0]
    tables = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    assert tables[1]["rows"] == tables[0]["rows"]
    assert "metric" in {row["feature"] for row in tables[0]["rows"]}


@pytest.mark.slow
@pytest.mark.parametrize("processes, devices", [(1, 1), (1, 2), (1, 8), (2, 2)])
def test_a_checkpoint_of_four_devices_goes_on_elsewhere(folder, four_devices, tmp_path, processes, devices):
    workdir = killed_after(four_devices, 15, tmp_path / "run")
    said = run(network_config(folder), workdir, processes=processes, devices=devices)
    assert "resuming from the checkpoint of step 15" in said[0]
    assert_same_run(four_devices, workdir)


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_goes_on_in_one(folder, two_processes, tmp_path):
    workdir = killed_after(two_processes[0], 15, tmp_path / "run")
    assert "resuming from the checkpoint of step 15" in run(network_config(folder), workdir)[0]
    assert_same_run(two_processes[0], workdir)


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(folder, four_devices, tmp_path):
    workdir = shutil.copytree(four_devices, tmp_path / "run")
    before = json.loads((workdir / "results.json").read_text())
    (workdir / "results.json").unlink()
    run(network_config(folder), workdir, processes=2, devices=1, mode="evaluate")
    assert json.loads((workdir / "results.json").read_text())["rows"] == before["rows"]


@pytest.mark.slow
def test_a_signal_to_one_process_saves_all_and_the_run_goes_on(folder, linear, tmp_path):
    config, workdir = linear_config(folder), tmp_path / "run"
    with Run([config] * 2, [workdir] * 2, devices=2, pause=0.3) as started:
        _await_steps(started, workdir, 2)
        os.kill(started.processes[1].pid, signal.SIGTERM)
        statuses, said = started.end()
    assert statuses == [75, 75], said
    steps = [line["step"] for line in metrics_of(workdir)]
    assert steps[-1] < 20 and (workdir / FOLDER / str(steps[-1])).is_dir()
    run(config, workdir, processes=2, devices=2)
    assert_same_run(linear, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("victim, name", [(0, "leader"), (1, "unhealthy (stopped sending heartbeats):\n1")])
def test_the_death_of_one_process_ends_the_other_with_its_name(folder, linear, tmp_path, victim, name):
    config, workdir = linear_config(folder), tmp_path / "run"
    with Run([config] * 2, [workdir] * 2, devices=2, pause=0.3) as started:
        _await_steps(started, workdir, 7)
        kill(started.processes[victim])
        start = time.monotonic()
        status = end(started.processes[1 - victim], timeout=100)
        assert status != 0 and time.monotonic() - start < 60
        assert name in started.outputs[1 - victim].read_text()
    # Whoever dies, what is left on disk is the same.
    if victim == 0:
        run(config, workdir, processes=2, devices=2)
        assert_same_run(linear, workdir)


def _await_steps(started, workdir, steps):
    deadline = time.monotonic() + 400
    while not (workdir / "metrics.jsonl").exists() or len(metrics_of(workdir)) < steps:
        assert time.monotonic() < deadline, [output.read_text() for output in started.outputs]
        time.sleep(0.02)


def test_what_one_process_cannot_do_ends_all_with_the_reason(folder, linear, tmp_path):
    """Of each pair of processes, the second differs from the first in what the message names."""
    workdir = killed_after(linear, 15, tmp_path / "run")
    config = linear_config(folder)
    elsewhere = linear_config(folder, **{"data.source": str(tmp_path / "nothing"), "data.data_dir": str(tmp_path)})
    draw_folder_tree(tmp_path / "tree", identities=[f"someone {i}" for i in range(17)], images=1)
    others = linear_config(tmp_path)
    for configs, workdirs, messages in (
        ((config, config), (workdir, tmp_path / "other"), ("which all hosts must share: process 1 and process 0",) * 2),
        ((config, others), (workdir, workdir), ("the images of train: process 1 and process 0",) * 2),
        ((config, elsewhere), (workdir, workdir), ("process 1 failed", str(tmp_path / "nothing"))),
    ):
        with Run(configs, workdirs, devices=1) as started:
            statuses, said = started.end()
        assert statuses == [1, 1], said
        for text, message in zip(said, messages, strict=True):
            assert f"error: {message}" in text or message in text.partition("error: ")[2], text
            assert "Traceback" not in text, text


def test_missing_and_contradicting_flags_are_named():
    complete = {"coordinator_address": "localhost:1", "num_processes": 2, "process_id": 0}
    for arguments, message in (
        ({"process_id": 0}, "--process_id given without --coordinator_address, --num_processes"),
        ({**complete, "num_processes": None}, "--coordinator_address, --process_id given without --num_processes"),
        ({**complete, "detect": True}, "--distributed finds everything by itself; give it or --coordinator_address"),
        ({**complete, "coordinator_address": "host"}, "--coordinator_address is 'host'; expected HOST:PORT"),
        ({**complete, "process_id": 2}, "--process_id is 2; expected 0 to 1"),
    ):
        with pytest.raises(UserError, match=message), distributed.joined(**arguments):
            pytest.fail("joined")
    with distributed.joined():
        assert not jax.distributed.is_initialized() and distributed.is_main()


def test_a_host_without_a_cluster_is_told_what_to_give(tmp_path):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "KUBERNETES"))}
    command = [sys.executable, "-m", "jax_mspac.main", "--config", "configs/demo.py", "--distributed"]
    done = subprocess.run(
        [*command, "--workdir", str(tmp_path)],
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
        env=plain,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: --distributed finds no other processes here" in done.stderr
    assert "--coordinator_address=HOST:PORT of process 0, --num_processes and --process_id" in done.stderr


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, None),
        ({"JAX_LOCAL_DEVICE_IDS": "3"}, None),
    ],
)
def test_a_process_alone_on_its_host_has_all_devices(monkeypatch, environment, expected):
    for name in ("SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE", "JAX_LOCAL_DEVICE_IDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments, **named: given.update(named))
    with distributed.joined(detect=True):
        pass
    assert given["local_device_ids"] == expected


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
def test_shares_are_of_one_size_and_hold_every_position_in_order(monkeypatch, count):
    positions = np.arange(count) * 10
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        shares.append(distributed.share(positions))
    assert len({len(share) for share in shares}) == 1
    np.testing.assert_array_equal(np.concatenate(shares)[:count], positions)
