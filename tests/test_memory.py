"""Memory kept between steps: page faults counted in processes of their own, because malloc's settings stay."""

import os
import subprocess
import sys

import jax
import pytest

from jax_mspac import memory

# Fills 256 MB twice, in a thread as XLA does, and prints the page faults of the second time.
FAULTS = """
import resource, sys, threading
import numpy as np
from jax_mspac import memory
kept = memory.keep() if sys.argv[1] == "keep" else None
faults = []
def fill():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.full(2**25, 1.0)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=fill)
thread.start()
thread.join()
print(kept, faults[1])
"""
MALLOC = ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def faults(mode, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in MALLOC}
    # Huge pages would make few faults of many.
    clean = {**clean, "NUMPY_MADVISE_HUGEPAGE": "0", **environment}
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
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not memory.keep()
