"""Memory kept between steps: page faults counted in processes of their own, because malloc's settings stay."""

import os
import subprocess
import sys

import jax
import pytest
from helpers import small_runs

from jax_mspac.runs.logging import MetricsLog
from jax_mspac.runtime import memory
from jax_mspac.runtime.memory import keep  # the tests' settings replace memory.keep
from jax_mspac.training import loop

# Prints the median page faults of a program with an intermediate result of 256 MB. A single run may well find its
# place taken by something small that the process keeps.
FAULTS = """
import resource, statistics, sys
import jax, jax.numpy as jnp
from jax_mspac.runtime import memory
kept = memory.keep() if sys.argv[1] == "keep" else None
x = jnp.ones((8192, 8))
program = jax.jit(lambda x: (x @ x.T) @ x)
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, int(statistics.median(faults)))
"""
# The same after the start of a command, which must not ask JAX for its devices before it keeps memory.
AFTER_A_COMMAND = FAULTS.replace(
    'kept = memory.keep() if sys.argv[1] == "keep" else None',
    """import pathlib
from jax_mspac import config, main
from jax_mspac.errors import UserError
try:
    main.run(config.default_config("folder"), pathlib.Path("nothing"), "evaluate")
except UserError as error:
    kept = "does not exist" in str(error)""",
)
# Prints the resident memory in MB beyond that of a process that has run a small program: with the kept memory of a
# large one, after it was given back, and after two more runs.
GIVEN_BACK = """
import pathlib
import jax, jax.numpy as jnp
from jax_mspac.runtime import memory
memory.keep()
resident = lambda: int(pathlib.Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) // 1024
program = jax.jit(lambda x: (x @ x.T) @ x)
program(jnp.ones((8, 8))).block_until_ready()
start, x = resident(), jnp.ones((8192, 8))
program(x).block_until_ready()
print(resident() - start)
memory.give_back()
print(resident() - start)
for _ in range(2):
    program(x).block_until_ready()
print(resident() - start)
"""
# Prints how many of twenty runs had to find the 64 MB of their loop's intermediate result, each with a batch put anew.
FRESH_BATCHES = """
import resource
import jax, jax.numpy as jnp, numpy as np
from jax_mspac.runtime import memory, parallel
memory.keep()
nothing = jnp.zeros(2**24)
program = jax.jit(lambda batch: jax.lax.fori_loop(0, 2, lambda i, y: y * 1.5 + batch[0, i, 0], nothing).sum())
batch = np.ones((1, 8192, 64), np.float32)
found = 0
for turn in range(24):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(parallel.shard(batch)).block_until_ready()
    found += turn >= 4 and resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > 8_000
print(found)
"""
MALLOC = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def printed(script, *arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in MALLOC}
    clean = {**clean, "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout.split()


def faults(mode, **environment):
    kept, count = printed(FAULTS, mode, **environment)
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_of_a_step_serves_the_next_one():
    _, before = faults("leave")
    kept, after = faults("keep")
    assert kept == "True"
    assert before > 10_000
    assert after < 0.05 * before


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_a_command_keeps_the_memory_of_its_steps():
    refused, after = printed(AFTER_A_COMMAND, JAX_PLATFORMS="")
    assert refused == "True" and int(after) < 3_000


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_of_a_step_serves_the_next_one_when_its_batch_has_just_been_put():
    (found,) = printed(FRESH_BATCHES)
    assert int(found) <= 3


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_kept_memory_can_be_given_back_once():
    kept, given_back, again = map(int, printed(GIVEN_BACK))
    assert kept > 200
    assert given_back < 50
    # Once or, where malloc does not find the place of the first of these runs good enough for the second, more often.
    assert again > 200


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_settings_of_the_environment_are_left_alone():
    kept, count = faults("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
    assert count > 10_000


def test_a_run_gives_memory_back_after_its_first_step_and_after_evaluations(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(memory, "give_back", lambda: events.append("given back"))
    monkeypatch.setattr(MetricsLog, "write", lambda log, step, scalars: events.append(step))
    small_runs.register()
    small_runs.draw(tmp_path)
    loop.train(small_runs.config_of(tmp_path, **{"train.steps": 6, "eval.every": 3}), tmp_path / "run")
    # A step is logged when the next one has been started.
    assert events == ["given back", 1, 2, "given back", 3, 4, 5, "given back", 6]


def test_nothing_changes_where_programs_run_elsewhere(monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not keep()
