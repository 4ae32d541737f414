"""Reads MATLAB files without trusting them."""

import os
import subprocess
import sys
from typing import Any

import scipy.io

_TRIAL = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], appendmat=False)"


def load(path: str | os.PathLike) -> dict[str, Any]:
    """The variables of a file by name.

    SciPy's reader runs no code from a file, but some damaged files end the process that it is in. So another process
    tries first.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is damaged or no MATLAB file of version 5 to 7.2.
    """
    with open(path, "rb"):
        pass
    if not _survived(path):
        raise ValueError("not a MATLAB file of version 5 to 7.2: its contents are damaged")
    try:
        variables = scipy.io.loadmat(path, appendmat=False)
    except Exception as error:  # the reader has no common error type: damage ends in any of a dozen
        raise ValueError(f"not a MATLAB file of version 5 to 7.2: {error}") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def _survived(path: str | os.PathLike) -> bool:
    """Whether reading leaves a process alive; an exception does."""
    trial = subprocess.run([sys.executable, "-c", _TRIAL, os.fspath(path)], capture_output=True)
    return trial.returncode >= 0
