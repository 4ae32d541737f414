"""Accelerators that a machine has and JAX does not use, which costs a user days of training on a CPU in silence."""

import os
import pathlib
import shutil
import subprocess

import jax

# Set on the machines of Cloud TPU and GKE.
_TPU_VARIABLES = ("TPU_ACCELERATOR_TYPE", "TPU_NAME", "TPU_WORKER_ID")


def unused() -> str | None:
    """A line on the accelerator that is there while JAX runs on the CPU, and how to use it; None where all is well.

    Nothing is said where JAX_PLATFORMS asks for the CPU.
    """
    if "cpu" in os.environ.get("JAX_PLATFORMS", "").split(",") or jax.default_backend() != "cpu":
        return None
    if gpu := _nvidia():
        device, extra, needs = gpu, "cuda12", " (cuda13 for drivers of 580 and newer)"
    elif any(name in os.environ for name in _TPU_VARIABLES) or pathlib.Path("/dev/accel0").exists():
        device, extra, needs = "a TPU", "tpu", ""
    else:
        return None
    return (
        f"warning: this machine has {device}, but this JAX runs on the CPU. "
        f"pip install 'jax[{extra}]'{needs} takes the accelerator; "
        "JAX_PLATFORMS=cpu says that the CPU is meant"
    )


def _nvidia() -> str | None:
    """The first GPU that the driver names."""
    if not (program := shutil.which("nvidia-smi")):
        return None
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return listed.partition(" (UUID")[0].strip() or None
