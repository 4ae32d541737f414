"""Whole runs on tiny trees: train, be killed, resume, evaluate, and load for inference."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from helpers import commands, small_runs
from helpers.shallow import TWO_STAGES
from helpers.trees import draw_folder_tree, draw_sysu_tree

import jax_mspac
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.runs import config_file
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runs.results import SCORES
from jax_mspac.runtime import parallel
from jax_mspac.training.loop import initial_state, train

ROOT = pathlib.Path(__file__).parents[2]
ROW_KEYS = {"protocol", "mode", "shots", "direction", "feature", "queries", "gallery", *SCORES}


def folder_config(tmp_path, **overrides):
    config = config_lib.default_config("folder")
    config.data.source = str(tmp_path / "tree")
    config.data.data_dir = str(tmp_path / "tfds")
    config.data.height, config.data.width = 32, 16
    config.data.test_fraction, config.data.val_fraction = 0.3, 0.3
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.model.backbone, config.model.width, config.model.parts = TWO_STAGES, 4, (2, 1)
    config.train.steps, config.train.log_every = 6, 1
    config.checkpoint.every, config.eval.every = 2, 3
    config.eval.trials, config.eval.batch = 2, 5
    config.update_from_flattened_dict(overrides)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, workdir, results) of an undisturbed run."""
    tmp_path = tmp_path_factory.mktemp("folder")
    identities = [f"person {i}" for i in range(13)]
    draw_folder_tree(tmp_path / "tree", identities=identities, images=2)
    config = folder_config(tmp_path, **{"eval.baselines": True})
    return config, tmp_path / "run", train(config, tmp_path / "run")


@pytest.fixture
def linear(trained):
    """A config for what does not depend on the network: that of `trained`, of a method that compiles in no time."""
    small_runs.register()
    config = trained[0].copy_and_resolve_references()
    config.method = "linear"
    return config


def metrics_of(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def final_state(config, workdir):
    with Checkpoints(workdir / FOLDER) as checkpoints:
        like = jax.eval_shape(methods.build(config, num_identities=5).init, jax.random.key(0))
        return checkpoints.restore(config.train.steps, like)


def test_run_leaves_everything_behind(trained):
    config, workdir, results = trained
    assert json.loads((workdir / "results.json").read_text()) == results
    rows = results["rows"]
    assert {(row["direction"], row["feature"]) for row in rows} == {
        (direction, feature)
        for direction in ("visible->infrared", "infrared->visible")
        for feature in ("before_neck", "after_neck")
    }
    for row in rows:
        assert set(row) == ROW_KEYS and row["shots"] == 1
        for score in SCORES:
            assert len(row[score]["trials"]) == 2 and 0.0 <= row[score]["mean"] <= 1.0
    assert set(results["baselines"]) == {"chance", "pixels", "hog"}
    assert rows[results["primary"]]["direction"] == config.eval.direction
    assert [line["step"] for line in metrics_of(workdir)] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in metrics_of(workdir) if "val/mAP" in line] == [3, 6]
    assert config_file.load(workdir / "config.json").to_dict() == config.to_dict()
    assert "jax" in json.loads((workdir / "versions.json").read_text())
    assert list((workdir / "tensorboard").iterdir())


def test_interrupted_run_equals_the_undisturbed_one_to_the_bit(trained, tmp_path):
    config, workdir, results = trained
    short = config.copy_and_resolve_references()
    # Interrupted after step 4: the schedule of the whole run, checkpoints up to 4, and a log that ran ahead.
    train(config, tmp_path / "run")
    for step in (5, 6):
        folder = tmp_path / "run" / FOLDER / str(step)
        if folder.exists():
            os.rename(folder, tmp_path / f"gone{step}")
    with Checkpoints(tmp_path / "run" / FOLDER) as checkpoints:
        assert checkpoints.steps[-1] == 4
    assert train(short, tmp_path / "run")["rows"] == results["rows"]
    assert metrics_of(tmp_path / "run") == metrics_of(workdir)
    jax.tree.map(np.testing.assert_array_equal, final_state(config, tmp_path / "run"), final_state(config, workdir))


def test_finished_run_only_evaluates(trained, capsys):
    config, workdir, results = trained
    before = metrics_of(workdir)
    assert train(config, workdir)["rows"] == results["rows"]
    said = capsys.readouterr().out
    assert "resuming from the checkpoint of step 6" in said
    assert said.rstrip().endswith(f"python -m jax_mspac.report --workdir {workdir}")
    assert metrics_of(workdir) == before


def test_evaluate_restores_the_model_whatever_the_command_line_says(trained):
    config, workdir, results = trained
    other = config.copy_and_resolve_references()
    other.model.width, other.model.parts = 8, ()
    assert evaluate_checkpoint(other, workdir)["rows"] == results["rows"]
    other.eval.checkpoint = "5"
    with pytest.raises(UserError, match="no checkpoint of step 5"):
        evaluate_checkpoint(other, workdir)


def test_loaded_model_embeds_what_evaluation_embeds(trained):
    config, workdir, results = trained
    model = jax_mspac.load(workdir)
    assert model.step == 6
    experiment = Experiment.opened(workdir)
    test = experiment.evaluator()
    features = test.embed(experiment.embed(), parallel.replicate(model.variables))[config.eval.feature]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for number, modality in enumerate(("visible", "infrared")):
        positions = np.flatnonzero(test.image_set.modalities == number)
        paths = [pathlib.Path(config.data.source) / test.image_set.paths[i] for i in positions]
        # Two programs resize the images: their pixels differ by a rounding.
        np.testing.assert_allclose(model.embed(paths, modality, batch=3), features[positions], atol=0.02)


@pytest.mark.parametrize(
    "images, modality, message",
    [
        (np.zeros((1, 8, 8, 3), np.uint8), "thermal", "modality is 'thermal'"),
        (np.zeros((1, 8, 8, 3), np.float32), "visible", "expected uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), "visible", "no images"),
        (["missing.png"], "visible", "missing.png"),
    ],
)
def test_wrong_input_to_a_loaded_model_is_named(trained, images, modality, message):
    with pytest.raises(UserError, match=message):
        jax_mspac.load(trained[1]).embed(images, modality)


def test_a_run_starts_from_the_backbone_of_another_that_saw_visible_images_alone(trained, tmp_path):
    config = config_file.load(trained[1] / config_file.FILE)
    first = {"batch.infrared": 0, "loss.mecen.weight": 0.0, "model.parts": (), "model.shared_from": 0}
    first |= {"eval.every": 0, "eval.baselines": False}
    source = config.copy_and_resolve_references()
    source.update_from_flattened_dict(first)
    train(source, tmp_path / "visible")
    config.model.pretrained = str(tmp_path / "visible")
    state = initial_state(config, methods.build(config, num_identities=5))
    given = jax_mspac.load(tmp_path / "visible").variables["embedder"]["params"]["backbone"]["shared"]
    for group in ("visible", "infrared"):
        stem = state.variables["embedder"]["params"]["backbone"][group]["conv1"]["kernel"]
        np.testing.assert_array_equal(stem, given["conv1"]["kernel"])
    outcome = train(config, tmp_path / "both")
    assert metrics_of(tmp_path / "both")[-1]["step"] == config.train.steps and outcome["rows"]


def test_other_settings_in_the_same_workdir_are_refused(trained):
    config, workdir, _ = trained
    other = config.copy_and_resolve_references()
    other.loss.mecen.margin = 0.0
    with pytest.raises(UserError, match=r"config\.loss\.mecen\.margin was 0\.3, now 0\.0"):
        train(other, workdir)


def test_test_identities_choose_no_checkpoint(linear, tmp_path, capsys):
    config = linear
    config.data.val_fraction, config.eval.every, config.train.steps = 0.0, 1, 2
    train(config, tmp_path / "run")
    assert "no val split: watching the test split instead" in capsys.readouterr().out
    assert all("test/mAP" in line for line in metrics_of(tmp_path / "run"))
    with Checkpoints(tmp_path / "run" / FOLDER) as checkpoints:
        assert checkpoints.steps == [1, 2] and checkpoints.best is None


def test_a_first_attempt_without_a_checkpoint_may_be_mended(linear, tmp_path):
    config = linear
    config.batch.identities = 400
    with pytest.raises(UserError, match="config.batch.identities is 400, but only"):
        train(config, tmp_path / "run")
    config.batch.identities, config.eval.every, config.train.steps = 4, 0, 1
    assert train(config, tmp_path / "run")["step"] == 1


def test_divergence_names_the_term_and_keeps_the_checkpoints(trained, tmp_path):
    config, _, _ = trained
    wild = config.copy_and_resolve_references()
    wild.optimizer.learning_rate, wild.optimizer.warmup, wild.eval.every = 1e30, 0.0, 0
    with pytest.raises(UserError, match="training diverged: .* is not finite"):
        train(wild, tmp_path / "run")


def test_devices_that_cannot_share_the_batch_are_counted(trained, tmp_path):
    config = trained[0].copy_and_resolve_references()
    config.batch.identities = 3
    with pytest.raises(UserError, match="batch.identities is 3, which 4 devices cannot share"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("identities", "group", "told"),
    [
        (4, 3, "batch.group_devices is 3, and 4 devices cannot"),
        (4, 1, "batch.identities is 4 for 4 groups .* make it 8"),
    ],
)
def test_groups_of_devices_that_cannot_have_a_batch_each_are_refused(trained, tmp_path, identities, group, told):
    config = trained[0].copy_and_resolve_references()
    config.batch.identities, config.batch.group_devices = identities, group
    with pytest.raises(UserError, match=told):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def command(config_file, *arguments):
    return [sys.executable, "-m", "jax_mspac.main", "--config", str(ROOT / "configs" / config_file), *arguments]


def run(config_file, *arguments):
    """Exit status and output of the command line."""
    done = commands.run("jax_mspac.main", "--config", ROOT / "configs" / config_file, *arguments)
    return done.returncode, done.stdout + done.stderr


def test_sysu_validation_chooses_the_checkpoint_and_the_table_is_of_the_test_split(tmp_path, capsys):
    draw_sysu_tree(tmp_path / "tree", train=range(1, 6), val=range(6, 10), test=range(11, 14), images=2)
    spec = importlib.util.spec_from_file_location("sysu_val", ROOT / "configs" / "sysu_val.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.data.source, config.data.data_dir = str(tmp_path / "tree"), str(tmp_path / "tfds")
    config.data.height, config.data.width = 32, 16
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    small_runs.register()
    config.method, config.model.pretrained = "linear", "none"
    config.train.steps, config.train.log_every, config.checkpoint.every = 6, 1, 6
    config.eval.every, config.eval.trials, config.eval.batch = 2, 2, 5
    config_lib.validate(config)

    trained = train(config, tmp_path / "run")
    scores = {line["step"]: line["val/mAP"] for line in metrics_of(tmp_path / "run") if "val/mAP" in line}
    assert list(scores) == [2, 4, 6]
    best = max(scores, key=lambda step: (scores[step], step))
    evaluated = evaluate_checkpoint(config, tmp_path / "run")
    assert (trained["step"], evaluated["step"]) == (6, best)
    for outcome in (trained, evaluated):
        assert {(row["protocol"], row["mode"]) for row in outcome["rows"]} == {("seeded", "all"), ("seeded", "indoor")}
        # Of three test identities, two images each: two infrared cameras; one image in each of four visible ones.
        assert {(row["mode"], row["queries"], row["gallery"]) for row in outcome["rows"]} == {
            ("all", 12, 12),
            ("indoor", 12, 6),
        }

    val = Experiment(config).evaluator("val")
    (protocol,) = val.protocols
    assert (protocol.name, protocol.mode, len(protocol.trials)) == ("seeded", "validation", 2)
    for trial in protocol.trials:
        assert set(val.image_set.cameras[trial.queries]) == {3} and len(trial.queries) == 8
        assert set(val.image_set.cameras[trial.gallery]) == {4, 5} and len(trial.gallery) == 8


def test_missing_data_is_an_error_that_helps(tmp_path):
    status, output = run("sysu.py", "--workdir", str(tmp_path / "run"), f"--config.data.source={tmp_path / 'nothing'}")
    assert status == 1 and "Traceback" not in output
    for part in (str(tmp_path / "nothing"), "cam1", "exp", "demo"):
        assert part in output


def test_wrong_flags_are_errors_without_a_stack_trace(tmp_path):
    for argument, message in (
        ("--config.train.stepz=3", "stepz"),
        ("--config.train.steps=many", "many"),
        ("--config.train.steps=0", "config.train.steps is 0; expected 1 or more"),
        ("--config.data.train_splits=", "config.data.train_splits is (); expected names of splits"),
        ("--mode=tain", "tain"),
    ):
        status, output = run("demo.py", "--workdir", str(tmp_path / "run"), argument)
        assert status != 0 and message in output, output
        assert "Traceback" not in output, output


@pytest.mark.slow
def test_sysu_run_is_killed_resumes_and_evaluates_both_modes(tmp_path):
    draw_sysu_tree(tmp_path / "SYSU-MM01", train=range(1, 9), val=range(9, 11), test=range(11, 15), images=2)
    arguments = [
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.source={tmp_path / 'SYSU-MM01'}",
        f"--config.data.data_dir={tmp_path / 'tfds'}",
        "--config.data.height=96",
        "--config.data.width=32",
        "--config.model.pretrained=none",
        "--config.model.backbone=resnet10",
        "--config.model.width=4",
        "--config.batch.identities=4",
        "--config.batch.visible=1",
        "--config.batch.infrared=1",
        "--config.train.steps=12",
        "--config.train.log_every=1",
        "--config.checkpoint.every=3",
    ]
    process = subprocess.Popen(
        command("sysu.py", *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 500
    while not any((tmp_path / "run" / FOLDER / str(step)).exists() for step in (3, 6, 9)):
        assert time.monotonic() < deadline and process.poll() is None, process.stdout.read().decode()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run" / "results.json").exists()

    status, output = run("sysu.py", *arguments)
    assert status == 0, output
    assert "resuming from the checkpoint of step" in output
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert {(row["protocol"], row["mode"], row["shots"]) for row in rows} == {
        ("seeded", "all", 1),
        ("seeded", "indoor", 1),
    }
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == list(range(1, 13))

    status, output = run("sysu.py", *arguments, "--mode=evaluate")
    assert status == 0 and "| seeded" in output, output
