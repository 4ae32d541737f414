"""The prepare command, from its flags to what it prints."""

import subprocess
import sys

import pytest
from helpers import sets
from helpers.commands import ROOT, run
from helpers.sets import load_split
from helpers.trees import draw_folder_tree, draw_llcm_tree, draw_regdb_tree, draw_sysu_tree

from jax_mspac import prepare
from jax_mspac.data import regdb, sysu_mm01
from jax_mspac.data.data_set import ImageFile

DRAW = {
    "sysu_mm01": draw_sysu_tree,
    "regdb": draw_regdb_tree,
    "llcm": draw_llcm_tree,
    "folder": draw_folder_tree,
}


def command(*arguments):
    return run("jax_mspac.prepare", *arguments)


def table_rows(output):
    lines = [line for line in output.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


@pytest.fixture(autouse=True)
def one_trial(monkeypatch):
    """The trees have lists for as many trials."""
    monkeypatch.setattr(regdb, "TRIALS", 1)


@pytest.mark.parametrize("dataset", DRAW)
def test_table_counts_what_is_prepared_and_a_second_run_says_so(dataset, tmp_path, capsys):
    DRAW[dataset](tmp_path / "set")
    options = {"source": str(tmp_path / "set"), "data_dir": str(tmp_path / "tfds")}
    prepare.prepare(dataset, **options)
    first = capsys.readouterr().out
    assert "\nprepared: " in first and "already" not in first
    prepare.prepare(dataset, **options)
    second = capsys.readouterr().out
    assert "\nalready prepared: " in second
    assert table_rows(second) == table_rows(first)

    builder = sets.build(dataset, **options)
    rows = {row[:2]: row[2:] for row in table_rows(first)}
    assert {split for split, _ in rows} == set(builder.info.splits)
    for split in builder.info.splits:
        image_set = load_split(builder, split)
        counts = sysu_mm01.counts(image_set)
        images, _, identities, _ = rows[split, "all"]
        assert (int(images), int(identities)) == (len(image_set), counts["identities"])
        for modality in ("visible", "infrared"):
            assert int(rows[split, modality][0]) == counts[f"{modality} images"]
        for camera in set(image_set.cameras.tolist()) & set(range(1, 7)):
            images, _, identities, _ = rows[split, f"camera {camera}"]
            expected = (counts[f"images of camera {camera}"], counts[f"identities of camera {camera}"])
            assert (int(images), int(identities)) == expected


def test_every_trial_of_regdb_is_prepared_and_only_differing_counts_are_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(regdb, "TRIALS", 3)
    root = draw_regdb_tree(tmp_path / "set", trials=3)
    for top in ("visible", "thermal"):
        file = root / "idx" / f"test_{top}_3.txt"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.endswith(" 2\n")))
    options = {"source": str(root), "data_dir": str(tmp_path / "tfds")}
    prepare.prepare("regdb", **options)
    output = capsys.readouterr().out
    rows = [row for row in table_rows(output) if row[:2] == ("test", "all")]
    assert [row[2] for row in rows] == ["12", "8"]
    assert f"(Trial 2 of RegDB in {root}: the same counts)" in output
    for trial in (1, 2, 3):
        test = load_split(sets.build("regdb", trial=trial, **options), "test")
        assert test.identity_names == (("0002", "0005", "0007"), ("0001", "0003", "0012"), ("0002", "0007"))[trial - 1]


def test_differences_are_warnings(tmp_path, capsys):
    draw_regdb_tree(tmp_path / "set")
    prepare.prepare("regdb", source=str(tmp_path / "set"), data_dir=str(tmp_path / "tfds"))
    output = capsys.readouterr().out
    assert ("train", "visible", "6", "2,060", "3", "-") in table_rows(output)
    assert "warning: train, visible: 6 images, but the complete set has 2,060" in output
    assert "warning: test, camera 2: 3 identities, but the complete set has 206" in output
    assert "A part of the set works like the whole" in output


def test_a_set_as_expected_has_no_warning():
    photographs = [ImageFile(f"{i}.png", str(i % 2), "3", "visible") for i in range(4)]
    expected = {"train": {"identities": 2, "visible images": 4, "images of camera 3": 4, "images of camera 6": 0}}
    rows = prepare.compare({"train": photographs}, expected)
    assert prepare.warnings(rows) == []
    assert ("train", "camera 6", 0, 0, 0, None) in rows
    (line, _) = prepare.warnings(prepare.compare({"train": photographs[:3]}, {"train": {"visible images": 4}}))
    assert line == "warning: train, visible: 3 images, but the complete set has 4"


def test_an_interrupted_run_starts_again(tmp_path, capsys, monkeypatch):
    draw_llcm_tree(tmp_path / "set")
    options = {"source": str(tmp_path / "set"), "data_dir": str(tmp_path / "tfds")}
    builder = sets.build("llcm", **options)
    generate = type(builder)._split_generators

    def interrupted(self, dl_manager):
        splits = generate(self, dl_manager)

        def half():
            yield next(splits["test"])
            raise KeyboardInterrupt

        return {**splits, "test": half()}

    monkeypatch.setattr(type(builder), "_split_generators", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare("llcm", **options)
    monkeypatch.undo()
    assert "prepared: " not in capsys.readouterr().out
    prepare.prepare("llcm", **options)
    assert "\nprepared: " in capsys.readouterr().out
    assert len(load_split(sets.build("llcm", **options), "test")) == 20


def test_the_command_line_ends_with_the_training_command(tmp_path):
    draw_sysu_tree(tmp_path / "set")
    data_dir = tmp_path / "tfds"
    # A real start: the process is what a user has, from its imports to its last line.
    command = [sys.executable, "-m", "jax_mspac.prepare", "--dataset", "sysu_mm01", "--source", tmp_path / "set"]
    done = subprocess.run([*command, "--data_dir", data_dir], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(
        f"configs/sysu.py --config.data.source={tmp_path / 'set'} --config.data.data_dir={data_dir}"
    )


def test_mistakes_end_with_one_error_and_no_stack_trace(tmp_path):
    draw_regdb_tree(tmp_path / "set")
    (tmp_path / "set" / "idx" / "train_visible_1.txt").unlink()
    done = command("--dataset", "regdb", "--source", tmp_path / "set", "--data_dir", tmp_path / "tfds")
    assert done.returncode == 1
    assert f"error: {tmp_path / 'set'} cannot be prepared" in done.stderr
    assert "idx/train_visible_1.txt: no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert table_rows(done.stdout)


@pytest.mark.parametrize("arguments", [(), ("--dataset", "regdb"), ("--dataset", "imagenet", "--source", "x")])
def test_missing_and_wrong_flags(arguments):
    done = command(*arguments)
    assert done.returncode == 1
    assert "--dataset" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_field_of_two_data_sets_is_read_in_the_type_of_the_one_at_hand(tmp_path):
    draw_folder_tree(tmp_path / "set")
    names = tmp_path / "names.txt"
    names.write_text("anna\ncarl\n")
    small = ("--height", "16", "--width", "8", "--export", tmp_path / "set.npz", "--test_identities")
    done = command("--dataset", "folder", "--source", tmp_path / "set", *small, names)
    assert done.returncode == 0, done.stderr
    assert {row[:2]: row[4] for row in table_rows(done.stdout)}["test", "all"] == "2"

    done = command("--dataset", "synthetic", *small, names)
    assert done.returncode == 1
    assert f"--test_identities={names}: with --dataset synthetic expected a value like 60, of type int" in done.stderr


def test_help_imports_neither_tensorflow_nor_jax():
    program = (
        "import sys; from absl import app; from jax_mspac import prepare; sys.argv = ['prepare', '--help']\n"
        "try: app.run(prepare.main)\n"
        "except SystemExit: print({'jax', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("set()"), done.stdout + done.stderr
