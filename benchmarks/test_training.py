"""The benchmarks of the training step and of the embedding at a tiny size: their rows, and their checks of the peer."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import embed, programs_jax, programs_torch, reporting, train_step, workload  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]


def tiny(batch):
    return Workload(backbone="resnet18", batch=batch, height=32, width=16, model_width=4, parts=(2, 1))


class Local:
    """A `Remote` that stays in this process, where libraries are loaded and programs compiled already."""

    def __init__(self, name, *arguments):
        module, _, kind = name.partition(":")
        programs = {"benchmarks.programs_jax": programs_jax, "benchmarks.programs_torch": programs_torch}
        self._program = getattr(programs[module], kind)(*arguments)

    def __call__(self, method, *arguments):
        return getattr(self._program, method)(*arguments)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(train_step, "Remote", Local)
    monkeypatch.setattr(embed, "Remote", Local)
    # The folder of compiled programs of a benchmark is gone after it.
    monkeypatch.setattr(programs_jax, "_use_cache", lambda folder: None)
    # Threads that wait for each other on a busy machine take longer than tiny tensors.
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


def assert_sound(rows):
    for row in rows:
        # Both programs share this process, and so its memory.
        assert row["ours"] > 0 or row["name"] == "peak memory", row
        assert row["unit"] and row["device"] == jax.devices()[0].device_kind
        if row["peer"] is None:
            assert row["ratio"] is None
        else:
            better = (row["ours"], row["peer"]) if row["unit"] == "images/s" else (row["peer"], row["ours"])
            assert row["ratio"] == pytest.approx(better[0] / better[1])
            assert row["peer_program"] in ("torch, contiguous", "torch, channels_last")


@pytest.mark.slow
def test_rows_of_the_training_step(in_this_process, monkeypatch):
    # As on a chip whose peak is known, where a second has as many FLOPs as the step.
    flops = []
    monkeypatch.setattr(
        programs_jax.TrainStep, "flops", lambda self, part: flops.append(self._flops[part]) or self._flops[part]
    )
    monkeypatch.setitem(train_step.PEAKS, jax.devices()[0].device_kind, {"float32": 1.0})
    rows = train_step.measured(tiny(4), train_step.PARTS, repeats=1, steps=2)
    assert_sound(rows)
    compared = ["step", "peak memory", "forward", "backward", "optimizer"]
    assert [row["name"] for row in rows] == ["compile, cold", "compile, warm", *compared]
    assert all(row["peer"] is not None for row in rows[2:])
    step = rows[2]
    assert step["share_of_peak"] == pytest.approx(flops[0] * step["ours"] / 4)
    assert step["peer_share_of_peak"] == pytest.approx(flops[0] * step["peer"] / 4)
    # The parts are parts: the compiler has left out what they do not need.
    whole, forward, backward = flops
    assert 2.5 * forward < backward < whole < 5 * forward


def test_rows_of_the_embedding(in_this_process):
    rows = embed.measured([tiny(1), tiny(3)], repeats=1)
    assert_sound(rows)
    assert [(row["name"], row["batch"]) for row in rows] == [
        ("embed", 1),
        ("latency, median", 1),
        ("latency, p90", 1),
        ("embed", 3),
    ]
    assert rows[2]["ours"] >= rows[1]["ours"] and rows[2]["peer"] >= rows[1]["peer"]
    assert rows[0]["ours"] == pytest.approx(1e3 / rows[1]["ours"])


def test_another_result_or_device_ends_the_benchmark():
    chosen, cpu, gpu = tiny(2), {"platform": "cpu", "kind": "cpu"}, {"platform": "gpu", "kind": "some GPU"}
    features = {"before_neck": np.ones((2, 3)), "after_neck": np.zeros((2, 3))}
    workload.check_same(chosen, "torch", [cpu, cpu], [features, dict(reversed(features.items()))])
    workload.check_same(chosen, "torch", [gpu, gpu], [[2.0, 1.0], [2.01, 1.01]])
    with pytest.raises(SystemExit, match="does not compute what we do"):
        workload.check_same(chosen, "torch", [cpu, cpu], [[2.0, 1.0], [2.02, 1.02]])
    with pytest.raises(SystemExit, match="does not compute what we do"):
        workload.check_same(chosen, "torch", [cpu, cpu], [[2.0, 1.0], [2.0, float("nan")]])
    with pytest.raises(SystemExit, match="JAX runs on some GPU, torch on cpu"):
        workload.check_same(chosen, "torch", [gpu, cpu], [[1.0], [1.0]])


def test_impossible_flags_end_it_before_anything_runs(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_step.py", "--height", "100"])
    with pytest.raises(SystemExit, match="config.model.parts"):
        train_step.main()
    monkeypatch.setattr(sys, "argv", ["train_step.py", "--batch", "16", "3"])
    with pytest.raises(SystemExit, match="--batch is 3"):
        train_step.main()


def test_a_row_tells_which_way_is_better():
    assert reporting.row("time", 2.0, 4.0, "seconds")["ratio"] == 2.0
    assert reporting.row("speed", 2.0, 4.0, "images/s", higher_is_better=True)["ratio"] == 0.5
    assert reporting.row("speed", 2.0, None, "images/s", higher_is_better=True)["ratio"] is None


def test_the_peak_of_memory_can_start_again():
    # In a process of its own: this one may keep the memory of earlier tests, and use it again.
    program = """
import numpy as np
from benchmarks import reporting
np.ones(60_000_000).sum()
reporting.reset_peak_memory()
before, resident = reporting.peak_memory(), reporting.resident_memory()
np.ones(40_000_000).sum()
print(before, resident, reporting.peak_memory())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    before, resident, after = map(float, done.stdout.split())
    assert before == pytest.approx(resident, rel=0.05)
    assert after - before == pytest.approx(0.32, rel=0.2)


def test_the_command_in_its_own_processes(tmp_path):
    sizes = ["--height", "96", "--width", "48", "--model-width", "4", "--backbone", "resnet18", "--batch", "2"]
    command = [sys.executable, ROOT / "benchmarks" / "embed.py", *sizes, "--no-peer", "--repeats", "1"]
    file = tmp_path / "embed.json"
    done = subprocess.run([*command, "--json", file], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    (row,) = written["rows"]
    assert row["name"] == "embed" and row["ours"] > 0 and row["peer"] is row["ratio"] is None
    assert written["machine"]["jax"] == jax.__version__
    assert "images/s" in done.stdout
    assert done.stdout.splitlines()[-1] == reporting.described(written["machine"])


@pytest.mark.parametrize("form", [["benchmarks/train_step.py"], ["-m", "benchmarks.train_step"]])
def test_both_forms_of_the_command(form):
    done = subprocess.run([sys.executable, *form, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--model-width" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "modules, absent",
    [("train_step, embed", "jax torch tensorflow"), ("programs_jax, programs_torch", "tensorflow")],
)
def test_what_the_processes_do_not_load(modules, absent):
    program = f"import sys\nfrom benchmarks import {modules}\nprint(set('{absent}'.split()) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
