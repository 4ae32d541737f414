"""What every store of an index promises: the same tests for a folder and for a collection on a server."""

import contextlib
import os
import threading

import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.search import ranking, stores
from jax_mspac.search.base import DETECTED, Mark
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.marks import COLUMNS

MODEL = {"digest": "0", "workdir": "/runs/a", "step": 1}


@pytest.fixture
def store(place):
    with contextlib.closing(stores.opened(place, create=True)) as store:
        yield store


def entry(name, modality="visible", digest=None, **labels):
    return Entry(path=f"/shots/{name}.png", digest=digest or name * 2, modality=modality, **labels)


def put(store, entries, rows):
    with store.writing():
        store.begin(MODEL, len(rows[0]))
        store.put(entries, np.asarray(rows, np.float32))


def held(store):
    """Name -> features, as a reader finds them."""
    with store.reading():
        rows = list(store.positions(Filter()))
        features = store.features_of(rows)
        return {one.path[7:-4]: feature.tolist() for one, feature in zip(store.entries(rows), features, strict=True)}


def rows_of(store, *names):
    return [row for row, _ in store.at([f"/shots/{name}.png" for name in names]).values()]


def test_an_index_that_has_not_begun_is_empty(store):
    assert (store.count(), store.counts(), store.times(), store.is_empty()) == (0, {}, (None, None), True)
    assert (store.matching(Filter()), list(store.positions(Filter())), store.at(["/a"]), store.below("/")) == (
        [],
        [],
        {},
        [],
    )
    assert store.fact("model") is None
    store.erase()


def test_entries_keep_their_features_through_replacing_and_removing(store):
    put(store, [entry(name) for name in "abc"], [[1, 1], [2, 2], [3, 3]])
    put(store, [entry("b", digest="new")], [[20, 20]])
    assert held(store) == {"a": [1, 1], "b": [20, 20], "c": [3, 3]}
    assert store.at(["/shots/b.png", "/shots/z.png"])["/shots/b.png"][1].digest == "new"
    store.remove(rows_of(store, "a", "c"))
    assert held(store) == {"b": [20, 20]} and store.count() == 1 and not store.is_empty()
    store.remove(store.below("/shots"))
    assert held(store) == {} and store.is_empty()
    put(store, [entry("d")], [[4, 4]])
    assert held(store) == {"d": [4, 4]} and (store.fact("model"), store.fact("dimensions")) == (MODEL, 2)


def test_the_model_is_that_of_the_first(store):
    put(store, [entry("a")], [[1, 1]])
    with store.writing():
        store.begin({"digest": "1"}, 2)
    assert store.fact("model") == MODEL
    with pytest.raises(ValueError, match=r"features \(1, 3\) of 1 entries, 2 numbers"):
        put(store, [entry("b")], [[1, 1, 1]])


def test_what_one_has_written_others_see(place, store):
    with (
        pytest.raises(UserError, match="no index there|no image was ever added")
        if "://" in str(place)
        else contextlib.nullcontext()
    ):
        stores.opened(place, create=False).close()
    put(store, [entry("a"), entry("b", time=5.5, metadata={"note": "ö", "x": ""})], [[1, 1], [2, 2]])
    with contextlib.closing(stores.opened(place, create=False)) as other:
        assert held(other) == {"a": [1, 1], "b": [2, 2]}
        assert other.place == store.place
        found = []
        thread = threading.Thread(target=lambda: found.append(_held_by_another(other)))
        thread.start()
        thread.join()
    assert found == [{"a": [1, 1], "b": [2, 2]}]
    assert store.matching(Filter(since=5))[0].metadata == {"note": "ö", "x": ""}


def _held_by_another(store):
    with contextlib.closing(store.another()) as other:
        return held(other)


def test_filters_counts_and_times_agree_with_looking_at_every_entry(store):
    rng = np.random.default_rng(0)
    cameras, times = [None, "1", "2", "ö"], [None, 0.0, 10.0, 20.0]
    there = [
        entry(
            str(i),
            str(rng.choice(["visible", "infrared"])),
            camera=cameras[rng.integers(4)],
            time=times[rng.integers(4)],
            metadata={"note": f"n{i}"},
        )
        for i in range(700)
    ]
    put(store, there, np.ones((700, 2)))
    by_path = lambda entries: sorted(entries, key=lambda one: one.path)  # noqa: E731
    for wanted in (
        Filter(),
        Filter(cameras=("1", "ö")),
        Filter(since=10),
        Filter(until=10.0),
        Filter(since=0, until=20, modality="infrared"),
        Filter(cameras=("2",), since=0.0, until=10.5, modality="visible"),
        Filter(cameras=("none",)),
    ):
        expected = [
            one
            for one in there
            if (not wanted.cameras or one.camera in wanted.cameras)
            and (wanted.modality is None or one.modality == wanted.modality)
            and (wanted.since is None or (one.time is not None and one.time >= wanted.since))
            and (wanted.until is None or (one.time is not None and one.time < wanted.until))
        ]
        assert by_path(store.matching(wanted)) == by_path(expected)
        assert by_path(store.entries(store.positions(wanted))) == by_path(expected)
    counts = {}
    for one in there:
        counts[one.modality, one.camera] = counts.get((one.modality, one.camera), 0) + 1
    order = sorted(counts, key=lambda key: (key[0], key[1] is not None, key[1]))
    assert list(store.counts().items()) == [(key, counts[key]) for key in order]
    assert store.times() == (0.0, 20.0) and store.count() == 700


def test_other_labels_leave_the_rest(store):
    put(store, [entry("a", camera="1", metadata={"note": "old"}), entry("b", time=1)], [[1, 1], [2, 2]])
    with store.writing():
        store.relabel([entry("a", camera="2", time=3.25, metadata={"note": "new"}), entry("gone", camera="9")])
    assert held(store) == {"a": [1, 1], "b": [2, 2]}
    assert [one for one in store.matching(Filter()) if one.path == "/shots/a.png"] == [
        entry("a", camera="2", time=3.25, metadata={"note": "new"})
    ]
    assert list(store.counts()) == [("visible", None), ("visible", "2")]


def test_below_takes_a_folder_by_its_whole_name_and_parts_of_a_file(store):
    paths = ["/a/b/1.png", "/a/b/c/2.png", "/a/b#box=1,2,3,4", "/a/b0/3.png", "/a/b.png", "/a/b-/4.png", "/a/b"]
    put(store, [Entry(path=path, digest="0", modality="visible") for path in paths], np.ones((7, 1)))
    for folder, below in (("/a/b", paths[:3]), ("/a/b/", paths[:3]), ("/a/b/c", paths[1:2]), ("/", paths), ("/x", [])):
        assert sorted(one.path for one in store.entries(store.below(folder))) == sorted(below), folder


def test_facts_are_kept_changed_and_forgotten(store):
    put(store, [entry("a")], [[1, 1]])
    for value in ({"visible->infrared": {"threshold": 0.5}}, [1, "ö", None], None):
        with store.writing():
            store.set_fact("thresholds", value)
        assert store.fact("thresholds") == value
    assert store.count() == 1 and [one.path for one in store.matching(Filter())] == ["/shots/a.png"]


def test_removal_forgets_that_footage_was_searched(store):
    paths = ["/v/gate.mp4#frame=1&box=1,2,3,4", "/f/1.png#box=1,2,3,4", "/f2/1.png"]
    footage = ["/v/gate.mp4", "/f", "/f/1", "/f2", "/v/gate"]
    put(store, [Entry(path=path, digest="0", modality="visible") for path in paths], np.ones((3, 1)))
    with store.writing():
        for one in footage:
            store.set_fact(DETECTED + one, {"frames": 3})
    store.remove([row for row, _ in store.at(paths[:2]).values()])
    assert [one for one in footage if store.fact(DETECTED + one)] == ["/f/1", "/f2", "/v/gate"]


@pytest.mark.parametrize("removed", [0, 150])
def test_ranking_agrees_with_sorting(store, removed):
    rng = np.random.default_rng(0)
    features = unit(rng.standard_normal((300, 8))).astype(np.float32)
    query = rng.standard_normal(8)
    cameras = ("1", "2", "3")
    put(store, [entry(f"{i:03}", camera=cameras[i % 3], time=i) for i in range(300)], features)
    gone = set(rng.permutation(300)[:removed].tolist())
    store.remove(rows_of(store, *(f"{i:03}" for i in gone)))
    with store.writing():
        store.set_fact("thresholds", {"infrared->visible": {"threshold": 0.5}})
    cosines = features.astype(np.float64) @ query / np.linalg.norm(query)
    for wanted, chosen in (
        (Filter(), range(300)),
        (Filter(cameras=("2",)), range(1, 300, 3)),
        (Filter(cameras=("2", "3"), since=100, until=110), [i for i in range(100, 110) if i % 3]),
    ):
        expected = sorted((i for i in chosen if i not in gone), key=lambda i: -cosines[i])[:20]
        with store.reading():
            hits = ranking.nearest(store, query, "infrared", wanted, top=20)
        assert [int(hit.path[7:10]) for hit in hits] == expected
        assert [hit.similarity for hit in hits] == pytest.approx([cosines[i] for i in expected], abs=1e-6)
        assert [hit.match for hit in hits] == [bool(cosines[i] >= 0.5) for i in expected]
    assert ranking.nearest(store, query, "infrared", Filter(cameras=("none",)), top=20) == []
    with pytest.raises(UserError, match=r"a feature is \[1, 9\]; the index holds features of 8"):
        ranking.nearest(store, np.ones(9), "visible", Filter(), top=1)


def test_rows_are_told_as_text_and_nothing_else_is_one(store):
    put(store, [entry("a"), entry("b")], [[1, 1], [2, 2]])
    ((_, a), (row, b)) = store.at(["/shots/a.png", "/shots/b.png"]).values()
    assert store.entries([store.row_of(str(row))]) == [b] and store.entries([row, row]) == [b, b] and a != b
    for text in ("", "x", "-1", "1.0", "٣", "{}", f"{row} ", "9" * 99, str(row).upper() + "A"):
        assert store.row_of(text) is None, text
    store.remove([row])
    with pytest.raises(KeyError):
        store.entries([row])


def test_marks_go_with_their_entries(store):
    put(store, [entry(name) for name in "abc"], np.ones((3, 2)))
    of = {"names": "n.png", "query_modality": "infrared", "similarity": 0.25}
    with store.marks() as marks:
        assert marks.rows() == [] and marks.of("q") == {}
        for number, (query, name, verdict) in enumerate(
            [("q", "a", "wrong"), ("q", "b", "right"), ("r", "b", "wrong"), ("q", "a", "right"), ("q", "gone", "right")]
        ):
            marks.put(Mark(query=query, path=f"/shots/{name}.png", verdict=verdict, marked=number, **of))
        assert marks.of("q") == {"/shots/a.png": "right", "/shots/b.png": "right"}
        assert [dict(zip(COLUMNS, row, strict=True))["verdict"] for row in marks.rows()] == ["right", "wrong", "right"]
        assert dict(zip(COLUMNS, marks.rows()[0], strict=True)) == {
            **of,
            "marked": 1.0,
            "verdict": "right",
            "query": "q",
            "path": "/shots/b.png",
            "digest": "bb",
            "modality": "visible",
            "camera": None,
            "time": None,
        }
        with store.writing():
            store.relabel([entry("a", camera="2")])
        assert marks.of("q") == {"/shots/a.png": "right", "/shots/b.png": "right"}
        marks.withdraw("q", "/shots/a.png")
        marks.withdraw("q", "/shots/a.png")
        assert marks.of("q") == {"/shots/b.png": "right"}
        put(store, [entry("b", digest="new")], [[1, 1]])
        assert marks.of("q") == {} and marks.rows() == []
        marks.put(Mark(query="q", path="/shots/c.png", verdict="right", marked=9, **of))
    store.remove(rows_of(store, "c"))
    put(store, [entry("c")], [[1, 1]])
    with store.marks() as marks:
        assert marks.rows() == []


def test_other_schemes_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("milvus+http://localhost/a", "http://localhost/a", "s3://a/b"):
        with pytest.raises(UserError, match="no store of an index is called .*qdrant.http://localhost:6333/people"):
            stores.opened(name, create=True)
    assert os.listdir(tmp_path) == []
