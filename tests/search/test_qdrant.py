"""An index on a Qdrant server: what is asked of the server, and what happens where it is not there or is not ours."""

import contextlib
import csv
import io
import json
import sys

import numpy as np
import pytest
from absl import flags
from helpers import indexes
from starlette.testclient import TestClient

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.search import __main__ as door
from jax_mspac.search import stores
from jax_mspac.search.adding import Added
from jax_mspac.search.base import Mark
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.serving.app import application
from jax_mspac.search.serving.searcher import Searcher

pytest.importorskip("qdrant_client")
from helpers import qdrant_server  # noqa: E402

from jax_mspac.search import qdrant_collection  # noqa: E402
from jax_mspac.search.qdrant_collection import TOKEN_VARIABLE  # noqa: E402

MODEL = {"digest": "0", "workdir": "/runs/a", "step": 1}


@pytest.fixture
def server():
    with qdrant_server.running() as server:
        yield server


def opened(server, *, create=True):
    return contextlib.closing(stores.opened(server.address(), create=create))


def entry(name, **labels):
    return Entry(path=f"/shots/{name}.png", digest=name * 2, modality="visible", **labels)


def begun(server, names="ab"):
    """An index of entries on the server."""
    with opened(server) as store:
        store.begin(MODEL, 2)
        store.put([entry(name) for name in names], np.ones((len(names), 2), np.float32))


def test_a_server_is_asked_what_its_documents_say(server):
    """The requests as Qdrant's REST reference writes them; the server here also checks them against its OpenAPI."""
    kind = {"key": "kind", "match": {"value": "entry"}}
    at, a, asked = "/collections/people", qdrant_collection.id_of("entry", "/shots/a.png"), server.requests

    def told(work):
        asked.clear()
        work()
        return [
            (method, path, {k: v for k, v in query.items() if k != "timeout"}, body)
            for method, path, query, body in asked
        ]

    with opened(server) as store:
        made, *indexed = [one for one in told(lambda: store.begin(MODEL, 2)) if one[0] == "PUT"]
        assert made == (
            "PUT",
            at,
            {},
            {
                "vectors": {"feature": {"size": 2, "distance": "Dot", "on_disk": True}},
                "hnsw_config": {"m": 0},
                "metadata": {"jax_mspac": {"version": 1, "model": MODEL}},
            },
        )
        keywords = ("kind", "path", "within", "modality", "camera", "query")
        assert indexed == [
            ("PUT", f"{at}/index", {"wait": "true"}, {"field_name": field, "field_schema": "keyword"})
            for field in keywords
        ] + [("PUT", f"{at}/index", {"wait": "true"}, {"field_name": "time", "field_schema": "float"})]
        assert told(lambda: store.begin(MODEL, 2)) == []

        one = entry("a", camera="1", time=5.5, metadata={"note": "ö"})
        removal, upsert = told(lambda: store.put([one], np.float32([[0.6, 0.8]])))
        marks = [{"key": "kind", "match": {"value": "mark"}}, {"key": "path", "match": {"any": ["/shots/a.png"]}}]
        assert removal == ("POST", f"{at}/points/delete", {"wait": "true"}, {"filter": {"must": marks}})
        payload = {"kind": "entry", "path": "/shots/a.png", "within": ["", "/shots"], "digest": "aa"}
        payload |= {"modality": "visible", "camera": "1", "time": 5.5, "metadata": {"note": "ö"}}
        feature = [float(np.float32(0.6)), float(np.float32(0.8))]
        assert upsert == (
            "PUT",
            f"{at}/points",
            {"wait": "true"},
            {"points": [{"id": a, "vector": {"feature": feature}, "payload": payload}]},
        )

        wanted = Filter(cameras=("1", "2"), since=1, until=9.5, modality="visible")
        (query,) = told(lambda: store.nearest(np.float32([[1, 0]]), wanted, top=3))
        conditions = [
            kind,
            {"key": "camera", "match": {"any": ["1", "2"]}},
            {"key": "modality", "match": {"value": "visible"}},
            {"key": "time", "range": {"gte": 1.0, "lt": 9.5}},
        ]
        assert query[:2] == ("POST", f"{at}/points/query")
        assert query[3] == {
            "query": {"nearest": [1.0, 0.0]},
            "using": "feature",
            "filter": {"must": conditions},
            "params": {"exact": True},
            "limit": 3,
            "with_payload": True,
            "with_vector": False,
        }

        (change,) = told(lambda: store.relabel([one]))
        labels = {name: payload[name] for name in ("camera", "time", "metadata")}
        by_id = {"must": [{"has_id": [a]}]}
        assert change == (
            "POST",
            f"{at}/points/batch",
            {"wait": "true"},
            {"operations": [{"set_payload": {"payload": labels, "filter": by_id}}]},
        )
        fact = qdrant_collection.id_of("fact", "x")
        assert told(lambda: store.set_fact("x", [1])) == [
            (
                "PUT",
                f"{at}/points",
                {"wait": "true"},
                {"points": [{"id": fact, "vector": {}, "payload": {"kind": "fact", "name": "x", "value": "[1]"}}]},
            )
        ]
        _, facts, marks_gone, gone = told(lambda: store.remove([a]))
        footage = [qdrant_collection.id_of("fact", f"detected {folder}") for folder in ("", "/shots")]
        assert facts[1:] == (f"{at}/points/delete", {"wait": "true"}, {"points": footage})
        assert marks_gone == removal
        assert gone[1:] == (f"{at}/points/delete", {"wait": "true"}, {"points": [a]})

        assert told(store.counts)[0][1:] == (
            f"{at}/facet",
            {},
            {
                "key": "camera",
                "limit": 10_000,
                "filter": {"must": [kind, {"key": "modality", "match": {"value": "infrared"}}]},
                "exact": True,
            },
        )
        first, last = told(store.times)
        assert first[3]["order_by"] == {"key": "time", "direction": "asc"} and first[3]["limit"] == 1
        assert last[3]["order_by"] == {"key": "time", "direction": "desc"} and last[3]["filter"] == {"must": [kind]}


def test_an_entry_has_the_same_point_everywhere():
    # Another id would store it a second time in an index that is there.
    assert qdrant_collection.id_of("entry", "/shots/ö.png") == "bf6b0801-597b-579f-83bd-92efe362bd50"


def test_many_numbers_go_in_several_requests(server, monkeypatch):
    monkeypatch.setattr("jax_mspac.search.qdrant_store._NUMBERS", 6)
    monkeypatch.setattr(qdrant_collection, "PART", 3)
    names = "abcdefgh"
    begun(server, names)
    sent = [
        len(body["points"]) for method, path, _, body in server.requests if path.endswith("/points") and method == "PUT"
    ]
    assert sent == [3, 3, 2]
    with opened(server) as store:
        assert sorted(one.path[7] for one in store.matching(Filter())) == list(names)
        assert store.features_of(store.positions(Filter())).shape == (8, 2)
        store.remove(store.below("/shots"))
        assert store.is_empty()


def test_the_token_comes_from_the_environment(monkeypatch):
    with qdrant_server.running(token="correct horse") as server:
        with pytest.raises(UserError, match=f"asks for a token: set {TOKEN_VARIABLE}"):
            opened(server)
        monkeypatch.setenv(TOKEN_VARIABLE, "wrong horse")
        with pytest.raises(UserError, match=f"refuses the token of {TOKEN_VARIABLE}") as error:
            opened(server)
        assert "horse" not in str(error.value)
        monkeypatch.setenv(TOKEN_VARIABLE, "correct horse")
        begun(server)
        assert server.count() == 2
    with pytest.warns(UserWarning, match=f"{TOKEN_VARIABLE} goes to http://db.example.org:6333 unencrypted"):
        qdrant_collection.Collection("qdrant+http://db.example.org/people").close()
    qdrant_collection.Collection("qdrant+https://db.example.org/people").close()


def test_an_index_begins_with_its_first_entries(server):
    with pytest.raises(UserError, match="no index there; .*add makes one"):
        opened(server, create=False)
    with opened(server) as store:
        store.set_fact("detected /a", {"frames": 3})  # of footage in which nobody was found
        assert store.is_empty() and store.fact("detected /a") is None
    assert {method for method, *_ in server.requests} == {"GET"}
    begun(server)
    with opened(server, create=False) as store:
        assert store.count() == 2


def test_collections_of_others_are_left_alone(server):
    server.client().create_collection("people", {})
    for create in (False, True):
        with pytest.raises(UserError, match="the collection is no index of this version"):
            opened(server, create=create)
    with qdrant_server.running(is_old=True) as old:
        with opened(old) as store, pytest.raises(UserError, match="older than Qdrant 1.16"):
            store.begin(MODEL, 2)


def test_of_two_that_begin_at_once_one_gives_the_model(server, model, tmp_path):
    """The other one is told so before it has stored anything."""
    images = indexes.draw_noise(tmp_path / "shots", 4)

    def faster(method, path):
        if (method, path) == ("PUT", "/collections/people"):
            server.before = lambda method, path: None
            begun(server)

    server.before = faster
    with jax_mspac.Index.open(server.address()) as index:
        with pytest.raises(UserError, match=r"is not the model of this index, whose 2 numbers .* /runs/a \(step 1"):
            index.add(images, model=model, modality="visible")
        assert len(index) == 2


def test_what_an_interrupted_beginning_left_is_made_by_whoever_comes(server):
    def interrupted(method, path):
        if path.endswith("/index") and server.requests[-1][3]["field_name"] == "camera":
            raise qdrant_server.Refused(500, "gone")

    for work in (lambda store: store.is_empty(), lambda store: store.begin(MODEL, 2)):
        server.client().delete_collection("people")
        server.before = interrupted
        with pytest.raises(UserError, match="the server answers 500: gone"):
            begun(server)
        server.before = lambda method, path: None
        with opened(server, create=False) as store:
            work(store)
            assert store.counts() == {} and store.times() == (None, None) and store.fact("model") == MODEL


def test_the_same_command_goes_on_after_a_server_was_away(server, model, tmp_path):
    images = indexes.draw_noise(tmp_path / "shots", 10)
    upserts = []

    def away(method, path):
        if method == "PUT" and path.endswith("/points"):
            upserts.append(0)
            if len(upserts) == 3:
                raise qdrant_server.Refused(503, "starting")

    server.before = away
    with jax_mspac.Index.open(server.address()) as index:
        with pytest.raises(UserError, match="the server answers 503: starting"):
            index.add(images, model=model, modality="visible", batch=2)
        assert len(index) == 4
        assert index.add(images, model=model, modality="visible", batch=2) == Added(new=6, unchanged=4)
        found = {hit.path: hit.similarity for hit in index.query(images[3], "visible")}
    expected = model.embed(images, "visible") @ model.embed(images[3], "visible")[0]
    assert found == pytest.approx(dict(zip(map(str, images), expected, strict=True)), abs=1e-6)


def test_a_mark_of_what_has_changed_meanwhile_does_not_count(server):
    """Between looking at an entry and keeping a mark of it another process may replace or remove it."""
    begun(server)
    mark = Mark(
        query="q", names="n", query_modality="visible", path="/shots/a.png", similarity=1, verdict="right", marked=0
    )

    def replaced(method, path):
        if (method, path) == ("PUT", "/collections/people/points"):
            server.before = lambda method, path: None
            with opened(server) as other:
                other.put([Entry(path="/shots/a.png", digest="new", modality="visible")], np.ones((1, 2), np.float32))

    server.before = replaced
    with opened(server) as store, store.marks() as marks:
        marks.put(mark)
        assert marks.of("q") == {} and marks.rows() == []
        marks.put(mark)
        assert marks.of("q") == {"/shots/a.png": "right"}


def test_the_page_and_its_marks(server, model, tmp_path, capsys):
    images = indexes.draw_noise(tmp_path / "shots", 5)
    with jax_mspac.Index.open(server.address()) as index:
        index.add(images, model=model, modality="visible", camera="gate")
        expected = [(hit.path, pytest.approx(hit.similarity, abs=1e-6)) for hit in index.query(images[0], "infrared")]
    with contextlib.closing(Searcher(server.address(), model)) as searcher:
        with TestClient(application(searcher), base_url="http://127.0.0.1:8000") as client:
            home = client.get("/").text
            assert "<title>people" in home and "gate" in home
            files = [("images", ("0.png", images[0].read_bytes()))]
            json_please = {"accept": "application/json"}
            answer = client.post("/query", files=files, data={"modality": "infrared"}, headers=json_please).json()
            assert [(hit["path"], hit["similarity"]) for hit in answer["hits"]] == expected
            first = answer["hits"][0]
            assert client.get(f"/image/{first['id']}").headers["content-type"] == "image/jpeg"
            again = client.post("/query", data={"entry": first["id"]}, headers=json_please).json()
            assert first["path"] not in [hit["path"] for hit in again["hits"]] and len(again["hits"]) == 4
            fields = {"query": answer["query"]["id"], "names": "0.png", "modality": "infrared", "entry": first["id"]}
            fields |= {"similarity": str(first["similarity"]), "verdict": "right"}
            assert client.post("/mark", data=fields, headers=json_please).json() == {"verdict": "right"}
            for wrong in (first["id"][:-1] + "x", "1-0", "x"):
                assert "no longer in the index" in client.get(f"/entry/{wrong}", headers=json_please).json()["error"]
    values = flags.FlagValues()
    door.define_flags(values)
    door.run(values(["search", "marks", "--index", server.address()]), values)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["path"], row["verdict"], row["camera"]) == (first["path"], "right", "gate")


def test_a_missing_client_is_told_with_its_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("qdrant_client", "jax_mspac.search.qdrant_"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    values = flags.FlagValues()
    door.define_flags(values)
    with pytest.raises(SystemExit, match="qdrant_client is not installed, which this needs: pip install .*cluster"):
        door.run(values(["search", "info", "--index", "qdrant+http://localhost/people"]), values)


def test_info_says_what_a_server_tells(server, capsys):
    begun(server)
    values = flags.FlagValues()
    door.define_flags(values)
    door.run(values(["search", "info", "--index", server.address(), "--json"]), values)
    told = json.loads(capsys.readouterr().out)
    assert (told["folder"], told["entries"], told["bytes"]) == (server.address(), 2, None)
