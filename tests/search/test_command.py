"""`python -m jax_mspac.search` as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import app, flags
from helpers import films, indexes, small_runs
from PIL import Image

from jax_mspac.search import __main__ as door
from jax_mspac.search import contact_sheet, texts
from jax_mspac.search.entries import Hit

ROOT = Path(__file__).parents[2]
# Of what does not depend on the store.
in_a_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = small_runs.draw(tmp_path_factory.mktemp("command"))
    return indexes.trained(folder, "run", **{"train.compilation_cache": False})


@pytest.fixture
def shots(tmp_path):
    return indexes.draw_noise(tmp_path / "shots", 9)


@pytest.fixture
def search(place, capsys):
    """The command in this process, on one index: what it prints, or the line that it ends with."""

    def call(action, *arguments, fails=False):
        values = flags.FlagValues()
        door.define_flags(values)
        argv = values(["search", action, "--index", str(place), *map(str, arguments)])
        if not fails:
            door.run(argv, values)
            return capsys.readouterr().out
        with pytest.raises((SystemExit, app.UsageError)) as end:
            door.run(argv, values)
        capsys.readouterr()
        return str(end.value)

    return call


def test_add_query_list_info_and_remove(search, run, shots):
    options = ("--modality", "visible", "--camera", "gate", "--time", "2026-11-28 10:00")
    told = search("add", "--model", run, "--images", *shots[:5], *options)
    assert told.startswith("5 new, 0 replaced, 0 with other labels, 0 as they were; the index had 0 entries and has 5")
    told = search("add", "--images", shots[0].parent, "--modality", "visible")
    assert told.startswith("4 new, 0 replaced, 0 with other labels, 5 as they were; the index had 5 entries and has 9")

    lines = search("query", shots[2], "--modality", "visible", "--top", "3").splitlines()
    assert lines[0].split() == ["rank", "similarity", "modality", "camera", "time", "path"]
    assert lines[1].split() == ["1", "1.0000", "visible", "gate", "2026-11-28", "10:00:00", str(shots[2])]
    assert len(lines) == 6 and lines[-1].startswith("no threshold is calibrated")
    found = json.loads(search("query", *shots[2:4], "--modality", "visible", "--camera", "gate", "--json"))["hits"]
    assert {hit["path"] for hit in found} == set(map(str, shots[:5]))
    assert "no entry fits" in search("query", shots[0], "--modality", "visible", "--since", "2026-12-01")

    assert len(search("list").splitlines()) == 10
    listed = json.loads(search("list", "--camera", "gate", "--until", "2027-01-01", "--json"))
    assert [(entry["path"], entry["camera"]) for entry in listed] == [(str(path), "gate") for path in shots[:5]]
    told = search("info")
    assert f"{run}, step 1, after_neck" in told and "gate          5" in told and "-             4" in told
    assert json.loads(search("info", "--json"))["entries"] == 9
    assert search("remove", shots[8]).startswith("1 entries removed, 8 left")
    assert json.loads(search("remove", "--camera", "gate", "--json")) == {"removed": 5, "entries": 3}


@in_a_folder
def test_what_cannot_be_done_is_one_line(search, run, shots, tmp_path):
    add = ("add", "--images", shots[0].parent, "--modality", "visible")
    assert "no index there" in search("query", shots[0], "--modality", "visible", fails=True)
    assert "the index has no model yet" in search(*add, fails=True)
    (tmp_path / "shots" / "bad\n\x1b[2J.png").write_text("no image")
    told = search(*add, "--model", run, fails=True)
    assert "1 of 10 images cannot be read" in told and "bad��[2J.png: " in told
    assert json.loads(search("info", "--json"))["entries"] == 9
    for arguments, message in (
        (("query", shots[0]), "--modality is required"),
        (("query", "--modality", "visible"), "which image"),
        (("query", shots[0], "--modality", "visible", "--sheet", "sheet.txt"), "expected a .png or .jpg"),
        (("add", "--modality", "visible"), "which images"),
        ((*add, "--camera", "1", "--camera", "2"), "--camera is given 2 times"),
        ((*add, "--top", "3"), "--top is no flag of add"),
        (("list", "x"), "unexpected arguments"),
        (("find",), "expected one of add, query"),
        (("remove",), "remove which entries"),
    ):
        assert message in search(*arguments, fails=True), arguments


def test_add_footage_and_a_sheet_of_its_people(search, run, tmp_path):
    shots = films.save_frames(tmp_path / "film")
    boxes = films.save_boxes(tmp_path / "gt.txt")
    options = ("--frames", shots, "--modality", "visible", "--fps", "10", "--time", "2026-11-28 10:00")
    told = search("add", "--model", run, *options, "--boxes", boxes, "--camera", "gate", "--every", "2")
    assert told.startswith("2 new, 0 replaced, 0 with other labels, 0 as they were; the index had 0 entries and has 2")
    listed = search("list")
    assert f"{shots}#track=3" in listed and "box=10,20,24,48, track=3" in listed and "frame=" in listed
    crop = Image.fromarray(films.frames()[0][20:68, 10:34])
    crop.save(tmp_path / "query.png")
    search("query", tmp_path / "query.png", "--modality", "visible", "--sheet", tmp_path / "sheet.png")
    found = json.loads(search("query", tmp_path / "query.png", "--modality", "visible", "--json"))["hits"]
    assert [hit["path"] for hit in found] == [f"{shots}#track=3", f"{shots}#track=8"]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    # The same crop twice: as the query, and as the first hit a row below.
    query, hit = (sheet[14 + row : 14 + row + 256, 14 : 14 + 128] for row in (0, 256 + 14 + 54))
    np.testing.assert_array_equal(hit, query)
    assert json.loads(search("remove", shots, "--json")) == {"removed": 2, "entries": 0}

    detector = films.save_detector(tmp_path / "people.onnx", np.zeros((1, 40, 6)))
    told = search("add", "--model", run, *options, "--detector", detector, "--min_score", "0.5")
    assert told.startswith("0 new") and "has 0" in told
    odd = films.save_boxes(tmp_path / "odd.txt", some=[(0, "1", 500, 0, 9, 9)])
    told = search("add", "--model", run, *options, "--boxes", odd, fails=True)
    assert "not all frames and boxes can be read" in told and "1.png#box=500,0,9,9: the box lies outside" in told
    for arguments, message in (
        (("--frames", shots), "where are people in --frames"),
        (("--frames", shots, "--boxes", boxes, "--detector", "hog"), "where are people in --frames"),
        (("--frames", shots, "--video", "a.mp4", "--boxes", boxes), "--video and --frames are given"),
        (("--frames", shots, "--boxes", boxes, "--images", shots), "--images is of images"),
        (("--frames", shots, "--boxes", boxes, shots), f"{shots} is of images"),
        (("--frames", shots, "--boxes", boxes, "--metadata", "a.csv"), "--metadata is of images"),
        (("--frames", shots, "--boxes", boxes), "--modality is required"),
        (("--frames", shots, "--boxes", boxes, "--detector_layout", "yolov5"), "--detector_layout is of --detector"),
        (("--images", shots, "--every", "2"), "--every is of footage"),
        (("--video", "none.mp4", "--detector", "hog", "--modality", "visible"), "there is no such video file"),
    ):
        assert message in search("add", "--model", run, *arguments, fails=True), arguments


def test_calibrate_prints_thresholds_and_queries_say_match(search, run, shots, tmp_path):
    search("add", "--model", run, "--images", *shots, "--modality", "visible")
    told = search("calibrate", "--false_match_rate", "0.05", "--curve", tmp_path / "new" / "curve.png")
    assert "visible->infrared" in told and "among 9 entries of other people some 0.45 match by chance" in told
    assert Image.open(tmp_path / "new" / "curve.png").width > 400
    assert "threshold infrared->visible" in search("info")
    found = json.loads(search("query", shots[0], "--modality", "infrared", "--json"))
    threshold = json.loads(search("info", "--json"))["thresholds"]["infrared->visible"]["threshold"]
    matches = [hit["similarity"] >= threshold for hit in found["hits"]]
    assert [hit["match"] for hit in found["hits"]] == matches
    assert found["verdict"] == (f"{sum(matches)} of 9 reach the threshold" if any(matches) else "no match")
    assert "a false-match rate is 2.0; expected" in search("calibrate", "--false_match_rate", "2", fails=True)
    assert "--curve is a.pdf; expected a .png" in search("calibrate", "--curve", "a.pdf", fails=True)


def test_the_process_ends_with_a_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jax_mspac.search", "info", "--index", tmp_path / "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "error: " in done.stderr and "no index there" in done.stderr
    assert "Traceback" not in done.stderr
    help_text = subprocess.run(
        [sys.executable, "-m", "jax_mspac.search", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "--modality" in help_text.stdout and "An index of embedded images" in help_text.stdout


def test_what_only_reads_and_removes_entries_starts_without_jax(search, place, run, shots):
    search("add", "--model", run, "--images", *shots, "--modality", "visible")
    for action, said in ((["list"], str(shots[0])), (["info"], "after_neck"), (["remove", str(shots[0])], "8 left")):
        command = [action[0], "--index", str(place), *action[1:]]
        program = (
            "import sys\nfrom absl import flags\nfrom jax_mspac.search import __main__ as door\n"
            f"door.define_flags(flags.FLAGS)\ndoor.run(flags.FLAGS({['search', *command]!r}), flags.FLAGS)\n"
            "print({name.partition('.')[0] for name in sys.modules} & {'jax', 'flax', 'tensorflow'})"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert said in done.stdout and done.stdout.endswith("\nset()\n"), action


@in_a_folder
def test_the_contact_sheet_shows_queries_and_hits(search, run, shots, tmp_path):
    plain = [Image.new("RGB", (32, 64), color) for color in ("#ff0000", "#00ff00", "#0000ff")]
    for path, image in zip(shots, plain, strict=False):
        image.save(path)
    search("add", "--model", run, "--images", *shots[:3], "--modality", "visible")
    search("query", shots[0], "--modality", "visible", "--sheet", tmp_path / "new" / "sheet.png")
    found = json.loads(search("query", shots[0], "--modality", "visible", "--json"))["hits"]
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    width, height = (128 + 14, 256 + 14 + 54)
    assert sheet.shape == (2 * height + 14, 7 * width + 14, 3)
    center = lambda row, column: sheet[14 + row * height + 128, 14 + column * width + 64].tolist()  # noqa: E731
    assert center(0, 0) == [255, 0, 0]
    colors = dict(zip(map(str, shots), ([255, 0, 0], [0, 255, 0], [0, 0, 255]), strict=False))
    assert [center(1, column) for column in range(3)] == [colors[hit["path"]] for hit in found]
    assert center(1, 3) == [255, 255, 255]


def test_the_contact_sheet_leaves_blank_what_is_no_longer_there(shots):
    fields = {"digest": "0", "modality": "visible", "camera": "a very long name " * 5, "rank": 1, "similarity": 0.5}
    hits = [Hit(path="/nowhere/a.png", match=True, **fields), Hit(path=str(shots[0]), match=False, **fields)]
    sheet = np.asarray(contact_sheet.draw([Image.new("RGB", (8, 8))], hits))
    row = sheet[14 + 256 + 14 + 54 + 200]
    assert row[14 + 64].tolist() == row[14 + 142 + 64].tolist() == [0xE4] * 3
    assert row[12].tolist() == [0x00, 0x9E, 0x73] and row[14 + 142 - 2].tolist() == [0x9A] * 3


def test_progress_leaves_the_time_of_the_first_batch_out(monkeypatch, capsys):
    clock = iter([0.0, 100.0, 110.0, 120.0])
    monkeypatch.setattr(texts.time, "monotonic", lambda: next(clock))
    progress = texts.Progress()
    for done in (64, 128, 192):
        progress(done, 256)
    assert capsys.readouterr().err.splitlines() == [
        "64 of 256 images  1 images/s  5:00 left",
        "128 of 256 images  6 images/s  0:20 left",
        "192 of 256 images  6 images/s  0:10 left",
    ]


def test_tables_have_aligned_columns_without_those_that_are_empty():
    rows = [("1", "", "a\tb"), ("-10.5", "", "ccc")]
    assert texts.table(("n", "none", "text"), rows) == "    n  text\n    1  a�b\n-10.5  ccc"
