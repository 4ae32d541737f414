"""The benchmark of the index, at a small size: its rows, and both programs against sorting."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
from benchmarks import index_programs  # noqa: E402


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of faiss's and Milvus's bindings
@pytest.mark.parametrize("name", [None, *index_programs.PEERS])
def test_programs_find_what_sorting_finds(tmp_path, name):
    peer = index_programs.PEERS[name] if name else index_programs.Peer("Ours", "jax_mspac")
    pytest.importorskip(peer.module)
    file = index_programs.draw(tmp_path / "gallery.npy", 600, 8)
    kind = getattr(index_programs, peer.program)
    program, twin = (kind(str(file), str(tmp_path / "index"), 64) for _ in range(2))
    assert program.adding() > 0 and program.disk() > 0
    gallery = np.load(file)
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, atol=1e-6)
    for wanted, rows in (("none", np.arange(600)), ("camera", np.arange(3, 600, 10))):
        numbers, similarities = program.found(wanted, 5)
        products = twin.drawn(5) @ gallery.T
        expected = rows[np.argsort(-products[:, rows], axis=1)[:, :20]]
        if peer.exact:
            np.testing.assert_array_equal(numbers, expected)
        valid = numbers >= 0
        np.testing.assert_allclose(similarities[valid], np.take_along_axis(products, numbers, axis=1)[valid], atol=1e-5)
        assert set(numbers[valid].tolist()) <= set(rows.tolist()) and valid.any()
    program.close()
