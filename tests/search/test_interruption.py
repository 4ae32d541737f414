"""A process that is killed while it adds, or adds beside another, loses nothing and stores nothing twice."""

import shutil
import time

import numpy as np
import pytest
from helpers import indexes, small_runs

import jax_mspac
from jax_mspac.search.entries import Filter
from jax_mspac.search.store import FEATURES

IMAGES, KILLS = 240, 6


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return indexes.draw_noise(tmp_path_factory.mktemp("images") / "shots", IMAGES)


def check(index, model):
    """Every entry has the features of its own image; it returns the paths."""
    store = index._store
    with store.reading():
        positions = store.positions(Filter())
        features, entries = np.array(store.features()[positions]), store.entries(positions)
        assert len({entry.path for entry in entries}) == len(entries) == len(index)
    if not entries:
        return set()
    expected = model.embed([entry.path for entry in entries], "visible")
    np.testing.assert_allclose(features, expected, atol=1e-5)
    return {entry.path for entry in entries}


@pytest.mark.slow
def test_kills_at_any_moment_lose_and_repeat_nothing(tmp_path, model, images):
    told, folder = tmp_path / "told", tmp_path / "index"
    told.write_text("")
    rng, kills, reported = np.random.default_rng(0), 0, 0
    while reported < IMAGES:
        before = len(told.read_text())
        process = indexes.start_adding(folder, images[0].parent, model.workdir, told)
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
        with jax_mspac.Index.open(folder, create=False) as index:
            assert len(check(index, model)) >= reported
    with jax_mspac.Index.open(folder) as index:
        assert check(index, model) == set(map(str, images))
        assert index.add(images, model=model, modality="visible").unchanged == IMAGES
    assert kills == KILLS


def test_two_processes_add_the_same_images_once(tmp_path, model, images):
    told, folder, some = tmp_path / "told", tmp_path / "index", images[:60]
    processes = [indexes.start_adding(folder, some, model.workdir, told) for _ in range(2)]
    while any(process.is_alive() for process in processes):  # while a third one reads
        if (folder / FEATURES).exists():
            with jax_mspac.Index.open(folder, create=False) as index:
                check(index, model)
        time.sleep(0.1)
    assert [small_runs.end(process) for process in processes] == [0, 0]
    with jax_mspac.Index.open(folder) as index:
        assert check(index, model) == set(map(str, some))


def test_a_copy_of_the_folder_is_the_index(tmp_path, model, images):
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.add(images[:5], model=model, modality="visible")
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    with jax_mspac.Index.open(tmp_path / "copy", create=False) as copy:
        assert check(copy, model) == set(map(str, images[:5]))
