"""Runs that are killed at any moment end like one that was left alone."""

import random
import time

import pytest
from helpers import small_runs

KILLS = 15


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_equals_the_undisturbed_one_to_the_bit(tmp_path):
    folder = small_runs.draw(tmp_path)
    config = small_runs.config_of(folder)
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "output"
    for workdir in (tmp_path / "first", undisturbed):  # the first one prepares the data too
        began = time.monotonic()
        assert small_runs.end(small_runs.start(config, workdir, output=output)) == 0, output.read_text()
        seconds = time.monotonic() - began

    moments = random.Random(0)
    finished = kills = resumed = 0
    while kills < KILLS:
        workdir = tmp_path / f"run {finished}"
        process = small_runs.start(config, workdir, output=output)
        if kills % 5 == 0:
            process.join(moments.uniform(0.0, 1.0) * seconds)
        else:  # the loop itself, where the small method does little but save
            small_runs.wait_for(output, "images per step", process)
            process.join(moments.uniform(0.0, 0.7) * seconds)
        if process.is_alive():
            kills += 1
            small_runs.kill(process)
        else:
            assert process.exitcode == 0, output.read_text()
            small_runs.assert_equal_runs(config, undisturbed, workdir)
            finished += 1
        resumed += "resuming from the checkpoint" in output.read_text()
    assert small_runs.end(small_runs.start(config, workdir, output=output)) == 0, output.read_text()
    small_runs.assert_equal_runs(config, undisturbed, workdir)
    # Kills before the first checkpoint say little.
    assert resumed >= KILLS // 3
