"""The folder of an index, beyond `test_stores`: what others see while one writes, fails, or finds other files."""

import os
import sqlite3

import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.search import database
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.store import FEATURES, Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "index", create=True) as store:
        yield store


def entry(name, **labels):
    return Entry(path=f"/shots/{name}.png", digest=name * 2, modality="visible", **labels)


def put(store, names, rows, **labels):
    with store.writing():
        store.put([entry(name, **labels) for name in names], np.asarray(rows, np.float32))


def held(store):
    """Path -> features, as a reader finds them."""
    with store.reading():
        positions = store.positions(Filter())
        features = store.features()
        return {
            one.path[7:-4]: features[row].tolist() for row, one in zip(positions, store.entries(positions), strict=True)
        }


def test_entries_keep_their_features_through_replacing_and_removing(store):
    put(store, "abc", [[1, 1], [2, 2], [3, 3]])
    put(store, "b", [[20, 20]])
    assert held(store) == {"a": [1, 1], "b": [20, 20], "c": [3, 3]}
    store.remove(store.below("/shots"))
    assert held(store) == {} and store.is_empty()
    put(store, "de", [[4, 4], [5, 5]])
    store.remove([row for row, _ in store.at(["/shots/d.png"]).values()])
    put(store, "fghi", [[6, 6], [7, 7], [8, 8], [9, 9]])
    assert held(store) == {"e": [5, 5], "f": [6, 6], "g": [7, 7], "h": [8, 8], "i": [9, 9]}
    # Rows are used again: the file is no longer than the most entries there ever were, and one that was replaced.
    assert (store.folder / FEATURES).stat().st_size <= 6 * 2 * 4


def test_removing_erases_features_and_labels_from_the_disk(store):
    put(store, ["secret", "other"], [[7.25, 7.25], [1, 1]], camera="backdoor")
    store.remove([row for row, _ in store.at(["/shots/secret.png"]).values()])
    written = b"".join(file.read_bytes() for file in store.folder.iterdir())
    assert np.float32(7.25).tobytes() not in written and b"secret" not in written
    assert held(store) == {"other": [1, 1]}


def test_what_an_interrupted_removal_left_can_be_erased(store, monkeypatch):
    put(store, ["secret", "other"], [[7.25, 7.25], [1, 1]])

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.remove([row for row, _ in store.at(["/shots/secret.png"]).values()])
    monkeypatch.undo()
    assert held(store) == {"other": [1, 1]}
    store.erase()
    assert np.float32(7.25).tobytes() not in (store.folder / FEATURES).read_bytes()
    assert held(store) == {"other": [1, 1]}


@pytest.mark.parametrize("statement", ["DELETE FROM gaps", "DELETE FROM entries", "INSERT INTO entries"])
def test_what_fails_within_a_write_changes_nothing(store, monkeypatch, statement):
    put(store, "abc", [[1, 1], [2, 2], [3, 3]])
    put(store, "a", [[10, 10]])  # leaves a gap
    before, each = held(store), database.Database.each

    def failing(self, text, values):
        if text.startswith(statement):
            raise KeyboardInterrupt
        each(self, text, values)

    monkeypatch.setattr(database.Database, "each", failing)
    with pytest.raises(KeyboardInterrupt):
        put(store, "abd", [[-1, -1], [-2, -2], [-4, -4]])
    monkeypatch.undo()
    assert held(store) == before
    put(store, "abd", [[-1, -1], [-2, -2], [-4, -4]])
    assert held(store) == {"a": [-1, -1], "b": [-2, -2], "c": [3, 3], "d": [-4, -4]}


def test_a_reader_sees_one_moment(store):
    put(store, "ab", [[1, 1], [2, 2]])
    with Store(store.folder, create=False) as other:
        assert held(other) == {"a": [1, 1], "b": [2, 2]}
        with store.writing():
            store.put([entry("a"), entry("c")], np.float32([[10, 10], [3, 3]]))
            assert held(other) == {"a": [1, 1], "b": [2, 2]}
        assert held(other) == {"a": [10, 10], "b": [2, 2], "c": [3, 3]}


def test_folders_that_are_no_index_are_named(tmp_path):
    with pytest.raises(UserError, match="no index there"):
        Store(tmp_path / "nowhere", create=False)
    (tmp_path / "photo.png").write_text("")
    with pytest.raises(UserError, match="holds other files and no index"):
        Store(tmp_path, create=True)
    for create in (False, True):
        with pytest.raises(UserError, match="photo.png: a file; expected the folder"):
            Store(tmp_path / "photo.png", create=create)
    for name, content in (("damaged", b"not a database" * 100), ("empty", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / database.FILE).write_bytes(content)
        with pytest.raises(UserError, match="damaged|no image was ever added"):
            Store(tmp_path / name, create=False)
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / database.FILE) as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(UserError, match="not an index of this version"):
        Store(tmp_path / "other", create=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_of_the_system_and_changes_nothing(store):
    put(store, "a", [[1, 1]])
    os.rename(store.folder / FEATURES, store.folder / "kept")
    os.symlink("/dev/full", store.folder / FEATURES)
    with pytest.raises(OSError, match="No space left"):
        put(store, "b", [[2, 2]])
    os.replace(store.folder / "kept", store.folder / FEATURES)
    assert held(store) == {"a": [1, 1]}
