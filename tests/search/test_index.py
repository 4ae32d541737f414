"""`jax_mspac.Index`: what it finds against the model's own features, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import indexes
from PIL import Image

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.search import store


@pytest.fixture
def index(place):
    with jax_mspac.Index.open(place) as index:
        yield index


in_a_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)


@pytest.fixture
def shots(tmp_path):
    return indexes.draw_noise(tmp_path / "shots", 11)


def test_finds_what_the_features_say(index, model, shots):
    assert index.add(shots[:6], model=model, modality="visible", batch=4).new == 6
    assert index.add(shots[6:], model=model, modality="infrared", batch=4).new == 5
    gallery = np.concatenate([model.embed(shots[:6], "visible"), model.embed(shots[6:], "infrared")])
    query = Image.fromarray(np.random.default_rng(9).integers(0, 256, (40, 20, 3), np.uint8))
    for images in (query, [query, *shots[:2]]):
        feature = unit(model.embed(images, "infrared").mean(axis=0, keepdims=True))[0]
        hits = index.query(images, "infrared")
        assert [hit.rank for hit in hits] == list(range(1, 12))
        expected = {str(path): cosine for path, cosine in zip(shots, gallery @ feature, strict=True)}
        found = {hit.path: hit.similarity for hit in hits}
        assert found == pytest.approx(expected, abs=1e-6)
        assert list(found) == sorted(expected, key=expected.get, reverse=True)
    assert {hit.path for hit in index.query(query, "visible", of="infrared")} == set(map(str, shots[6:]))
    assert len(index.query(query, "visible", top=3)) == 3


def test_adds_only_what_is_new(index, model, shots, monkeypatch):
    embedded = []
    embed = type(model).embed
    monkeypatch.setattr(
        type(model), "embed", lambda self, images, *a, **k: embedded.append(len(images)) or embed(self, images, *a, **k)
    )
    added = index.add(shots[:5], model=model, modality="visible", batch=2)
    assert added == jax_mspac.search.adding.Added(new=5) and embedded == [2, 2, 1]
    embedded.clear()
    assert index.add(shots, modality="visible", batch=4) == jax_mspac.search.adding.Added(new=6, unchanged=5)
    assert embedded == [4, 2]
    embedded.clear()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(shots[3])
    assert index.add(shots, modality="visible") == jax_mspac.search.adding.Added(replaced=1, unchanged=10)
    assert index.query(shots[3:4], "visible", top=1)[0].path == str(shots[3])
    assert index.add(shots[:2], modality="infrared") == jax_mspac.search.adding.Added(replaced=2)
    embedded.clear()
    assert index.add(shots[0], modality="infrared", camera="7") == jax_mspac.search.adding.Added(relabeled=1)
    assert index.add(shots[0], modality="infrared", time="2026-01-01") == jax_mspac.search.adding.Added(relabeled=1)
    assert embedded == [] and len(index) == 11
    entry = next(entry for entry in index.entries() if entry.path == str(shots[0]))
    assert (entry.camera, entry.time) == ("7", 1767225600.0)  # what a later command does not tell stays


def test_tables_tell_camera_time_modality_and_whatever_else(index, model, shots, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(
        "Path,camera,time,modality,note\n"
        "shots/0.png,north,2026-11-28T10:00:00+01:00,infrared,red bag\n"
        f"{shots[1]},,,,ünder\n"
        "elsewhere.png,south,,,\n",
        encoding="utf-8",
    )
    index.add(tmp_path / "shots", model=model, modality="visible", camera="gate", time=5, metadata=table)
    entries = {entry.path: entry for entry in index.entries()}
    first, second, third = (entries[str(path)] for path in shots[:3])
    assert (first.camera, first.time, first.modality, first.metadata["note"]) == (
        "north",
        1795856400.0,
        "infrared",
        "red bag",
    )
    assert (second.camera, second.time, second.modality, second.metadata["note"]) == ("gate", 5.0, "visible", "ünder")
    assert (third.camera, third.time, third.metadata) == ("gate", 5.0, {})
    assert [hit.path for hit in index.query(shots[4], "visible", cameras=["north"])] == [first.path]
    late = index.query(shots[4], "visible", since="2026-11-28", until="2026-11-29")
    assert [hit.path for hit in late] == [first.path]
    assert index.query(shots[4], "visible", cameras=["south"]) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("camera\n1\n", "no column 'path'"),
        ("path,camera\n0.png\n", "line 2: 1 values; expected 2"),
        ("path,time\nshots/0.png,noon\n", "line 2: time is 'noon'; expected"),
        ("path,modality\nshots/0.png,thermal\n", "line 2: modality is 'thermal'; expected"),
        ("path\nother/0.png\n", "names none of the 11 images"),
        ("path,a,a\n", "two columns of one name"),
        (b"path\n\xff", "cannot be read as a table"),
    ],
)
def test_tables_that_say_nothing_are_named(index, model, shots, tmp_path, text, message):
    table = tmp_path / "table.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        index.add(tmp_path / "shots", model=model, modality="visible", metadata=table)
    assert len(index) == 0


def test_links_in_a_circle_lead_to_each_image_once(index, model, shots):
    (shots[0].parent / "deep").mkdir()
    (shots[0].parent / "deep" / "back").symlink_to(shots[0].parent, target_is_directory=True)
    assert index.add(shots[0].parent, model=model, modality="visible").new == 11
    assert {entry.path for entry in index.entries()} == set(map(str, shots))


def test_other_models_are_refused(index, model, folder, shots):
    index.add(shots, model=model, modality="visible")
    before = index.entries()
    for name, changes in (("same width", {"seed": 1}), ("other width", {"width": 16})):
        other = indexes.trained(folder, name, **changes)
        for use in (
            lambda other=other: index.add(shots, model=other, modality="visible"),
            lambda other=other: index.query(shots[0], "visible", model=other),
        ):
            with pytest.raises(UserError, match=rf"{name} \(step 1, .*not the model of this index, whose 8 numbers"):
                use()
        with jax_mspac.Index.open(index.info()["folder"]) as again, pytest.raises(UserError, match="not the model"):
            again.add(shots, model=other, modality="visible")
    assert index.entries() == before
    with pytest.raises(UserError, match=r"a feature is \[1, 16\]; the index holds features of 8"):
        index.nearest(np.ones(16), "visible")
    # The same checkpoint in another folder is the same model.
    copy = shutil.copytree(model.workdir, folder / "copy", dirs_exist_ok=True)
    assert index.add(shots, model=copy, modality="visible").unchanged == 11


@in_a_folder
def test_an_emptied_index_takes_another_model(index, model, folder, shots):
    index.add(shots, model=model, modality="visible")
    assert index.remove(shots[0].parent) == 11
    index.add(shots, model=indexes.trained(folder, "wide", width=16), modality="visible")
    assert index.info()["dimensions"] == 16
    assert index.query(shots[2], "visible", top=1)[0].path == str(shots[2])


def test_the_index_finds_its_model_by_itself(index, model, shots, folder):
    index.add(shots, model=model, modality="visible")
    with jax_mspac.Index.open(index.info()["folder"], create=False) as again:
        hit = again.query(shots[5], "visible", top=1)[0]
        assert hit.path == str(shots[5]) and hit.similarity == pytest.approx(1, abs=1e-6)
    moved = folder / "run"
    moved.rename(folder / "moved")
    try:
        with jax_mspac.Index.open(index.info()["folder"]) as again:
            with pytest.raises(UserError, match="the model of this index: .*name its folder if it has moved"):
                again.query(shots[5], "visible")
            assert again.query(shots[5], "visible", model=folder / "moved", top=1)[0].path == str(shots[5])
    finally:
        (folder / "moved").rename(moved)


def test_unreadable_images_are_told_and_the_others_stored(index, model, shots, tmp_path):
    broken, empty, text = (tmp_path / "shots" / name for name in ("broken.png", "empty.jpg", "text.png"))
    broken.write_bytes(shots[0].read_bytes()[:-300])
    empty.write_bytes(b"")
    text.write_text("no image")
    added = index.add(tmp_path / "shots", model=model, modality="visible", batch=3)
    assert added.new == 11 and len(index) == 11
    assert set(added.unreadable) == {str(broken), str(empty), str(text)}
    assert added.unreadable[str(empty)].startswith("the file is empty")
    assert "not a known image format" in added.unreadable[str(text)]
    # An entry outlives a file that is broken later on.
    shots[0].write_bytes(b"")
    assert str(shots[0]) in index.add(shots, modality="visible").unreadable and len(index) == 11
    with pytest.raises(UserError, match=r"text.png: cannot be read as an image"):
        index.query(text, "visible")


def test_what_names_no_image_is_refused(index, model, shots, tmp_path):
    (tmp_path / "nothing" / "below").mkdir(parents=True)
    for images, message in (
        (tmp_path / "nothing", "no image file in this folder or below it"),
        (tmp_path / "nowhere", "there is no such file or folder"),
        ([shots[0], tmp_path / "nowhere.png"], "there is no such file or folder"),
    ):
        with pytest.raises(UserError, match=message):
            index.add(images, model=model, modality="visible")
    for options, message in (
        ({}, "visible or infrared"),
        ({"modality": "thermal"}, "modality is 'thermal'; expected"),
        ({"modality": "visible", "time": "soon"}, "time is 'soon'; expected"),
        ({"modality": "visible", "batch": 0}, "batch is 0; expected"),
    ):
        with pytest.raises(UserError, match=message):
            index.add(shots, model=model, **options)
    for use in (lambda: index.query(shots[0], "visible"), lambda: index.add(shots, modality="visible")):
        with pytest.raises(UserError, match="holds no images yet"):
            use()


@in_a_folder
def test_the_same_removal_again_erases_what_an_interrupted_one_left(index, model, shots, monkeypatch):
    index.add(shots, model=model, modality="visible")
    ((row, _),) = index._store.at([str(shots[4])]).values()
    feature = index._store.features()[row].tobytes()
    file = Path(index.info()["folder"]) / store.FEATURES

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        erase, calls = store.Store.erase, []
        patch.setattr(
            store.Store, "erase", lambda self: calls.append(0) or (erase if len(calls) < 2 else interrupted)(self)
        )
        index.remove(shots[4])
    assert len(index) == 10 and feature in file.read_bytes()
    with pytest.raises(UserError, match="no such image"):
        index.remove(shots[4])
    assert feature not in file.read_bytes()


def test_impossible_queries_and_removals_are_named(index, model, shots):
    index.add(shots, model=model, modality="visible", camera="1")
    for options, message in (
        ({"top": 0}, "top is 0; expected"),
        ({"of": "thermal"}, "modality is 'thermal'"),
        ({"since": 5, "until": 5}, "no time lies between"),
    ):
        with pytest.raises(UserError, match=message):
            index.query(shots[0], "visible", **options)
    with pytest.raises(UserError, match="remove which entries"):
        index.remove()
    with pytest.raises(UserError, match="no such image, nor one below it"):
        index.remove([shots[0], "/nowhere"])
    assert index.remove(shots[0], cameras=["2"]) == 0 and len(index) == 11
    assert index.remove(shots[:3], cameras=["1"]) == 3 and len(index) == 8
    assert index.remove(cameras=["1"]) == 8
