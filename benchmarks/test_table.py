"""The table of docs/benchmarks.md is what the JSON files say."""

import json
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting, table  # noqa: E402


def test_the_page_says_what_was_measured():
    text = table.PAGE.read_text()
    assert text.partition(table.BEGIN)[2].partition(table.END)[0] == table.written(table.RESULTS)


def test_a_line_holds_both_figures_the_peer_and_the_ratio(tmp_path):
    rows = [
        reporting.row("step", 6.0, 4.0, "images/s", higher_is_better=True, batch=16, peer_program="torch, contiguous"),
        reporting.row("compile, cold", 16.0, None, "seconds"),
    ]
    machine = {"cpu": "some", "cores": 2, "python": "3.11", "jax": "1", "torch": "2", "tensorflow": "3"}
    for name in table.QUESTIONS[:2]:
        (tmp_path / f"{name}.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    lines = table.written(tmp_path).splitlines()
    assert lines[2] == "| train_step | step, batch 16 | 6 images/s | 4 images/s (torch, contiguous) | **1.50** |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| train_step", "| embed"]
    assert len(lines) == 6
    assert lines[-1] == "some, 2 cores; Python 3.11, jax 1, torch 2, tensorflow 3."


def test_no_result_at_all_says_what_to_run(tmp_path):
    with pytest.raises(SystemExit, match="--json .*train_step.json"):
        table.written(tmp_path)


def test_a_page_without_its_marks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")
    table.PAGE.write_text("no marks")
    with pytest.raises(SystemExit, match="benchmarks.md lacks the line"):
        table.main()
    assert table.PAGE.read_text() == "no marks"
