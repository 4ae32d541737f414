"""The folder of a run: full, not writable, gone, damaged, in use, and under odd names."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest
from helpers import small_runs

from jax_mspac.errors import UserError
from jax_mspac.runs import workdir
from jax_mspac.runs.checkpoints import DAMAGED, FOLDER


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def config(folder):
    return small_runs.config_of(folder)


@pytest.fixture(scope="module")
def undisturbed(folder, config):
    process = small_runs.start(config, folder / "undisturbed", output=folder / "output")
    assert small_runs.end(process) == 0, (folder / "output").read_text()
    return folder / "undisturbed"


@pytest.fixture
def disk(tmp_path):
    """A file system of 512 KiB of its own."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mounted)]
    if os.getuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def outcome(config, run, tmp_path, **options):
    """Exit status and output."""
    output = tmp_path / "output"
    status = small_runs.end(small_runs.start(config, run, output=output, **options))
    return status, output.read_text()


def test_a_full_disk_is_named_and_the_run_goes_on_once_there_is_space(disk, config, undisturbed, tmp_path):
    run = disk / "run"
    process = small_runs.start(config, run, output=tmp_path / "output", pause=0.2)
    small_runs.wait_for(tmp_path / "output", "step 7/24", process)
    # Leaves a few blocks: the next save starts, and finds no space on the way.
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(bytes((free.f_bavail - 4) * free.f_bsize))
    assert small_runs.end(process) == 1
    said = (tmp_path / "output").read_text()
    assert f"error: {run}: No space left on device" in said and "free some space" in said
    assert "Traceback" not in said, said
    _, step = small_runs.state_of(config, run)
    assert 4 <= step < 24
    ballast.unlink()
    assert outcome(config, run, tmp_path)[0] == 0
    small_runs.assert_equal_runs(config, undisturbed, run)


def test_a_disk_that_is_full_from_the_start_is_named(disk, config, tmp_path):
    free = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_bsize))
    status, said = outcome(config, disk / "run", tmp_path)
    assert status == 1 and f"error: {disk / 'run'}: No space left on device" in said and "Traceback" not in said, said


def test_a_folder_that_may_not_be_written_is_named(disk, config, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    status, said = outcome(config, disk / "run", tmp_path)
    assert status == 1 and f"error: {disk / 'run'}: Read-only file system" in said and "Traceback" not in said, said
    assert "give another --workdir" in said


def test_an_evaluation_on_a_folder_that_may_not_be_written_is_named(disk, config, undisturbed, tmp_path):
    run = shutil.copytree(undisturbed, disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    status, said = outcome(config, run, tmp_path, mode="evaluate")
    assert status == 1 and f"error: {run}: Read-only file system" in said and "Traceback" not in said, said


def test_a_disk_that_turns_read_only_keeps_what_was_saved(disk, config, tmp_path):
    run, output = disk / "run", tmp_path / "output"
    process = small_runs.start(config, run, output=output, pause=0.2)
    small_runs.wait_for(output, "step 7/24", process)
    # A bind mount on top: the file system itself has open files, and would refuse.
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    remount = ["mount", "-o", "remount,bind,ro", str(disk)]
    deadline = time.monotonic() + 20
    try:
        # Refused in the moments in which the run writes a file.
        while subprocess.run(remount, check=False, stderr=subprocess.DEVNULL).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert small_runs.end(process) == 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    said = output.read_text()
    assert f"error: {run}: Read-only file system" in said and "Traceback" not in said, said
    assert 4 <= small_runs.state_of(config, run)[1] < 24


def test_a_folder_that_is_deleted_while_training_is_named(config, tmp_path):
    run, output = tmp_path / "run", tmp_path / "output"
    process = small_runs.start(config, run, output=output, pause=0.2)
    small_runs.wait_for(output, "step 5/24", process)
    run.rename(tmp_path / "elsewhere")
    assert small_runs.end(process) == 1
    said = output.read_text()
    assert f"error: {run}" in said and "is gone" in said and "Traceback" not in said, said
    # Nothing was made in its place that a run could mistake for its own.
    assert not run.exists()
    (tmp_path / "elsewhere").rename(run)
    assert outcome(config, run, tmp_path)[0] == 0


def test_training_goes_on_before_a_damaged_checkpoint_and_says_so(config, undisturbed, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    newest = run / FOLDER / "24"
    for file in (newest / "training").rglob("d/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
    status, said = outcome(config, run, tmp_path)
    assert status == 0 and f"{newest} is damaged" in said, said
    assert "falling back to the checkpoint of step 22" in said and "resuming from the checkpoint of step 22" in said
    assert str(newest) + DAMAGED in said and (run / FOLDER / f"24{DAMAGED}").is_dir()
    assert "Traceback" not in said, said
    small_runs.assert_equal_runs(config, undisturbed, run)


def test_a_run_without_a_whole_checkpoint_does_not_start_over(config, undisturbed, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    checkpoints = [path for path in (run / FOLDER).iterdir() if path.name.isdecimal()]
    for checkpoint in checkpoints:
        (checkpoint / "variables" / "manifest.ocdbt").write_bytes(b"")
    for mode in ("train", "evaluate"):
        status, said = outcome(config, run, tmp_path, mode=mode)
        assert status == 1 and "is whole" in said and all(f"{path} is damaged" in said for path in checkpoints), said
        assert "resuming" not in said and "step 1/24" not in said and "Traceback" not in said, said


def test_a_second_run_in_the_folder_is_refused_with_the_first_ones_process(config, tmp_path):
    run, output = tmp_path / "run", tmp_path / "output"
    first = small_runs.start(config, run, output=output, pause=1.0)
    small_runs.wait_for(output, "step 1/24", first)
    with pytest.raises(UserError, match=rf"is in use: process {first.pid} on {os.uname().nodename} trains in it"):
        with workdir.opened(config, run):
            raise AssertionError("opened")
    small_runs.kill(first)
    # The lock of a process that was killed is no lock.
    with workdir.opened(config, run) as opened:
        assert opened == run


@pytest.mark.parametrize("name", ["Läufe & 試験 100%", "a b#c?d", "linked"])
def test_odd_names_and_links(name, config, undisturbed, tmp_path):
    place = tmp_path / ("target of the link" if name == "linked" else name)
    place.mkdir()
    shutil.copytree(pathlib.Path(config.data.source), place / "tree")
    if name == "linked":
        (tmp_path / name).symlink_to(place)
    moved = small_runs.config_of(tmp_path / name)
    run = tmp_path / name / "run"
    status, said = outcome(moved, run, tmp_path)
    assert status == 0, said
    small_runs.assert_equal_runs(moved, undisturbed, run)
    assert outcome(moved, run, tmp_path, mode="evaluate")[0] == 0


def test_a_file_is_no_folder(config, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run is a file"):
        with workdir.opened(config, tmp_path / "run"):
            raise AssertionError("opened")
    with pytest.raises(UserError, match="Not a directory"):
        with workdir.opened(config, tmp_path / "run" / "below"):
            raise AssertionError("opened")
