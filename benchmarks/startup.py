"""From the start of the process to the end of the first training step, to an import and to a help text.

    python benchmarks/startup.py --json startup.json
    python benchmarks/startup.py --networks resnet50 --repeats 1

`first step` is the real command, `python -m jax_mspac.main`, on prepared data; ours finds its compiled programs in the
cache of an earlier run, and the peer is the same command with an empty cache. The step is done when its metrics are in
metrics.jsonl; the process is ended then. `import` and `help` stand beside `import torch`. Every run is a new process,
in turn; medians.
"""

import functools
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
from benchmarks import reporting  # noqa: E402
from benchmarks.remote import in_turn  # noqa: E402

# The demo's network and the published one, at 16 images a step.
NETWORKS = {
    "demo": {},
    "resnet50": {"data.height": 288, "data.width": 144, "model.backbone": "resnet50", "model.width": 64},
}
SMALL = {
    "data.train_identities": 8,
    "data.val_identities": 2,
    "data.test_identities": 2,
    "data.images_per_camera": 2,
    "batch.identities": 4,
    "eval.baselines": False,
    "train.steps": 1,
    "train.log_every": 1,
}
_POLL_SECONDS = 0.01
_LONGEST_SECONDS = 1800


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=["demo"])
    parser.add_argument("--settings", nargs="*", default=[], metavar="FIELD=VALUE", help="of the config, on top")
    parser.add_argument("--repeats", type=int, default=5)
    flags = parser.parse_args()
    rows = [
        _row("import", ["-c", "import jax_mspac"], flags.repeats),
        _row("help", ["-m", "jax_mspac.main", "--help"], flags.repeats),
    ]
    for network in flags.networks:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(first_step(network, flags.settings, pathlib.Path(folder), repeats=flags.repeats))
    reporting.report(rows, flags.json)


def _row(name: str, ours: list[str], repeats: int) -> dict[str, Any]:
    run = functools.partial(subprocess.run, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    commands = [functools.partial(run, [sys.executable, *arguments]) for arguments in (ours, ["-c", "import torch"])]
    return reporting.row(name, *reporting.alternate(*commands, repeats), "seconds", against="import torch")


def first_step(network: str, settings: list[str], folder: pathlib.Path, *, repeats: int) -> dict[str, Any]:
    """The row of a network.

    Args:
      network: a name of `NETWORKS`.
      settings: further ones, as FIELD=VALUE.
      folder: for data, caches and runs; empty.
      repeats: turns.
    """
    chosen = SMALL | NETWORKS[network] | {"data.data_dir": folder / "tfds"}
    command = [sys.executable, "-m", "jax_mspac.main", "--config=configs/demo.py"]
    command += [f"--config.{name}={value}" for name, value in chosen.items()]
    command += [f"--config.{setting}" for setting in settings]
    fresh = map(str, range(2**31))

    def seconds(cache: str) -> float:
        return _seconds(command, folder / f"run-{next(fresh)}", folder / cache)

    seconds("warm")  # prepares the data and fills the cache
    warm, cold = in_turn([lambda: seconds("warm"), lambda: seconds(f"cold-{next(fresh)}")], repeats)
    medians = map(statistics.median, (warm, cold))
    return reporting.row("first step", *medians, "seconds", against="an empty cache", network=network)


def _seconds(command: list[str], workdir: pathlib.Path, cache: pathlib.Path) -> float:
    """From the start of a command to the metrics of its first step.

    Raises:
      RuntimeError: it ended before, or takes too long.
    """
    metrics, output = workdir / "metrics.jsonl", workdir.with_suffix(".txt")
    with output.open("w") as written:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=ROOT,
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                if process.poll() is not None or time.perf_counter() - start > _LONGEST_SECONDS:
                    raise RuntimeError(f"there was no first step: {output.read_text()[-2000:]}")
                time.sleep(_POLL_SECONDS)
            return time.perf_counter() - start
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()
