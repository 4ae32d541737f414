"""A data set is one file and one line in a table: every command then knows it, its fields and its protocol."""

import json

import numpy as np
import pytest
from helpers import pages, small_runs
from helpers.trees import draw_person
from scipy.spatial.distance import cdist

from jax_mspac import config as config_lib
from jax_mspac import main, prepare, report
from jax_mspac.data import registry
from jax_mspac.errors import UserError
from jax_mspac.metrics import evaluate
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.runs.experiment import Experiment

FLAT = pages.module_of("extend.md", "A data set").FLAT


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.DATA_SETS, "flat", FLAT)
    small_runs.register()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("flat")
    for identity in range(1, 10):
        for camera in (1, 2, 3):
            for modality in "vi":
                person = draw_person(identity, camera, 0, infrared=modality == "i")
                person.save(root / f"{identity}_c{camera}_{modality}.png")
    return root


def flat_config(source, data_dir):
    config = config_lib.default_config("flat")
    config.method = "linear"
    config.data.source, config.data.data_dir = str(source), str(data_dir)
    config.data.height, config.data.width = 32, 16
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.train.steps, config.checkpoint.every, config.eval.every = 4, 2, 4
    return config


def test_it_is_prepared_trained_reported_and_scored(source, tmp_path, capsys, monkeypatch):
    prepare.prepare("flat", source=str(source), data_dir=str(tmp_path / "tfds"))
    output = capsys.readouterr().out
    assert "warning: train, visible: 15 images, but the complete set has 20" in output
    assert "python -m jax_mspac.main --config configs/flat.py" in output
    config = flat_config(source, tmp_path / "tfds")
    run = tmp_path / "run"
    main.run(config, run, "train")
    row, _ = json.loads((run / "results.json").read_text())["rows"]
    # Identities 6 to 9 in three cameras and two modalities.
    assert (row["protocol"], row["queries"], row["gallery"]) == ("flat", 12, 12)
    config.eval.other_cameras = True
    main.run(config, run, "evaluate")
    other, _ = json.loads((run / "results.json").read_text())["rows"]
    assert other["mAP"]["mean"] != row["mAP"]["mean"]
    page = report.report(run).read_text()
    assert "first_test" in page and "other_cameras" in page

    images = Experiment(config).images("test")
    features = np.random.default_rng(0).standard_normal((len(images), 8))
    sides = [images.modalities == MODALITIES.index(name) for name in (INFRARED, VISIBLE)]
    keys = {"features": features, "ids": images.identities, "cams": images.cameras}
    names = ("query", "gallery")
    arrays = {f"{n}_{key}": value[side] for n, side in zip(names, sides, strict=True) for key, value in keys.items()}
    np.savez(tmp_path / "given.npz", **arrays, direction="infrared->visible")
    config.eval.other_cameras = False
    main.run(config, tmp_path / "scored", "score", features=tmp_path / "given.npz")
    (scored,) = json.loads((tmp_path / "scored" / "results.json").read_text())["rows"]
    expected = evaluate(cdist(features[sides[0]], features[sides[1]], "cosine"), *(images.identities[s] for s in sides))
    assert scored["mAP"]["mean"] == pytest.approx(expected.mAP, abs=1e-6)


def test_its_field_is_a_setting_of_the_config_and_a_flag_of_prepare(source, tmp_path):
    assert config_lib.default_config("flat").data.first_test == 6
    assert "first_test" not in config_lib.default_config("folder").data
    for first, test in ((4, 36), (8, 12)):
        config = flat_config(source, tmp_path / "tfds")
        config.data.first_test = first
        assert len(Experiment(config).images("test")) == test
    with pytest.raises(UserError, match=r"config\.data\.first_test is 1: no identity is left for train"):
        prepare.prepare("flat", source=str(source), data_dir=str(tmp_path / "tfds"), fields={"first_test": 1})


def test_another_config_names_its_field(source, tmp_path):
    config = flat_config(source, tmp_path / "tfds")
    config.data.name = "folder"
    with pytest.raises(UserError, match="first_test"):
        config_lib.validate(config)
