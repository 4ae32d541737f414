"""The progress line and the scalars of a run."""

import json

import pytest

from jax_mspac.runs import logging as run_logging


def read(path):
    return [json.loads(line) for line in (path / run_logging.METRICS_FILE).read_text().splitlines()]


def tensorboard_scalars(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path / run_logging.TENSORBOARD_FOLDER), size_guidance={"tensors": 0})
    events.Reload()
    return {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}


def test_scalars_are_on_disk_at_once(tmp_path):
    with run_logging.MetricsLog(tmp_path, start=0) as log:
        log.write(1, {"loss": 2.5})
        assert read(tmp_path) == [{"step": 1, "loss": 2.5}]


def test_resuming_leaves_no_gap_and_no_duplicate(tmp_path):
    with run_logging.MetricsLog(tmp_path, start=0) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": step})
    # Killed at 30 and in the middle of a line; the last checkpoint was of step 20.
    with (tmp_path / run_logging.METRICS_FILE).open("a") as file:
        file.write('{"step": 40, "lo')
    with run_logging.MetricsLog(tmp_path, start=20) as log:
        for step in (30, 40):
            log.write(step, {"loss": -step})
    assert read(tmp_path) == [{"step": s, "loss": v} for s, v in ((10, 10), (20, 20), (30, -30), (40, -40))]
    assert tensorboard_scalars(tmp_path) == {"loss": [10, 20, 30, 40]}


def test_line_says_where_the_run_stands(capsys, monkeypatch):
    clock = iter([100.0, 104.0, 108.0])
    monkeypatch.setattr(run_logging.time, "monotonic", lambda: next(clock))
    line = run_logging.ProgressLine(start=0, steps=30, images_per_step=64, images_per_epoch=320)
    assert line.show(10, {"loss": 1.5, "identity": 1.0, "learning_rate": 0.05}) == pytest.approx(160)
    text = capsys.readouterr().out
    for part in ("step 10/30", "epoch 2.0", "160 images/s", "0:08 left", "loss 1.500", "identity 1.000", "lr 0.05"):
        assert part in text
    line.show(20, {"loss": 1.5})
    assert "0:04 left" in capsys.readouterr().out


def test_line_is_rewritten_in_place_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setattr(run_logging.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    line = run_logging.ProgressLine(start=0, steps=30, images_per_step=64, images_per_epoch=320)
    for step in (10, 20):
        line.show(step, {"loss": 1.5, "identity": 1.0, "learning_rate": 0.05})
    line.close()
    first, second = capsys.readouterr().out.removeprefix("\r").split("\r")
    assert len(first) == 39 and len(second.removesuffix("\n")) == 39 and second.endswith("\n")


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_duration(seconds, text):
    assert run_logging.duration(seconds) == text


def test_jumps_of_the_clock_change_neither_the_rate_nor_the_time_left(capsys, monkeypatch):
    wall = iter([1e9, 5e8, 3e9, 0.0, 1e9, 2e9, 3e9, 4e9])
    monkeypatch.setattr(run_logging.time, "time", lambda: next(wall))
    clock = iter([100.0, 104.0])
    monkeypatch.setattr(run_logging.time, "monotonic", lambda: next(clock))
    line = run_logging.ProgressLine(start=0, steps=30, images_per_step=64, images_per_epoch=320)
    assert line.show(10, {"loss": 1.5}) == pytest.approx(160)
    assert "0:08 left" in capsys.readouterr().out


def test_lines_that_cannot_be_read_are_passed_over(tmp_path):
    (tmp_path / run_logging.METRICS_FILE).write_bytes(
        b'{"step": 1, "loss": 3}\n\xff{"st\n[2]\n{"loss": 1}\n{"step": 2, "loss": 2}\n'
    )
    with run_logging.MetricsLog(tmp_path, start=9) as log:
        assert log.last == {"step": 2, "loss": 2}
    assert [line["step"] for line in read(tmp_path)] == [1, 2]


def test_scalars_that_come_late_join_the_entry_of_their_step(tmp_path):
    with run_logging.MetricsLog(tmp_path, start=0) as log:
        log.write(10, {"loss": 1.0})
        log.write(20, {"loss": 2.0})
    with run_logging.MetricsLog(tmp_path, start=20, missed={"val/mAP": 0.5}):
        pass
    assert read(tmp_path) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0, "val/mAP": 0.5}]
    assert tensorboard_scalars(tmp_path) == {"loss": [10, 20], "val/mAP": [20]}
