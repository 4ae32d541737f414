"""Same person or not: thresholds from people that were not trained on, and answers that say so."""

import json

import numpy as np
import pytest
from helpers import indexes
from PIL import Image

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.runs.experiment import Experiment
from jax_mspac.search import calibration, curve_picture, texts
from jax_mspac.search.calibration import Labeled

BOTH = {"visible->infrared", "infrared->visible"}


@pytest.fixture
def index(tmp_path, folder, model):
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.add(folder / "tree" / "rgb", model=model, modality="visible")
        index.add(folder / "tree" / "ir", modality="infrared")
        yield index


def labeled(people=20, cameras=2, seed=0):
    rng = np.random.default_rng(seed)
    number = 4 * people * cameras
    identities = np.arange(number) % people
    features = unit(rng.standard_normal((people, 6))[identities] + rng.standard_normal((number, 6)))
    camera = np.arange(number) // people % cameras
    modalities = np.array(["visible", "infrared"])[np.arange(number) // (people * cameras) % 2]
    return Labeled(features, identities.astype(str), camera.astype(object), modalities, "drawn people")


def test_each_two_modalities_have_their_threshold():
    people = labeled()
    found = calibration.thresholds(people, 0.01)
    assert set(found) == BOTH | {"visible->visible", "infrared->infrared"}
    assert found["visible->infrared"] is found["infrared->visible"]
    rows, columns = (np.flatnonzero(people.modalities == modality) for modality in ("visible", "infrared"))
    similarities = people.features[rows] @ people.features[columns].T
    same = people.identities[rows][:, None] == people.identities[columns][None, :]
    one = found["visible->infrared"]
    assert (one.genuine, one.impostor, one.identities) == (same.sum(), (~same).sum(), 20)
    assert one.fmr.rate == np.mean(similarities[~same] >= one.threshold) <= 0.01
    assert one.fnmr.rate == np.mean(similarities[same] < one.threshold)


def test_pairs_within_a_camera_count_only_where_there_are_no_others():
    # 80 images of 20 people in two cameras, two images each: 4 of 6 pairs of a person are across cameras.
    assert calibration.thresholds(labeled(), 0.01)["visible->visible"].genuine == 20 * 4
    assert calibration.thresholds(labeled(cameras=1), 0.01)["visible->visible"].genuine == 20


def test_what_cannot_be_calibrated_is_named():
    strangers = labeled()
    strangers = Labeled(strangers.features, np.arange(160).astype(str), strangers.cameras, strangers.modalities, "us")
    with pytest.raises(UserError, match="us: no two images of one person"):
        calibration.thresholds(strangers, 0.01)
    with pytest.raises(UserError, match="cannot be told from .* pairs of two people"):
        calibration.thresholds(labeled(), 1e-5)


def test_validation_identities_of_the_run_give_thresholds_and_hits_say_match(index, model, folder, tmp_path):
    query = next((folder / "tree" / "ir").rglob("*.png"))
    assert {hit.match for hit in index.query(query, "infrared")} == {None}
    found = index.calibrate(0.05)
    assert BOTH <= set(found) and index.info()["thresholds"]["visible->infrared"]["wished"] == 0.05
    # The same people by way of image files.
    images = Experiment.opened(model.workdir).images("val")
    features = []
    for number, (data, modality) in enumerate(zip(images.images, images.modalities, strict=True)):
        (tmp_path / f"{number}.png").write_bytes(data)
        features.append(model.embed(tmp_path / f"{number}.png", ("visible", "infrared")[modality])[0])
    rows, columns = np.flatnonzero(images.modalities == 0), np.flatnonzero(images.modalities == 1)
    same = images.identities[rows][:, None] == images.identities[columns][None, :]
    similarities = np.array(features)[rows] @ np.array(features)[columns].T
    one = found["infrared->visible"]
    assert one.fmr.rate == np.mean(similarities[~same] >= one.threshold) <= 0.05
    assert one.fnmr.rate == np.mean(similarities[same] < one.threshold)
    hits = index.query(query, "infrared", of="visible")
    assert [hit.match for hit in hits] == [hit.similarity >= one.threshold for hit in hits]


def test_answers_below_the_threshold_say_no_match(index, folder):
    index.calibrate(0.05)
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (32, 16, 3), np.uint8))
    hits = index.query(noise, "infrared", of="visible", top=3)
    assert [hit.match for hit in hits] == [False] * 3
    assert texts.verdict(hits) == "no match" and texts.hits_table(hits).splitlines()[1].split()[2] == "no"


def test_labels_of_entries(index, folder, model, tmp_path):
    unseen = {entry.path for entry in index.entries()}
    digests = np.array([entry.digest[:16] for entry in index.entries()])
    trained = {
        entry.path
        for entry, digest in zip(index.entries(), digests, strict=True)
        if digest in model.provenance["image_digests"]
    }
    unseen -= trained
    assert trained and unseen
    table = tmp_path / "labels.csv"
    table.write_text("path,identity\n" + "".join(f"{path},{path.split('/')[-2]}\n" for path in sorted(unseen)))
    found = index.calibrate(0.05, labels=table)
    assert found["visible->infrared"].identities == len({path.split("/")[-2] for path in unseen})
    for text, message in (
        ("".join(f"{path},x\n" for path in trained), f"trained on {len(trained)} of these {len(trained)} images"),
        ("/nowhere.png,x\n", "names none of the 52 entries"),
        (f"{next(iter(unseen))},\n", "line 2: no identity"),
        (2 * f"{next(iter(unseen))},x\n", "line 3: .* a second time"),
    ):
        table.write_text("path,identity\n" + text)
        with pytest.raises(UserError, match=message):
            index.calibrate(0.05, labels=table)
    assert index.info()["thresholds"]["visible->infrared"]["origin"] == str(table)


def test_trained_or_missing_validation_identities_are_refused(folder, tmp_path):
    for name, changes, message in (
        ("with val", {"data.train_splits": ("train", "val")}, "was trained on 4 of its 4 validation identities"),
        ("without val", {"data.val_fraction": 0.0}, "no validation identities"),
    ):
        run = indexes.trained(folder, name, **changes)
        with jax_mspac.Index.open(tmp_path / name) as index:
            index.add(folder / "tree" / "rgb" / "person 1", model=run, modality="visible")
            with pytest.raises(UserError, match=message):
                index.calibrate(0.05)


def test_texts_and_pictures_of_thresholds():
    found = calibration.thresholds(labeled(), 0.01)
    text = texts.thresholds_text(found, entries=5000)
    assert "among 5,000 entries of other people some 50 match by chance" in text and len(text.splitlines()) == 7
    assert json.loads(texts.as_json(found))["visible->visible"]["fmr"]["low"] <= 0.01
    picture = np.asarray(curve_picture.draw(found))
    assert picture.shape[1] > 3 * picture.shape[0] and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
