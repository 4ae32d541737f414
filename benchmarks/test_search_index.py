"""The benchmark of the index, at a small size: its rows, and both programs against sorting."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
from benchmarks import search, search_index  # noqa: E402


def test_script_reports_adding_latency_memory_and_disk(tmp_path):
    command = [sys.executable, "benchmarks/search_index.py", "--sizes", "700", "--dims", "16", "--queries", "3"]
    command += ["--repeats", "2", "--peers", "--json", str(tmp_path / "index.json"), "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "index.json").read_text())["rows"]
    names = ["adding", *2 * ["query, median", "query, p99"], "peak memory", "disk"]
    assert [row["name"] for row in rows] == names
    assert all(row["ours"] > 0 and row["entries"] == 700 for row in rows)
    assert [row["queries"] for row in rows[1:5]] == [6] * 4
    assert rows[1]["ours"] <= rows[2]["ours"] and "entries/s" in done.stdout


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of faiss's bindings
@pytest.mark.parametrize("name", ["Ours", "Faiss", "Lance"])
def test_programs_find_what_sorting_finds(tmp_path, name):
    if name != "Ours":
        pytest.importorskip({"Faiss": "faiss", "Lance": "lancedb"}[name])
    file = search.draw(tmp_path / "gallery.npy", 500, 8)
    program, twin = (getattr(search_index, name)(str(file), str(tmp_path / "index"), 64) for _ in range(2))
    assert program.adding() > 0
    gallery = np.load(file)
    for wanted, rows in (("none", gallery), ("camera", gallery[3::10])):
        expected = -np.sort(-twin._drawn(5) @ rows.T, axis=1)[:, :20]
        np.testing.assert_allclose(program.found(wanted, 5), expected, atol=1e-6)
    program.close()
