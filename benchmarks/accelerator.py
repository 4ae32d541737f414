"""What an accelerator makes of it, in one run of less than eight minutes: correctness, speed, search, a whole training.

    python benchmarks/accelerator.py --json accelerator.json
    python benchmarks/accelerator.py --rehearse --json rehearsal.json      # tiny sizes, on any machine

Needs JAX, Flax, Optax and Orbax, and neither TensorFlow nor ml_collections. Where PyTorch is installed for the same
device, it runs beside: eager with channels_last (and autocast in bfloat16), and under `torch.compile`. Parts:

    a  losses, attention, augmentation, and steps of the demo's network against numbers that a CPU has written
    b  training steps beside PyTorch's, their FLOP/s and bytes beside what the device can do, and what bounds them
    c  embedding: images/s, and the latency of one image
    d  exact search in millions of features that lie on the device
    e  the demo trained to its end from memory: seconds and accuracy
    f  whether the host can feed the steps

Each part is on its own: what fails is written down, with what was measured before. Results are written after each row.
A part that would not end in time leaves out what it has not begun. The numbers of part a come from a CPU:

    JAX_PLATFORMS=cpu python benchmarks/accelerator.py --write-reference benchmarks/results/accelerator_reference.npz
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))
# Before JAX starts: torch needs memory, too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402

from benchmarks import accelerator_data, accelerator_networks, reporting  # noqa: E402
from benchmarks.accelerator_sizes import FULL, REHEARSAL, Session  # noqa: E402
from jax_mspac.runtime import command, memory  # noqa: E402
from jax_mspac.runtime.files import write_whole  # noqa: E402

REFERENCE = ROOT / "benchmarks" / "results" / "accelerator_reference.npz"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """What is measured: a title, seconds that it may take, and a function that gives one row after the other."""

    title: str
    seconds: float
    rows: Callable[[Session], Iterator[Row]]


# In the order of their importance; what a part does not need, later ones may take.
PARTS = {
    "a": Part("correctness", 80, accelerator_networks.correctness),
    "b": Part("training steps", 180, accelerator_networks.training),
    "e": Part("the demo", 70, accelerator_data.demo_run),
    "c": Part("embedding", 60, accelerator_networks.embedding),
    "d": Part("exact search", 40, accelerator_data.search_rows),
    "f": Part("input", 20, accelerator_data.input_rows),
}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs the parts that the flags name, and returns what it has written."""
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes: does everything run here?")
    parser.add_argument("--no-peer", action="store_true", help="without PyTorch")
    parser.add_argument("--reference", type=pathlib.Path, default=REFERENCE, help="the numbers of part a")
    parser.add_argument("--write-reference", type=pathlib.Path, metavar="FILE", help="write them, and end")
    flags = parser.parse_args(arguments)
    sizes = REHEARSAL if flags.rehearse else FULL
    command.quiet_libraries()
    memory.keep()
    if flags.write_reference:
        accelerator_networks.write_reference(flags.write_reference, sizes)
        return {}
    with tempfile.TemporaryDirectory() as folder:
        session = Session(sizes, pathlib.Path(folder), flags.reference, with_peer=not flags.no_peer)
        if "e" in flags.parts:
            session.drawing = _draw(session)
        try:
            return _measured(session, flags)
        finally:
            if session.drawing and session.drawing.poll() is None:
                session.drawing.kill()
                session.drawing.wait()


def _measured(session: Session, flags: argparse.Namespace) -> dict[str, Any]:
    device = jax.local_devices()[0]
    outcome: dict[str, Any] = {
        "machine": reporting.machine(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.local_device_count()},
        "rehearsal": flags.rehearse,
        "parts": {},
    }
    session.say(f"{device.device_kind}, JAX {jax.__version__}")

    def keep() -> None:
        outcome["seconds"] = session.elapsed()
        if flags.json:
            write_whole(flags.json, json.dumps(outcome, indent=2) + "\n")

    chosen = {name: part for name, part in PARTS.items() if name in flags.parts}
    for name, part in chosen.items():
        later = list(chosen)[list(chosen).index(name) + 1 :]
        session.begin(sum(chosen[other].seconds for other in later))
        session.say(f"{name}: {part.title}")
        done = outcome["parts"][name] = {"title": part.title, "rows": []}
        start = time.monotonic()
        try:
            for row in part.rows(session):
                done["rows"].append(row)
                session.say(f"{name}: " + ", ".join(f"{key} {_shown(value)}" for key, value in row.items()))
                keep()
        except BaseException as error:
            done["error"] = "".join(traceback.format_exception(error))
            session.say(f"{name}: failed: {type(error).__name__}: {error}")
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            done["seconds"] = time.monotonic() - start
            keep()
    session.say("done")
    return outcome


def _draw(session: Session) -> subprocess.Popen:
    """Draws the demo's people while the first parts run."""
    fields = {"dataset": "synthetic", "export": session.demo_file, **session.sizes.people}
    program = [sys.executable, "-m", "jax_mspac.prepare", *(f"--{name}={value}" for name, value in fields.items())]
    with session.drawing_log.open("w") as log:
        # It computes nothing with JAX, and must not take a part of the device.
        return subprocess.Popen(
            program, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=log, stderr=subprocess.STDOUT
        )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
