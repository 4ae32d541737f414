"""The benchmarks of the input pipeline and of the start, at a small size."""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
from benchmarks import input as input_benchmark  # noqa: E402
from benchmarks import startup  # noqa: E402


def run(name, *flags, folder):
    file = folder / "rows.json"
    command = [sys.executable, f"benchmarks/{name}.py", *flags, "--json", str(file)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    written = json.loads(file.read_text())
    assert set(written) == {"machine", "rows"}
    return {row["name"]: row for row in written["rows"]}


def test_drawn_photographs_have_the_sizes_of_the_data_set(tmp_path):
    input_benchmark.draw(tmp_path, people=2, images=20)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 2 * 2 * 20 and files[0].parent.parent.name == "ir"
    for file in files:
        with Image.open(file) as image:
            width, height = image.size
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert 120 <= height <= 600 and 50 <= width <= 250 and width < height
        assert 1_000 < file.stat().st_size < 100_000
        assert (np.ptp(pixels, axis=-1).mean() < 2) == (file.parts[-3] == "ir")


def test_input_rows(tmp_path):
    pytest.importorskip("torch")
    flags = "--people 20 --images 2 --identities 2 --height 24 --width 12 --batches 2 --repeats 1 --workers 1".split()
    rows = run("input", *flags, "--step_seconds", "0.01", folder=tmp_path)
    assert list(rows) == ["prepare", "load", "first epoch", "decoding", "later epochs", "waiting"]
    for name in ("prepare", "load"):
        assert rows[name]["ours"] > 0 and rows[name]["peer"] is None and rows[name]["unit"] == "seconds"
    for name in ("first epoch", "decoding", "later epochs"):
        row = rows[name]
        assert (row["images"], row["batch"]) == (72, 16)
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"]) and row["unit"] == "images/s"
    assert 0 < rows["waiting"]["ours"] < 1 and 0 < rows["waiting"]["peer"] < 1


def test_peer_reads_the_planned_images_again_and_again(tmp_path):
    pytest.importorskip("torch")
    input_benchmark.draw(tmp_path / "photographs", people=3, images=1)
    paths = [str(path.relative_to(tmp_path / "photographs")) for path in sorted(tmp_path.rglob("*.jpg"))]
    plan = [[paths[4], paths[0]], [paths[0], paths[2]]]
    peer = input_benchmark.Torch(str(tmp_path), plan, (24, 12), 0)
    batches = peer._batches(True)
    for planned in (*plan, *plan):
        batch = next(batches).numpy()
        assert batch.dtype == np.uint8 and batch.shape == (2, 24, 12, 3)
        for pixels, path in zip(batch, planned, strict=True):
            with Image.open(tmp_path / "photographs" / path) as image:
                expected = image.convert("RGB").resize((12, 24), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_waiting_counts_the_time_between_steps_alone():
    class Slow(input_benchmark._Program):
        def _batches(self, keep):
            while True:
                time.sleep(0.03)
                yield None

    share = Slow().waiting(3, 0.01)
    assert 0.75 <= share < 1


def test_first_step_is_done_when_its_metrics_are_written(tmp_path):
    write = "import pathlib, sys, time; folder = pathlib.Path(sys.argv[1].partition('=')[2]); folder.mkdir();"
    write += "time.sleep(0.2); (folder / 'metrics.jsonl').write_text('{}'); time.sleep(600)"
    seconds = startup._seconds([sys.executable, "-c", write], tmp_path / "run", tmp_path / "cache")
    assert 0.2 <= seconds < 600
    with pytest.raises(RuntimeError, match="no first step: why"):
        startup._seconds([sys.executable, "-c", "print('why')"], tmp_path / "none", tmp_path / "cache")


@pytest.mark.slow
def test_startup_of_the_real_command(tmp_path):
    small = ["data.height=32", "data.width=16", "model.width=4", "model.parts=2,1"]
    row = startup.first_step("demo", small, tmp_path, repeats=1)
    assert row["name"] == "first step" and row["ours"] > 0 and row["ratio"] == pytest.approx(row["peer"] / row["ours"])
    # Each run has a folder of its own, and the caches have been used.
    assert len(list(tmp_path.glob("run-*/metrics.jsonl"))) == 3
    caches = [folder for folder in tmp_path.iterdir() if any(folder.rglob("*-cache"))]
    assert {folder.name.partition("-")[0] for folder in caches} >= {"warm", "cold"}


def test_startup_rows_of_import_and_help(tmp_path):
    pytest.importorskip("torch")
    rows = run("startup", "--networks", "--repeats", "1", folder=tmp_path)
    assert list(rows) == ["import", "help"]
    assert all(row["ours"] > 0 and row["peer"] > 0 and row["against"] == "import torch" for row in rows.values())
