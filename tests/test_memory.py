"""Memory kept between steps: page faults counted in processes of their own, because malloc's settings stay."""

import os
import subprocess
import sys

import jax
import pytest

from jax_mspac.memory import keep  # the tests' settings replace memory.keep

# Runs a program with an intermediate result of 256 MB, and prints the page faults of its last run.
FAULTS = """
import resource, sys
import jax, jax.numpy as jnp
from jax_mspac import memory
kept = memory.keep() if sys.argv[1] == "keep" else None
x = jnp.ones((8192, 8))
program = jax.jit(lambda x: (x @ x.T) @ x)
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults)
"""
MALLOC = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def faults(mode, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in MALLOC}
    clean = {**clean, "JAX_PLATFORMS": "cpu", **environment}
    run = subprocess.run([sys.executable, "-c", FAULTS, mode], env=clean, capture_output=True, text=True, check=True)
    kept, count = run.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_of_a_step_serves_the_next_one():
    _, before = faults("leave")
    kept, after = faults("keep")
    assert kept == "True"
    assert before > 10_000
    assert after < 0.05 * before


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_settings_of_the_environment_are_left_alone():
    kept, count = faults("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
    assert count > 10_000


def test_nothing_changes_where_programs_run_elsewhere(monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not keep()
