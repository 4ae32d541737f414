"""The costs of systems at a tiny size: what is counted and compared, and that the page says what was measured."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import programs_systems, system_costs
from benchmarks.system_costs import Work
from jax_mspac import methods

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "system_costs.json"
TINY = {"backbone": "resnet10", "height": 96, "width": 32, "images": 16, "model_width": 4}


def test_counts_of_a_system_are_those_of_its_networks():
    counter = programs_systems.Counter()
    agw, mpanet = (counter.counts(Work(method=name, **TINY)) for name in ("agw", "mpanet"))
    state = jax.eval_shape(
        methods.build(programs_systems.config_of(Work(method="agw", **TINY)), num_identities=395).init,
        jax.random.key(0),
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(state.variables["embedder"]["params"])]
    assert agw["embedding_parameters"] == sum(sizes)
    # A classifier of 395 people on 32 features; MPANet has two more on 7 x 32, and nobody owns their copies.
    assert agw["trained_parameters"] - sum(sizes) == 395 * 32
    assert mpanet["trained_parameters"] - mpanet["embedding_parameters"] == 3 * 395 * 7 * 32
    # Backwards is about twice as much.
    assert 2 < agw["step_flops"] / agw["embed_flops"] < 5
    assert agw["backbone"] == "resnet10"


def test_all_learned_systems_are_counted_and_have_the_images_that_are_asked_for():
    names = programs_systems.Counter().systems()
    assert {"agw", "mspac", "pmt", "aligngan", "mfen"} <= set(names)
    assert {"tone_hcml", "hog_cca"} & set(names) == set()
    for name in names:
        config = programs_systems.config_of(Work(method=name, **TINY))
        batch = programs_systems.batch_of(config)
        assert sum(samples["label"].size for samples in batch.values()) == 16
        assert all(len(np.unique(samples["label"])) >= 2 for samples in batch.values())


@pytest.mark.slow
def test_rows_compare_speeds_of_the_same_turns(monkeypatch):
    # Threads that wait for each other on a busy machine take longer than tiny arrays.
    monkeypatch.setattr(programs_systems.memory, "keep", lambda: False)
    monkeypatch.setattr(programs_systems.memory, "give_back", lambda: None)
    made = {name: programs_systems.Program(Work(method=name, **TINY)) for name in ("one_stream", "agw")}

    def remote(name):
        return lambda method, *arguments: getattr(made[name], method)(*arguments)

    rows = system_costs.compared(Work(method="one_stream", **TINY), remote("one_stream"), remote("agw"), repeats=1)
    assert [row["name"] for row in rows] == list(system_costs.SPEEDS)
    assert {row["system"] for row in rows} == {"one_stream"}
    for row in rows:
        assert row["ours"] > 0 and row["ratio"] == pytest.approx(row["ours"] / row["peer"])


def test_a_line_holds_counts_and_speeds():
    counts = {"backbone": "resnet50", "embedding_parameters": 23.5e6, "trained_parameters": 24.3e6}
    counts |= {"embed_flops": 9.54e9, "step_flops": 28e9}
    rows = [{"name": "counted", "system": name, **counts} for name in ("agw", "rle", "deen")]
    rows += [{"name": "step", "system": "rle", "ratio": 0.456}, {"name": "embed", "system": "rle", "ratio": 1.0}]
    lines = system_costs.markdown(rows).splitlines()
    assert lines[2:] == [
        "| `agw` | resnet50 | 23.5 | 24.3 | 9.5 | 28.0 | 1.00 | 1.00 | 1.00 | 1.00 |",
        "| `rle` | resnet50 | 23.5 | 24.3 | 9.5 | 28.0 | 0.46 | - | 1.00 | - |",
        "| `deen` | resnet50 | 23.5 | 24.3 | 9.5 | 28.0 | - | - | - | - |",
    ]


def test_the_page_says_what_was_measured():
    rows = json.loads(RESULTS.read_text())["rows"]
    assert system_costs.markdown(rows) in (ROOT / "docs" / "benchmarks.md").read_text()
    # Without those that other tests of this process have registered.
    own = {name for name in methods.METHODS if methods.METHODS[name].build.__module__.startswith("jax_mspac.")}
    assert {row["system"] for row in rows} == own & set(programs_systems.Counter().systems())


def test_the_command_reads_an_earlier_run():
    command = [sys.executable, "benchmarks/system_costs.py", "--read", str(RESULTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("| system |"), done.stderr
