"""Series of runs on tiny trees: averaged, interrupted, continued, evaluated; and the folds of a cross-validation."""

import json
import shutil

import jax
import numpy as np
import pytest
from helpers import sets, small_runs
from helpers.sets import load_split
from helpers.trees import draw_folder_tree, draw_regdb_tree

import jax_mspac
from jax_mspac import config as config_lib
from jax_mspac.data import regdb
from jax_mspac.data.data_set import ImageFile
from jax_mspac.data.splits import split_identities
from jax_mspac.errors import UserError
from jax_mspac.runs import config_file, results
from jax_mspac.runs.checkpoints import Checkpoints
from jax_mspac.training import series

NAMES = ["trial_1", "trial_2"]


@pytest.fixture(scope="module", autouse=True)
def two_trials():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regdb, "TRIALS", 2)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, workdir, results) of an undisturbed series."""
    tmp_path = tmp_path_factory.mktemp("series")
    draw_regdb_tree(tmp_path / "tree", train=(1, 2, 3, 4), test=(5, 6, 7, 8, 9), trials=2)
    small_runs.register()
    config = config_lib.default_config("regdb")
    config.method = "linear"
    with config.unlocked():
        config.data.trial = 0
    config.data.source, config.data.data_dir = str(tmp_path / "tree"), str(tmp_path / "tfds")
    config.data.height, config.data.width = 32, 16
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.model.width, config.model.parts = 4, ()
    config.train.steps, config.checkpoint.every, config.eval.every = 2, 1, 0
    config.eval.baselines = True
    return config, tmp_path / "run", series.train(config, tmp_path / "run")


@pytest.fixture
def copied(trained, tmp_path):
    """(config, workdir) of a copy that a test may spoil."""
    config, workdir, _ = trained
    shutil.copytree(workdir, tmp_path / "run")
    return config.copy_and_resolve_references(), tmp_path / "run"


def read(path):
    return json.loads((path / results.JSON_FILE).read_text())


def identify(row):
    return row["direction"], row["feature"]


def test_average_is_the_mean_and_deviation_of_the_parts(trained):
    config, workdir, outcome = trained
    assert outcome == read(workdir)
    parts = [read(workdir / name) for name in NAMES]
    assert outcome["steps"] == dict.fromkeys(NAMES, 2)
    assert len(outcome["rows"]) == len(parts[0]["rows"]) == 4
    for row in outcome["rows"]:
        of_parts = [next(r for r in part["rows"] if identify(r) == identify(row)) for part in parts]
        assert set(row) == set(of_parts[0]) and row["shots"] is None
        # The second trial tests on the four identities that the first trains on.
        assert [r["queries"] for r in of_parts] == [10, 8] and row["queries"] == row["gallery"] == 9
        for score in results.SCORES:
            values = [r[score]["mean"] for r in of_parts]
            mean = sum(values) / 2
            assert row[score]["trials"] == values
            np.testing.assert_allclose(row[score]["mean"], mean)
            np.testing.assert_allclose(row[score]["std"], abs(values[0] - values[1]) / 2, atol=1e-12)
    # Otherwise the deviation would be zero whatever it is computed from.
    assert any(row["mAP"]["std"] > 0 for row in outcome["rows"])
    assert identify(outcome["rows"][outcome["primary"]]) == (config.eval.direction, config.eval.feature)
    for name, baseline in outcome["baselines"].items():
        for score, value in baseline.items():
            np.testing.assert_allclose(value, np.mean([part["baselines"][name][score] for part in parts]))
    assert "Mean of 2 trials, one model each; ± is the standard deviation over them." in outcome["notes"]
    assert outcome["notes"].count("Splits as in idx.") == 1
    assert " ± " in (workdir / results.MARKDOWN_FILE).read_text()
    assert [config_file.load(workdir / name / config_file.FILE).data.trial for name in NAMES] == [1, 2]


def test_an_interrupted_series_goes_on_where_it_stopped(trained, copied, monkeypatch, capsys):
    outcome, (config, workdir) = trained[2], copied
    shutil.rmtree(workdir / "trial_2")
    (workdir / results.JSON_FILE).unlink()
    times = {path: path.stat().st_mtime_ns for path in (workdir / "trial_1").rglob("*")}
    save = Checkpoints.save

    def interrupted(self, state, **options):
        if int(state.step) == 2:
            raise KeyboardInterrupt
        save(self, state, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            series.train(config, workdir)
    so_far = read(workdir)
    assert "Mean of 1 of 2 trials; not trained yet: trial_2." in so_far["notes"]
    assert so_far["steps"] == {"trial_1": 2}

    assert series.train(config, workdir) == outcome == read(workdir)
    assert {path: path.stat().st_mtime_ns for path in (workdir / "trial_1").rglob("*")} == times
    output = capsys.readouterr().out
    assert output.count("finished already: trial_1\n") == output.count("\ntrial_2 of 2: 1 left to train\n") == 2
    assert "resuming from the checkpoint of step 1" in output


def pretend(monkeypatch, workdir):
    """Parts train in no time, to the results that they have in `workdir`; gives the list of those that do."""
    done, trained = {name: read(workdir / name) for name in NAMES}, []

    def train_run(part, path):
        trained.append(path.name)
        return done[path.name]

    monkeypatch.setattr(series, "train_run", train_run)
    return trained


def test_programs_of_a_run_are_dropped_after_it(copied, monkeypatch):
    config, workdir = copied
    programs, held = jax.jit(lambda x: x + 1), []
    ran = pretend(monkeypatch, workdir)
    done = series.train_run

    def train_run(part, path):
        held.append(programs._cache_size())
        programs(1)
        return done(part, path)

    monkeypatch.setattr(series, "train_run", train_run)
    for name in NAMES:
        shutil.rmtree(workdir / name)
    series.train(config, workdir)
    assert ran == NAMES
    assert held == [0, 0] and programs._cache_size() == 0


def test_time_left_is_that_of_the_parts_before(copied, monkeypatch, capsys):
    config, workdir = copied
    ran = pretend(monkeypatch, workdir)
    for name in NAMES:
        shutil.rmtree(workdir / name)
    clock = iter([0.0, 3600.0, 3600.0, 5400.0])
    monkeypatch.setattr(series.time, "monotonic", lambda: next(clock))
    series.train(config, workdir)
    assert ran == NAMES
    output = capsys.readouterr().out
    assert "\ntrial_1 of 2: 2 left to train\n" in output
    assert "\ntrial_2 of 2: 1 left to train, about 1:00:00\n" in output


def test_only_parts_that_are_not_as_wanted_train(trained, copied, monkeypatch):
    outcome, (config, workdir) = trained[2], copied
    ran = pretend(monkeypatch, workdir)
    config.data.data_dir, config.checkpoint.keep = "/elsewhere", 7
    assert series.train(config, workdir) == outcome and ran == []
    other = config.copy_and_resolve_references()
    other.eval.direction = "visible->infrared"
    series.train(other, workdir)
    assert ran == NAMES
    ran.clear()
    other.train.steps = 3
    with pytest.raises(UserError, match=r"config\.train\.steps was 2, now 3"):
        series.train(other, workdir)
    (workdir / "trial_2" / results.JSON_FILE).unlink()
    series.train(config, workdir)
    assert ran == ["trial_2"]


def test_evaluation_with_other_settings_is_averaged_and_not_taken_for_training(trained, copied, monkeypatch):
    outcome, (config, workdir) = trained[2], copied
    config.eval.flip = True
    flipped = series.evaluate(config, workdir)
    assert flipped == read(workdir) and flipped["rows"] != outcome["rows"]
    for row in flipped["rows"]:
        of_parts = [next(r for r in read(workdir / n)["rows"] if identify(r) == identify(row)) for n in NAMES]
        assert row["mAP"]["trials"] == [r["mAP"]["mean"] for r in of_parts]
    ran = pretend(monkeypatch, workdir)
    config.eval.flip = False
    series.train(config, workdir)
    assert ran == NAMES


def test_evaluate_names_the_parts_that_are_missing(trained, copied):
    outcome, (config, workdir) = trained[2], copied
    shutil.rmtree(workdir / "trial_2")
    partial = series.evaluate(config, workdir)
    assert "Mean of 1 of 2 trials; not trained yet: trial_2." in partial["notes"]
    for row, whole in zip(partial["rows"], outcome["rows"], strict=True):
        assert row["mAP"]["trials"] == whole["mAP"]["trials"][:1]
    shutil.rmtree(workdir / "trial_1")
    with pytest.raises(UserError, match="no checkpoint of trial_1, trial_2: train first"):
        series.evaluate(config, workdir)


def test_checkpoints_of_different_steps_are_told(trained):
    outcomes = {name: read(trained[1] / name) for name in NAMES}
    outcomes["trial_2"]["step"] = 1
    assert "Checkpoints of different steps: trial_1 2, trial_2 1." in series.average(outcomes, NAMES)["notes"]


def test_a_series_and_a_single_run_do_not_share_a_folder(copied):
    config, workdir = copied
    config.data.trial = 2
    for command in (series.train, series.evaluate):
        with pytest.raises(UserError, match=r"holds a series of 2 runs, .* a single run(.|\n)*trial was 0, now 2"):
            command(config, workdir)
    # In a folder of its own a part of the series is a run like any other.
    assert series.evaluate(config, workdir / "trial_2") == read(workdir / "trial_2")
    config.data.trial = 0
    for command in (series.train, series.evaluate):
        with pytest.raises(UserError, match=r"holds a single run, .* a series of 2 runs(.|\n)*trial was 2, now 0"):
            command(config, workdir / "trial_2")
    config.optimizer.momentum = 0.5
    with pytest.raises(UserError, match=r"config\.optimizer\.momentum was 0\.9, now 0\.5"):
        series.train(config, workdir)
    assert config_file.load(workdir / config_file.FILE).optimizer.momentum == 0.9


def test_a_part_of_another_series_is_refused(copied):
    config, workdir = copied
    (workdir / config_file.FILE).unlink()
    config.optimizer.momentum = 0.5
    with pytest.raises(UserError, match=r"trial_1 holds a run with other settings(.|\n)*momentum was 0\.9, now 0\.5"):
        series.train(config, workdir)


def test_loading_a_series_names_a_part(trained):
    _, workdir, _ = trained
    with pytest.raises(UserError, match=r"several runs \(trial_1, trial_2\); load one of them, .*/run/trial_1"):
        jax_mspac.load(workdir)
    assert jax_mspac.load(workdir / "trial_2").config.data.trial == 2


def test_averages_of_different_protocols_are_refused(trained):
    _, workdir, _ = trained
    outcomes = {name: read(workdir / name) for name in NAMES}
    del outcomes["trial_2"]["rows"][0]
    with pytest.raises(UserError, match="trial_2 and trial_1 have results of different protocols"):
        series.average(outcomes, NAMES)


def test_baselines_are_averaged_only_if_all_parts_have_them(trained):
    _, workdir, _ = trained
    outcomes = {name: read(workdir / name) for name in NAMES}
    outcomes["trial_1"]["baselines"]["pretrained"] = {"rank1": 0.5, "mAP": 0.5}
    assert set(series.average(outcomes, NAMES)["baselines"]) == {"chance", "pixels", "hog"}
    del outcomes["trial_2"]["baselines"]
    assert "baselines" not in series.average(outcomes, NAMES)


def data_config(name, **data):
    config = config_lib.default_config()
    with config.unlocked():
        config.data.update({"name": name, **data})
    return config


def test_what_is_a_series(monkeypatch):
    monkeypatch.setattr(regdb, "TRIALS", 10)
    trials = series.parts_of(data_config("regdb", trial=0))
    assert [*trials] == [f"trial_{number:02}" for number in range(1, 11)]
    assert [part.data.trial for part in trials.values()] == [*range(1, 11)]
    folds = series.parts_of(data_config("folder", folds=5, fold=0))
    assert {name: (part.data.folds, part.data.fold) for name, part in folds.items()} == {
        f"fold_{number}": (5, number) for number in range(1, 6)
    }
    for single in (
        data_config("regdb", trial=3),
        data_config("folder"),
        data_config("folder", folds=0, fold=0),
        data_config("folder", folds=5, fold=2),
        data_config("synthetic"),
    ):
        assert series.parts_of(single) == {}


def photographs(count, *, single=()):
    """Photographs of `count` identities with both modalities, and of some with visible images only."""
    both = [ImageFile(f"{m}/{i:02}/0.png", f"{i:02}", m, m) for i in range(count) for m in ("visible", "infrared")]
    return both + [ImageFile(f"visible/{name}/0.png", name, "visible", "visible") for name in single]


@pytest.mark.parametrize(("count", "folds"), [(10, 5), (13, 3), (4, 2), (23, 10)])
def test_folds_test_on_every_identity_once(count, folds):
    def split(fold, seed=0):
        splits, problems = split_identities(
            photographs(count, single=("x",)),
            test_names=None,
            test_fraction=0.4,
            val_fraction=0.0,
            seed=seed,
            folds=folds,
            fold=fold,
        )
        assert not problems
        return splits

    tests = [split(fold)["test"] for fold in range(1, folds + 1)]
    assert sorted(name for test in tests for name in test) == [f"{i:02}" for i in range(count)]
    assert {len(test) for test in tests} <= {count // folds, count // folds + 1}
    for fold, test in enumerate(tests, 1):
        assert split(fold) == {"train": frozenset(f"{i:02}" for i in range(count)) - test | {"x"}, "test": test}
    assert any(split(1, seed)["test"] != tests[0] for seed in (1, 2, 3, 4))


def test_validation_identities_of_a_fold_come_from_the_others():
    for fold in (1, 2, 3):
        splits, problems = split_identities(
            photographs(12), test_names=None, test_fraction=1.0, val_fraction=0.25, seed=0, folds=3, fold=fold
        )
        assert not problems and {name: len(split) for name, split in splits.items()} == {
            "train": 6,
            "val": 2,
            "test": 4,
        }
        assert len(frozenset.union(*splits.values())) == 12


def test_a_fold_is_prepared_and_impossible_folds_are_explained(tmp_path):
    draw_folder_tree(tmp_path / "photos")
    (tmp_path / "test.txt").write_text("anna\nben\n")

    def build(**options):
        return sets.build("folder", source=str(tmp_path / "photos"), data_dir=str(tmp_path / "tfds"), **options)

    names = []
    for fold in (1, 2):
        builder = build(folds=2, fold=fold)
        builder.download_and_prepare()
        names += load_split(builder, "test").identity_names
    assert sorted(names) == ["anna", "ben", "carl", "dora", "emil"]
    for options, message in (
        ({"folds": 2, "fold": 3}, "config.data.fold is 3; expected 1 to 2, or 0 for all"),
        ({"folds": 2, "fold": -1}, "config.data.fold is -1; expected 1 to 2"),
        ({"folds": 2}, "config.data.fold is 0, which stands for all 2 folds"),
        ({"fold": 1}, "config.data.fold is 1; expected 0, as config.data.folds is 0"),
        ({"folds": 1}, "config.data.folds is 1; expected 0 .* or 2 or more"),
        ({"folds": 2, "fold": 1, "test_identities": str(tmp_path / "test.txt")}, "folds is 2 and .*test_identities"),
        ({"folds": 3, "fold": 1}, "config.data.folds is 3, but 5 identities .*at least 6"),
    ):
        with pytest.raises(UserError, match=message):
            build(**options).download_and_prepare()


def test_trial_zero_of_a_single_set_is_explained(tmp_path):
    with pytest.raises(UserError, match="config.data.trial is 0: that stands for all trials"):
        sets.build("regdb", source=str(tmp_path), data_dir=None, trial=0)
