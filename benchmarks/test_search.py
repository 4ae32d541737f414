"""The benchmark of the search, at a small size: its rows, and its peers against a sorting of all similarities."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
from benchmarks import search  # noqa: E402


def test_script_compares_with_the_peers_that_there_are(tmp_path):
    command = [sys.executable, "benchmarks/search.py", "--sizes", "500", "--queries", "8", "--dims", "16", "--k", "5"]
    command += ["--peers", "numpy", "--repeats", "1", "--json", str(tmp_path / "search.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    written = json.loads((tmp_path / "search.json").read_text())
    assert set(written) == {"machine", "rows"}
    (row,) = written["rows"]
    assert (row["gallery"], row["queries"], row["dims"], row["k"], row["against"]) == (500, 8, 16, 5, "numpy")
    assert row["same_positions"] > 0.9 and row["ours"] > 0 and row["peer"] > 0
    assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
    assert "search" in done.stdout and "against" in done.stdout


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of faiss's bindings
@pytest.mark.parametrize("size", [300, search._DRAWN + 7])  # a gallery is drawn in parts
def test_programs_find_what_sorting_finds(tmp_path, size):
    file = search.draw(tmp_path / "gallery.npy", size, 8)
    programs = [search.Ours(file, 4, 6), search.Numpy(file, 4, 6)]
    if importlib.util.find_spec("faiss"):
        programs.append(search.Faiss(file, 4, 6))
    gallery = np.load(file)
    assert gallery.shape == (size, 8)
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, rtol=1e-5)
    similarities = programs[0]._queries @ gallery.T
    expected = -np.sort(-similarities, axis=1)[:, :6]
    for program in programs:
        found, positions = program.found()
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(similarities, positions, axis=1), expected, atol=1e-6)
        assert program.seconds() > 0 and program.peak() > 0


def test_numpy_joins_the_findings_of_its_blocks(tmp_path, monkeypatch):
    program = search.Numpy(search.draw(tmp_path / "gallery.npy", 100, 8), 4, 6)
    whole = program.found()
    monkeypatch.setattr(search, "_BLOCK", 7)
    for found, expected in zip(program.found(), whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_similarities_stop_the_comparison(tmp_path, monkeypatch):
    monkeypatch.setitem(search.PEERS, "numpy", "benchmarks.search:Ours")
    monkeypatch.setattr(search, "Remote", _Off)
    with pytest.raises(RuntimeError, match="numpy found other similarities, by up to 1"):
        search.measured("numpy", search.draw(tmp_path / "gallery.npy", 10, 4), 2, 2, repeats=1)


class _Off:
    """In the place of a Remote; each one's similarities are 1 more than those of the one before."""

    made = 0

    def __init__(self, *_):
        self.offset = _Off.made
        _Off.made += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, method):
        return np.full((2, 2), self.offset, np.float32), np.zeros((2, 2), int)
