"""A table is trained, interrupted, continued and written, on a tiny tree."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import small_runs
from helpers.commands import ROOT, run
from helpers.trees import draw_folder_tree

from jax_mspac import config as config_lib
from jax_mspac import reproduce
from jax_mspac.errors import UserError
from jax_mspac.studies import TABLES
from jax_mspac.training import series

TABLE = TABLES["mecen"]
ROWS = TABLE.chosen(["MSPAC+gid", "+exp"])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("data")
    draw_folder_tree(tmp_path / "tree", identities=[f"person {i}" for i in range(9)], images=2)
    small_runs.register()
    config = config_lib.default_config("folder")
    config.method = "linear"
    config.data.source = str(tmp_path / "tree")
    config.data.data_dir = str(tmp_path / "tfds")
    config.data.height, config.data.width = 32, 16
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.model.width, config.train.steps, config.eval.trials = 4, 1, 2
    return config


@pytest.fixture(scope="module")
def reproduced(config, tmp_path_factory):
    """(workdir, Markdown) of two rows with two seeds, interrupted in the third of the four runs."""
    workdir, runs, train = tmp_path_factory.mktemp("table"), [], series.train

    def interrupted(run, folder):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append(folder)
        return train(run, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reproduce.reproduce(TABLE, ROWS, config, seeds=2, workdir=workdir)
    # The rows with one seed each are there already.
    assert "| +exp      | 1     |" in (workdir / "table.md").read_text()
    kept = {folder: (folder / "results.json").stat().st_mtime_ns for folder in runs}
    text = reproduce.reproduce(TABLE, ROWS, config, seeds=2, workdir=workdir)
    assert kept == {folder: (folder / "results.json").stat().st_mtime_ns for folder in runs}
    return workdir, text


def line_of(row, text):
    """The cells of a row, after an empty one."""
    return next(line for line in text.splitlines() if line.startswith(f"| {row.name} ")).split("|")


def test_table_is_the_mean_of_its_runs(reproduced):
    workdir, text = reproduced
    assert (workdir / "table.md").read_text() == text
    for row in ROWS:
        scores = []
        for seed in (0, 1):
            outcome = json.loads((workdir / reproduce.folder_name(row) / f"seed_{seed}" / "results.json").read_text())
            scores.append(100 * outcome["rows"][outcome["primary"]]["mAP"]["mean"])
        line = "|".join(line_of(row, text))
        assert f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f}" in line
        assert f"{row.slides['mAP']:.2f}" in line
    assert "resnet18, width 4, images 32x16, 1 steps" in text and "4 runs took" in text
    assert (workdir / "table.csv").read_text().count("\n") == 5
    assert (workdir / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_may_be_the_folds_of_a_cross_validation_and_goes_on_in_the_middle(config, tmp_path, monkeypatch):
    config, train_run = config.copy_and_resolve_references(), series.train_run
    config.data.folds, config.data.val_fraction = 2, 0.0
    trained = []

    def interrupted(part, folder):
        if len(trained) == 3:
            raise KeyboardInterrupt
        return recorded(part, folder)

    def recorded(part, folder):
        trained.append(f"{folder.parent.parent.name}/{folder.name}")
        return train_run(part, folder)

    monkeypatch.setattr(series, "train_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce.reproduce(TABLE, ROWS, config, seeds=1, workdir=tmp_path)
    first, second = map(reproduce.folder_name, ROWS)
    assert trained == [f"{first}/fold_1", f"{first}/fold_2", f"{second}/fold_1"]
    # The second row is not finished, and the table has the first one alone.
    assert [line_of(row, (tmp_path / "table.md").read_text())[2].strip() for row in ROWS] == ["1", "0"]
    monkeypatch.setattr(series, "train_run", recorded)
    text = reproduce.reproduce(TABLE, ROWS, config, seeds=1, workdir=tmp_path)
    assert trained[3:] == [f"{second}/fold_2"]
    assert "Each run is the mean of 2 models: fold_1, fold_2." in text
    for row, folder in zip(ROWS, (first, second), strict=True):
        parts = [tmp_path / folder / "seed_0" / fold / "results.json" for fold in ("fold_1", "fold_2")]
        outcomes = [json.loads(part.read_text()) for part in parts]
        mean = np.mean([100 * outcome["rows"][outcome["primary"]]["mAP"]["mean"] for outcome in outcomes])
        assert f"{mean:.2f}" in "|".join(line_of(row, text))


def test_a_finished_table_trains_nothing_and_other_settings_are_refused(reproduced, config, monkeypatch):
    workdir, text = reproduced
    other = config.copy_and_resolve_references()
    other.optimizer.learning_rate = 0.01
    with pytest.raises(UserError, match="learning_rate was 0.1, now 0.01"):
        reproduce.reproduce(TABLE, ROWS, other, seeds=1, workdir=workdir)
    monkeypatch.setattr(series, "train", lambda *_: pytest.fail("a run was trained again"))
    assert reproduce.reproduce(TABLE, ROWS, config, seeds=2, workdir=workdir) == text


def test_a_run_that_fails_leaves_the_others_their_turn(config, tmp_path, monkeypatch):
    train = series.train

    def failing(run, folder):
        if run.loss.mecen.weight == 0:
            raise UserError("the loss is not finite in step 1")
        return train(run, folder)

    monkeypatch.setattr(series, "train", failing)
    with pytest.raises(UserError) as raised:
        reproduce.reproduce(TABLE, ROWS, config, seeds=2, workdir=tmp_path)
    assert str(raised.value) == (
        "2 of 4 runs failed.\nMSPAC+gid, seed 0; MSPAC+gid, seed 1: the loss is not finite in step 1"
    )
    text = (tmp_path / "table.md").read_text()
    assert "| MSPAC+gid | 0     | -" in text and "| +exp      | 2     |" in text


def test_a_row_that_does_not_fit_is_refused_before_anything_is_trained(config, tmp_path):
    unfit = config.copy_and_resolve_references()
    unfit.method, unfit.data.height = "mspac", 80
    with pytest.raises(UserError, match=r"row MSPAC\+gid: .*\n.*model.parts is \(6, 3, 1\); expected what divides"):
        reproduce.reproduce(TABLE, ROWS, unfit, seeds=1, workdir=tmp_path / "table")
    assert not (tmp_path / "table").exists()


def command(*arguments):
    return run("jax_mspac.reproduce", *arguments)


def test_the_command_starts_without_an_error():
    started = [sys.executable, "-m", "jax_mspac.reproduce", "--table", "mecen", "--list"]
    done = subprocess.run(started, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith("MSPAC+gid\n") and done.stderr == ""


@pytest.mark.parametrize("table", ["attention", "parts", "mecen"])
def test_list_prints_the_rows_one_a_line(table):
    done = command("--table", table, "--list")
    assert done.returncode == 0 and done.stdout.splitlines() == [row.name for row in TABLES[table].rows]


def test_mistakes_end_with_one_line():
    for arguments, expected in (
        ([], "--table is required"),
        (["--table", "mecen"], "--config is required"),
        (["--table", "mecen", "--config", "configs/study.py", "--row", "+exq"], "no row +exq; its rows are MSPAC+gid"),
        (["--table", "mecen", "--config", "configs/study.py", "--config.train.step=1"], "there is no such setting"),
    ):
        done = command(*arguments)
        assert done.returncode != 0 and expected in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
