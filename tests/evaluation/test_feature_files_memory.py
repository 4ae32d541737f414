"""Scoring a file whose features take gigabytes."""

import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Prints the peak of its own memory. What getrusage calls the peak of a child starts at that of its parent.
MILLION = """
import pathlib, sys
from jax_mspac.data.registry import named
from jax_mspac.evaluation.feature_files import score
settings = {"shots": (0,), "direction": "infrared->visible", "postprocessing": ()}
(row,) = score(pathlib.Path(sys.argv[1]), named("folder"), settings)["rows"]
assert (row["queries"], row["gallery"]) == (32, 1_000_000), row
status = pathlib.Path("/proc/self/status").read_text()
print("peak", status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_a_million_images_are_scored_within_four_gigabytes(tmp_path):
    """The features alone are 2 GB, written and read in parts."""
    rng = np.random.default_rng(0)
    count, width, queries = 1_000_000, 512, 32
    ids, part = rng.integers(0, 50_000, count), rng.random((5000, width), np.float32) - np.float32(0.5)
    keys = {
        "query_features": part[:queries],
        "query_ids": ids[:queries],
        "gallery_ids": ids,
        "query_cams": np.ones(queries, int),
        "gallery_cams": rng.integers(2, 6, count),
    }
    path = tmp_path / "features.npz"
    np.savez(path, **keys)
    with zipfile.ZipFile(path, "a") as file, file.open("gallery_features.npy", "w", force_zip64=True) as array:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(array, header)
        for _ in range(0, count, len(part)):
            array.write((part * rng.random(width, np.float32)).tobytes())
    program = [sys.executable, "-c", MILLION, str(path)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    path.unlink()
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split("peak ")[1])
    assert 2_000_000 < peak < 4_000_000, f"{peak} kB"
