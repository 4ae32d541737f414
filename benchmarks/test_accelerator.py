"""The one script for a machine with an accelerator, rehearsed at tiny sizes; and what it does when something fails."""

import json

import numpy as np
import pytest

from benchmarks import accelerator, accelerator_networks, correctness
from benchmarks.accelerator_sizes import FULL, REHEARSAL, Session


@pytest.fixture(autouse=True)
def as_everywhere(monkeypatch):
    # What is set for a process of its own would outlive the test.
    monkeypatch.setattr(accelerator.command, "quiet_libraries", lambda: None)
    monkeypatch.setattr(accelerator.memory, "keep", lambda: None)


def test_a_rehearsal_measures_everything_and_agrees_with_its_own_reference(tmp_path):
    reference, file = tmp_path / "reference.npz", tmp_path / "out.json"
    accelerator.main(["--rehearse", "--write-reference", str(reference)])
    accelerator.main(["--rehearse", "--no-peer", "--reference", str(reference), "--json", str(file)])
    outcome = json.loads(file.read_text())
    parts = outcome["parts"]
    assert set(parts) == set("abcdef") and outcome["device"]["platform"] == "cpu" and outcome["rehearsal"]
    assert [part["error"] for part in parts.values() if "error" in part] == []
    groups = [row["group"] for row in parts["a"]["rows"] if row["passed"]]
    assert groups == list(correctness.GROUPS)
    step = parts["b"]["rows"][-1]
    assert step["images_per_second"] == pytest.approx(4e3 / step["milliseconds"])
    assert 0 < step["share_of_products"] and step["bytes"] > 0 and step["memory_GB"] > 0 and "error" not in step
    (embedded,) = parts["c"]["rows"]
    assert embedded["images_per_second"] == pytest.approx(1e3 / embedded["milliseconds"])
    (found,) = parts["d"]["rows"]
    assert found["planted_found"] == 1 and found["largest_difference"] < 1e-6
    (trained,) = parts["e"]["rows"]
    assert trained["steps"] == 4 and 0 < trained["rank1"] <= 1 and np.isfinite(trained["last_loss"])
    assert [row["step"] for row in parts["f"]["rows"]] == ["mspac float32 4"] * 3


def test_a_part_that_fails_keeps_its_rows_and_lets_the_others_run(tmp_path, monkeypatch):
    file, seen = tmp_path / "out.json", []

    def fails(session):
        yield {"row": 1}
        seen.append(json.loads(file.read_text())["parts"]["a"]["rows"])
        raise SystemExit("broken")

    def runs(session):
        yield {"row": 2.0}

    parts = {"a": accelerator.Part("one", 5, fails), "b": accelerator.Part("two", 5, runs)}
    monkeypatch.setattr(accelerator, "PARTS", parts)
    accelerator.main(["--json", str(file)])
    outcome = json.loads(file.read_text())["parts"]
    assert seen == [[{"row": 1}]]
    assert outcome["a"]["rows"] == [{"row": 1}] and "SystemExit: broken" in outcome["a"]["error"]
    assert outcome["b"]["rows"] == [{"row": 2.0}] and "error" not in outcome["b"]


def test_what_there_is_no_time_for_is_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator_networks, "_ceilings", lambda session: (yield from ()) or {})
    session = Session(REHEARSAL, tmp_path, tmp_path / "none", with_peer=False)
    session.begin(float("inf"))
    monkeypatch.setattr(session, "left", lambda: 0.0)
    rows = [*accelerator_networks.training(session), *accelerator_networks.embedding(session)]
    assert [row["left_out"] for row in rows] == ["no time", "no time"]


def test_all_parts_fit_into_eight_minutes():
    assert sum(part.seconds for part in accelerator.PARTS.values()) <= FULL.seconds < 8 * 60


def test_a_difference_is_relative_and_a_missing_or_broken_array_is_infinite():
    expected = {"one": np.array([3.0, 4.0]), "two": np.array([100.0])}
    found = {"one": np.array([3.0, 4.5]), "two": np.array([101.0])}
    assert correctness.difference(found, expected) == (pytest.approx(0.1), "one")
    assert correctness.difference({"one": expected["one"]}, expected) == (np.inf, "two")
    assert correctness.difference({**expected, "two": np.array([np.nan])}, expected) == (np.inf, "two")


def test_the_reference_at_hand_is_of_all_losses_and_of_this_code():
    variant, size = correctness.VARIANTS["float32"], correctness.Size()
    with np.load(accelerator.REFERENCE) as file:
        for group, found in (
            ("losses", correctness._losses(variant)),
            ("attention", correctness._attention(size, variant)),
            ("augmentation", correctness._augmentation(size)),
        ):
            expected = {name.partition("/")[2]: file[name] for name in file.files if name.startswith(f"{group}/")}
            assert found.keys() == expected.keys(), f"write the reference anew: {accelerator.__doc__}"
            assert correctness.difference(found, expected)[0] < 1e-5, group


def test_the_numbers_tell_a_network_from_a_wrong_one(monkeypatch):
    size, variant = REHEARSAL.correctness, correctness.VARIANTS["float32"]
    right = correctness._attention(size, variant), correctness._augmentation(size)
    monkeypatch.setattr(correctness.CascadedPartAttention, "kernel_size", 5)
    monkeypatch.setattr(correctness.augmentation, "MEAN", correctness.augmentation.MEAN * 1.01)
    wrong = (
        correctness._attention(correctness.Size(**{**vars(size), "parts": (1, 2)}), variant),
        correctness._augmentation(size),
    )
    for one, other, tolerance in zip(right, wrong, variant.tolerances[1:3], strict=True):
        assert correctness.difference(other, one)[0] > 10 * tolerance
