"""A process that is killed while it adds, or adds beside another, loses nothing and stores nothing twice."""

import contextlib
import shutil
import time

import numpy as np
import pytest
from helpers import films, indexes, small_runs
from PIL import Image

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.search import crops
from jax_mspac.search.entries import Filter

IMAGES, KILLS = 240, 20


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return indexes.draw_noise(tmp_path_factory.mktemp("images") / "shots", IMAGES)


def check(index, model, *, writing=False):
    """Every entry has the features of its own image; it returns the paths. `writing`: other processes do."""
    store = index._store
    with store.reading():
        rows = list(store.positions(Filter()))
        features, entries = store.features_of(rows), store.entries(rows)
        # A server has no moment that answers to several requests are of.
        held = len(index) if store.folder or not writing else len(entries)
        assert len({entry.path for entry in entries}) == len(entries) == held
    if not entries:
        return set()
    expected = model.embed([entry.path for entry in entries], "visible")
    np.testing.assert_allclose(features, expected, atol=1e-5)
    return {entry.path for entry in entries}


@pytest.mark.slow
def test_kills_at_any_moment_lose_and_repeat_nothing(tmp_path, place, model, images):
    told = tmp_path / "told"
    told.write_text("")
    rng, kills, reported = np.random.default_rng(0), 0, 0
    while reported < IMAGES:
        before = len(told.read_text())
        process = indexes.start_adding(place, images[0].parent, model.workdir, told)
        deadline = time.monotonic() + 120
        while len(told.read_text()) == before and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if kills < KILLS:
            # Within the next few batches of 4, so that most kills leave a batch half done.
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -9)
        reported = max(map(int, told.read_text().split()))
        with jax_mspac.Index.open(place, create=False) as index:
            assert len(check(index, model)) >= reported
    with jax_mspac.Index.open(place) as index:
        assert check(index, model) == set(map(str, images))
        assert index.add(images, model=model, modality="visible").unchanged == IMAGES
    assert kills == KILLS


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, place",
    [("boxes", "folder"), ("tracks", "folder"), ("detector", "folder"), ("detector", "qdrant")],
    indirect=["place"],
)
def test_kills_while_footage_is_added_lose_and_repeat_nothing(tmp_path, place, model, kind):
    """Of a detector, "done" are frames; of boxes, those that are embedded, which of a track is not yet an entry."""
    shots = films.save_frames(tmp_path / "shots")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (120, 96, 160, 3), np.uint8), 1):
        Image.fromarray(pixels).save(shots / f"{number}.png", compress_level=1)
    places = [((number // 20) * 20 % 100, number % 20) for number in range(120)]
    rows = [(frame, str(frame // 20), x, y, 24, 48) for frame, (x, y) in enumerate(places)]
    footage = {"frames": shots, "boxes": films.save_boxes(tmp_path / "b.txt", some=rows, tracks=kind == "tracks")}
    expected, per_frame = (6 if kind == "tracks" else 120), 1
    if kind == "detector":
        output = np.zeros((1, 40, 6))
        output[0, :2] = (10, 20, 34, 68, 0.9, 0), (100, 30, 128, 86, 0.6, 0)
        footage = {"frames": shots, "detector": films.save_detector(tmp_path / "a.onnx", output)}
        expected, per_frame = 240, 2
    told = tmp_path / "told"
    told.write_text("")
    rng, kills, status = np.random.default_rng(1), 0, None
    while status != 0:
        before = len(told.read_text())
        process = indexes.start_adding_footage(place, footage, model.workdir, told)
        deadline = time.monotonic() + 120
        while len(told.read_text()) == before and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if kills < 4:
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
            kills += 1
        process.join()
        status = process.exitcode
        assert status in (0, -9)
        reported = max(map(int, told.read_text().split()), default=0)
        with jax_mspac.Index.open(place) as index:
            entries = index.entries()
            assert len({entry.path for entry in entries}) == len(entries) == len(index)
            if kind == "boxes":
                assert len(index) >= reported
            # What counts as searched is there.
            searched = index._store.fact(f"detected {shots}") or {"frames": 0}
            assert len(index) >= searched["frames"] * (per_frame if kind == "detector" else 0)
    with jax_mspac.Index.open(place) as index:
        assert len(index) == expected
        store = index._store
        with store.reading():
            rows = list(store.positions(Filter()))
            features, entries = store.features_of(rows), store.entries(rows)
        if kind != "tracks":
            pictures = [crops.picture(entry) for entry in entries]
            np.testing.assert_allclose(features, model.embed(pictures, "visible"), atol=1e-5)
        assert index.add_footage(**footage, model=model, modality="visible").unchanged == expected


def test_two_processes_add_the_same_images_once(tmp_path, place, model, images):
    told, some = tmp_path / "told", images[:60]
    processes = [indexes.start_adding(place, some, model.workdir, told) for _ in range(2)]
    while any(process.is_alive() for process in processes):  # while a third one reads
        with contextlib.suppress(UserError), jax_mspac.Index.open(place, create=False) as index:
            check(index, model, writing=True)
        time.sleep(0.1)
    assert [small_runs.end(process) for process in processes] == [0, 0]
    with jax_mspac.Index.open(place) as index:
        assert check(index, model) == set(map(str, some))


def test_a_copy_of_the_folder_is_the_index(tmp_path, model, images):
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.add(images[:5], model=model, modality="visible")
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    with jax_mspac.Index.open(tmp_path / "copy", create=False) as copy:
        assert check(copy, model) == set(map(str, images[:5]))
