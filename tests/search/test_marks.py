"""Right and wrong: what is kept, for how long, and what leaves as a table."""

import contextlib
import csv
import io
import json

import pytest
from absl import flags
from helpers import serving
from starlette.testclient import TestClient

import jax_mspac
from jax_mspac.search import __main__ as door
from jax_mspac.search.marks import COLUMNS, Mark, Marks, write_csv
from jax_mspac.search.serving.app import application
from jax_mspac.search.serving.searcher import Searcher


@pytest.fixture
def shots(tmp_path, model):
    return serving.fill(tmp_path, model)


@pytest.fixture
def client(tmp_path, shots, model):
    with contextlib.closing(Searcher(tmp_path / "index", model)) as searcher:
        with TestClient(application(searcher), base_url="http://127.0.0.1:8000") as client:
            yield client


def found(client, image, name=None):
    files = [("images", (name or image.name, image.read_bytes()))]
    answer = client.post("/query", files=files, data={"modality": "infrared"}, headers={"accept": "application/json"})
    return answer.json()


def mark(client, answer, hit, said, **changed):
    fields = {"query": answer["query"]["id"], "names": answer["query"]["names"], "modality": "infrared"}
    fields |= {"entry": hit["id"], "similarity": str(hit["similarity"]), "verdict": said}
    return client.post("/mark", data=fields | changed, headers={"accept": "application/json"})


def table(client):
    answer = client.get("/marks.csv")
    assert (
        answer.headers["content-type"].startswith("text/csv") and "attachment" in answer.headers["content-disposition"]
    )
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_marks_are_kept_changed_withdrawn_and_exported(tmp_path, client, shots, capsys):
    assert table(client) == []
    answer = found(client, shots[0], name="=cmd()|,.png")
    first, second, third = answer["hits"][:3]
    for hit, verdict in ((first, "right"), (second, "right"), (third, "wrong"), (second, "wrong"), (third, "")):
        assert mark(client, answer, hit, verdict).json() == {"verdict": verdict}
    again = {hit["path"]: hit["mark"] for hit in found(client, shots[0])["hits"]}
    assert again.pop(first["path"]) == "right" and again.pop(second["path"]) == "wrong"
    assert set(again.values()) == {None}
    assert {hit["mark"] for hit in found(client, shots[1])["hits"]} == {None}

    rows = table(client)
    assert [(row["path"], row["verdict"]) for row in rows] == [(first["path"], "right"), (second["path"], "wrong")]
    entry = next(one for one in serving.entries(tmp_path) if one.path == first["path"])
    assert rows[0]["names"] == "'=cmd()|,.png" and rows[0]["query"] == answer["query"]["id"]
    assert (rows[0]["digest"], rows[0]["modality"]) == (entry.digest, entry.modality)
    assert float(rows[0]["similarity"]) == pytest.approx(first["similarity"], abs=1e-6)

    values = flags.FlagValues()
    door.define_flags(values)
    command = ["search", "marks", "--index", str(tmp_path / "index")]
    door.run(values(command), values)
    assert list(csv.DictReader(io.StringIO(capsys.readouterr().out))) == rows
    door.run(values([*command, "--json"]), values)
    told = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in told] == ["right", "wrong"] and list(told[0]) == list(COLUMNS)


def test_a_mark_goes_with_its_entry(tmp_path, client, shots):
    answer = found(client, shots[0])
    by_path = {hit["path"]: hit for hit in answer["hits"]}
    for path in shots[:4]:
        assert mark(client, answer, by_path[str(path)], "right").is_success
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.remove(shots[0])
        index.add(shots[1], modality="visible", camera="roof")  # another label, the same image
        shots[2].write_bytes(shots[5].read_bytes())
        index.add(shots[2], modality="visible")
    assert [row["path"] for row in table(client)] == [str(shots[1]), str(shots[3])]
    assert "no longer in the index" in mark(client, answer, by_path[str(shots[0])], "right").json()["error"]
    for file in (tmp_path / "index").iterdir():
        assert str(shots[0]).encode() not in file.read_bytes(), file


def test_what_is_no_mark_is_refused(client, shots):
    answer = found(client, shots[0])
    hit = answer["hits"][0]
    for changed, message in (
        ({"query": "1"}, "a mark is of no query"),
        ({"modality": "thermal"}, "a mark is of no query"),
        ({"verdict": "maybe"}, "verdict is 'maybe'; expected one of right, wrong"),
        ({"similarity": "nan"}, "similarity is 'nan'"),
        ({"entry": "1-0"}, "no longer in the index"),
    ):
        refused = mark(client, answer, hit, "right", **changed)
        assert refused.status_code == 400 and message in refused.json()["error"], changed
    assert table(client) == []


def test_looking_at_marks_writes_nothing(tmp_path, shots):
    before = (tmp_path / "index" / "index.sqlite").read_bytes()
    with Marks(tmp_path / "index") as marks:
        assert marks.rows() == [] and marks.of("0") == {}
        marks.withdraw("0", str(shots[0]))
    assert (tmp_path / "index" / "index.sqlite").read_bytes() == before


def test_a_mark_of_no_entry_is_not_kept(tmp_path, shots):
    of = {
        "query": "0" * 64,
        "names": "a",
        "query_modality": "visible",
        "similarity": 0.5,
        "verdict": "right",
        "marked": 0,
    }
    with Marks(tmp_path / "index") as marks:
        marks.put(Mark(path="/nowhere", **of))
        marks.put(Mark(path=str(shots[0]), **of))
        [row] = marks.rows()
    file = io.StringIO()
    write_csv([row], file)
    assert file.getvalue().splitlines()[1].startswith("1970-01-01 00:00:00,right,0000")
