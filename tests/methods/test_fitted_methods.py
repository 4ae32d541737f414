"""Methods that end with a metric: whole runs on small drawn trees."""

import json

import numpy as np
import pytest
from helpers.shallow import TWO_STAGES
from helpers.trees import draw_folder_tree

import jax_mspac
from jax_mspac import config as config_lib
from jax_mspac import main, methods, report
from jax_mspac.classical import FEATURES, METRICS
from jax_mspac.classical.projections import project
from jax_mspac.data.batches import in_order
from jax_mspac.errors import UserError
from jax_mspac.runs import config_file, results
from jax_mspac.runs.experiment import Experiment


def config_of(folder, method, **changes):
    config = config_lib.default_config("folder")
    config.method, config.recipe = method, "config"
    config.data.source = str(folder / "tree")
    config.data.data_dir = str(folder / "tfds")
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.train.steps, config.train.log_every, config.checkpoint.every, config.eval.every = 2, 1, 1, 0
    config.eval.trials, config.eval.batch = 2, 8
    config.model.backbone, config.model.width, config.metric.dims = TWO_STAGES, 4, 5
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    draw_folder_tree(folder / "tree", identities=[f"person {i}" for i in range(10)], images=2)
    return folder


@pytest.fixture(scope="module")
def handcrafted_run(folder):
    config = config_of(folder, "hog_lfda", **{"data.height": 48, "data.width": 24})
    main.run(config, folder / "hog", "train")
    return folder / "hog"


def images_of(workdir, split):
    config = config_file.load(workdir / config_file.FILE)
    image_set = Experiment(config).images(split)
    order = np.arange(len(image_set))
    size = {"height": config.data.height, "width": config.data.width}
    return image_set, np.concatenate(list(in_order(image_set, order, batch=8, **size)))


def test_a_handcrafted_system_is_its_descriptor_and_its_metric(handcrafted_run):
    train_set, images = images_of(handcrafted_run, "train")
    ids, modalities = train_set.identities, train_set.modalities
    projection = METRICS["lfda"].fit(
        FEATURES["hog"].extract(images), ids, modalities, dims=5, max_images=len(ids), seed=0
    )
    test_set, images = images_of(handcrafted_run, "test")
    model = jax_mspac.load(handcrafted_run)
    for number, modality in enumerate(("visible", "infrared")):
        pixels = images[test_set.modalities == number]
        expected = project(projection, FEATURES["hog"].extract(pixels), number)
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(model.embed(pixels, modality), expected, atol=1e-4)


def test_its_results_are_of_the_metric_alone(handcrafted_run):
    outcome = json.loads((handcrafted_run / results.JSON_FILE).read_text())
    assert {row["feature"] for row in outcome["rows"]} == {"metric"} and outcome["step"] == 2


def test_a_finished_fit_is_evaluated_and_not_fitted_again(folder, handcrafted_run, capsys, monkeypatch):
    before = json.loads((handcrafted_run / results.JSON_FILE).read_text())["rows"]
    monkeypatch.setattr(METRICS["lfda"], "fit", lambda *_, **__: pytest.fail("fitted again"))
    config = config_of(folder, "hog_lfda", **{"data.height": 48, "data.width": 24})
    main.run(config, handcrafted_run, "train")
    # The run itself says of which method it is.
    main.run(config_of(folder, "mspac"), handcrafted_run, "evaluate")
    assert json.loads((handcrafted_run / results.JSON_FILE).read_text())["rows"] == before


def test_a_report_tells_of_it(handcrafted_run):
    page = report.report(handcrafted_run).read_text()
    assert "Method hog_lfda" in page and "feature metric" in page and "does not tell what it attends to" in page


def test_tone_with_a_metric_is_tone_and_the_metric(folder):
    config = config_of(folder, "tone_hcml", **{"data.height": 32, "data.width": 16, "model.embedding_dim": 6})
    workdir = folder / "tone"
    main.run(config, workdir, "train")
    rows = json.loads((workdir / results.JSON_FILE).read_text())["rows"]
    assert {row["feature"] for row in rows} == {"before_neck", "after_neck", "metric"}
    train_set, images = images_of(workdir, "train")
    model = jax_mspac.load(workdir)
    lengthened = {}  # the model's features are unit, and the metric is of those that are not
    for number, modality in enumerate(("visible", "infrared")):
        outputs = model._embed(model.variables, images[train_set.modalities == number], modality)
        lengthened[number] = outputs["before_neck"], outputs["metric"]
    features = np.zeros((len(train_set), 6), np.float32)
    for number, (source, _) in lengthened.items():
        features[train_set.modalities == number] = source
    ids, modalities = train_set.identities, train_set.modalities
    projection = METRICS["hcml"].fit(features, ids, modalities, dims=5, max_images=len(ids), seed=config.seed)
    for number, (source, projected) in lengthened.items():
        np.testing.assert_allclose(projected, project(projection, source, number), rtol=2e-2, atol=2e-3)


def test_too_few_identities_are_an_error_that_says_so(tmp_path):
    draw_folder_tree(tmp_path / "tree", identities=["one", "two", "three", "four"], images=2)
    (tmp_path / "test.txt").write_text("one\ntwo\nthree\n")
    changes = {"data.test_identities": str(tmp_path / "test.txt"), "batch.identities": 2}
    config = config_of(tmp_path, "hog_kissme", **changes, **{"data.height": 32, "data.width": 16})
    with pytest.raises(UserError, match="identit"):
        main.run(config, tmp_path / "run", "train")


def test_a_feature_that_the_method_lacks_is_named(folder, handcrafted_run):
    config = config_of(folder, "hog_lfda", **{"eval.feature": "after_neck"})
    with pytest.raises(UserError, match="config.eval.feature is 'after_neck'; expected a feature of hog_lfda: metric"):
        main.run(config, handcrafted_run, "evaluate")


def test_settings_of_every_fitted_system_are_valid():
    for name in methods.METHODS:
        config = config_lib.default_config()
        config.method = name
        config_lib.validate(methods.configured(config))
