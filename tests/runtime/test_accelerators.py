"""An accelerator that JAX does not use is told of, with the command that installs what is missing."""

import jax
import pytest

from jax_mspac.runtime import accelerators


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine with the given output of nvidia-smi, or without one."""
    for name in ("JAX_PLATFORMS", *accelerators._TPU_VARIABLES):
        monkeypatch.delenv(name, raising=False)

    def make(script=None):
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if script else str(tmp_path))
        if script:
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "nvidia-smi").chmod(0o755)

    return make


def test_a_gpu_that_is_not_used_is_named_with_the_command(machine):
    machine("echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'; echo 'GPU 1: another (UUID: GPU-2)'")
    told = accelerators.unused()
    assert "has GPU 0: NVIDIA H100 80GB HBM3, but this JAX runs on the CPU" in told
    assert "pip install 'jax[cuda12]'" in told


@pytest.mark.parametrize("script", ["exit 9", "true"])
def test_a_driver_without_a_gpu_is_none(machine, script):
    machine(script)
    assert accelerators.unused() is None


def test_a_tpu_is_known_by_its_environment(machine, monkeypatch):
    machine()
    assert accelerators.unused() is None
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v6e-16")
    assert "jax[tpu]" in accelerators.unused()


def test_nothing_is_said_where_the_cpu_is_meant_or_the_gpu_is_used(machine, monkeypatch):
    machine("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert accelerators.unused() is None
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert accelerators.unused() is None
