"""Two processes that add together: the index of one, and nothing lost whatever happens to one of them."""

import time

import numpy as np
import pytest
from helpers import indexes, joint_runs, small_runs

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.search.adding import Added
from jax_mspac.search.entries import Filter

pytestmark = pytest.mark.slow
COUNT = 120


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return indexes.draw_noise(tmp_path_factory.mktemp("images") / "shots", COUNT)


def share(tmp_path, images, model, *more, place=None, count=2):
    """Processes that add the images to `tmp_path / "index"` or another place, and the files in which they speak."""
    arguments = ("--index", place or tmp_path / "index", "--images", images[0].parent, "--modality", "visible")
    arguments = (*arguments, "--batch", "2", "--model", model.workdir, *more)
    outputs = [tmp_path / f"{time.monotonic_ns()}.{number}" for number in range(count)]
    address = f"localhost:{joint_runs._free_port()}"
    return [
        indexes.start_sharing(arguments, output, address=address, number=number, count=count)
        for number, output in enumerate(outputs)
    ], outputs


def ended(processes, outputs, status=0):
    assert [small_runs.end(process, timeout=300) for process in processes] == [status] * len(processes), said(outputs)
    return [output.read_text() for output in outputs]


def said(outputs):
    return [output.read_text() for output in outputs if output.exists()]


def stored_in(folder):
    with jax_mspac.Index.open(folder, create=False) as index:
        return [entry.path for entry in index.entries()]


def check(place, model, images):
    with jax_mspac.Index.open(place, create=False) as index:
        store = index._store
        with store.reading():
            rows = list(store.positions(Filter()))
            features, entries = store.features_of(rows), store.entries(rows)
        assert sorted(entry.path for entry in entries) == sorted(map(str, images))
        np.testing.assert_allclose(features, model.embed([entry.path for entry in entries], "visible"), atol=1e-5)
        assert not store.folder or not list(store.folder.glob("shard-*"))
        return entries


def test_two_processes_add_what_one_does_and_labels_too(tmp_path, place, model, images):
    with jax_mspac.Index.open(place) as index:
        index.add(images[:5], model=model, modality="visible")
    told = ended(*share(tmp_path, images, model, place=place))
    assert "115 new, 0 replaced, 0 with other labels, 5 as they were; the index had 5 entries and has 120" in told[0]
    assert "new" not in told[1]
    check(place, model, images)
    told = ended(*share(tmp_path, images, model, "--camera", "gate", place=place))
    assert "0 new, 0 replaced, 120 with other labels, 0 as they were" in told[0]
    assert {entry.camera for entry in check(place, model, images)} == {"gate"}
    # What cannot be read ends all alike.
    bad = images[0].parent / "bad.png"
    bad.write_text("no image")
    try:
        for text in ended(*share(tmp_path, images, model, place=place), status=1):
            assert "1 of 121 images cannot be read" in text and "Traceback" not in text
    finally:
        bad.unlink()
    check(place, model, images)


def test_the_end_of_one_process_leaves_its_shard_and_the_same_command_goes_on(tmp_path, model, images):
    folder = tmp_path / "index"
    processes, outputs = share(tmp_path, images, model)
    shard = folder / "shard-1"
    deadline = time.monotonic() + 200
    while not (shard / "features.f32").exists() or not stored_in(shard):
        assert time.monotonic() < deadline and processes[1].is_alive(), said(outputs)
        time.sleep(0.002)
    small_runs.kill(processes[1])
    # The other one ends by itself: it hears no sign of life.
    assert small_runs.end(processes[0], timeout=150) != 0
    stored = stored_in(shard)
    assert stored
    with jax_mspac.Index.open(folder) as index:
        assert len(index) == 0  # nothing is in it before it is put there
        for use in (lambda: index.add(images, model=model, modality="visible"), lambda: index.remove(images[0])):
            with pytest.raises(UserError, match="holds shard-0, shard-1: processes add to it together, or were"):
                use()
    # Only those are embedded that no shard has.
    (told,) = ended(*share(tmp_path, images, model, count=1))
    new, same = (int(text.split()[-1]) for text in (told.split(" new")[0], told.split(" as they were")[0]))
    assert new + same == COUNT and same >= len(stored)
    check(folder, model, images)


def test_the_end_of_one_process_leaves_on_a_server_what_it_stored(tmp_path, cluster, model, images):
    place = cluster.address("shared")
    processes, outputs = share(tmp_path, images, model, place=place)
    deadline = time.monotonic() + 200
    while not cluster.client().collection_exists("shared") or cluster.count("shared") < 10:
        assert time.monotonic() < deadline and processes[1].is_alive(), said(outputs)
        time.sleep(0.002)
    small_runs.kill(processes[1])
    assert small_runs.end(processes[0], timeout=150) != 0
    stored = len(stored_in(place))
    assert stored >= 10
    # One process is enough, and it needs none of the others' flags.
    with jax_mspac.Index.open(place) as index:
        assert index.add(images, model=model, modality="visible") == Added(new=COUNT - stored, unchanged=stored)
    check(place, model, images)


def test_shards_of_another_model_are_refused(tmp_path, model, folder, images):
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.add(images[:3], model=model, modality="visible")
    other = jax_mspac.load(indexes.trained(folder, "other", seed=1))
    with jax_mspac.Index.open(tmp_path / "index" / "shard-0") as shard:
        assert shard.add(images[3:6], model=other, modality="visible") == Added(new=3)
    (told,) = ended(*share(tmp_path, images, model, count=1), status=1)
    assert "shard-0, left by an interrupted command: " in told and "features of two models do not compare" in told
