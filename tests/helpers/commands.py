"""The project's commands, each in a process that is forked from the server of `small_runs`.

To start Python and to import JAX takes a second or more, a fork some hundredths. What a fork cannot show, such as what
a command imports or prints as it starts, is tested with real starts.
"""

import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from typing import Any

from helpers.small_runs import PROCESSES, _ensure_server, end
from jax_mspac.runtime import command

ROOT = pathlib.Path(__file__).parents[2]


def run(
    module: str, *arguments: Any, cwd: pathlib.Path = ROOT, home: pathlib.Path | None = None, only_parse: bool = False
) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE ARGUMENTS` ends with and writes.

    Args:
      module: such as "jax_mspac.main".
      *arguments: of the command; each becomes text.
      cwd: the folder to run in.
      home: the user's folder, where it is not that of the tests.
      only_parse: end when flags and config have been read.
    """
    _ensure_server()
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        process = PROCESSES.Process(target=_work, args=(module, words, cwd, home, only_parse, outputs))
        process.start()
        status = end(process, timeout=600)
        return subprocess.CompletedProcess(words, status, *(output.read_text() for output in outputs))


def _work(module, words, cwd, home, only_parse, outputs):
    for stream, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.chdir(cwd)
    if home is not None:
        os.environ["HOME"] = str(home)
    if only_parse:
        command.run = _parse
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _parse(main, flags_parser=None):
    (flags_parser or command.app.parse_flags_with_usage)(sys.argv)
