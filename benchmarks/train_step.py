"""The training step of MSPAC-MeCen beside the same step in PyTorch: images/s, its parts, memory, compilation.

    python benchmarks/train_step.py --backbone resnet50 --batch 16 --json train_step.json

Both take the same uint8 images on the host, have the same weights and must have the same losses in the first two
steps, or nothing is timed. Ours is the program that `jax_mspac.training.loop` runs, random augmentation off; the peer
is benchmarks/peers.py in the better of torch's two memory formats and, on a GPU, under `torch.compile` as well. Each
runs in a process of its own, in turn; medians. `backward` is forward and backward pass, `optimizer` the update of the
parameters alone, `step` is all of a step. Memory is the peak of stepping: a GPU's, or the host's beyond the libraries.
`compile, warm` finds the program in the cache; of `torch.compile`, the first two steps count. `share_of_peak` is of a
GPU's dense matrix products.
"""

import functools
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting, workload  # noqa: E402
from benchmarks.remote import Remote, in_turn, share_one_accelerator  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402

PARTS = ("step", "forward", "backward", "optimizer")
OURS, PEER = "benchmarks.programs_jax:TrainStep", "benchmarks.programs_torch:TrainStep"
# FLOP/s of dense matrix products, as the vendor has them; float32 is TF32, which both programs use.
PEAKS = {
    "NVIDIA A100-SXM4-80GB": {"float32": 156e12, "bfloat16": 312e12},
    "NVIDIA H100 80GB HBM3": {"float32": 494e12, "bfloat16": 989e12},
    "NVIDIA H200": {"float32": 494e12, "bfloat16": 989e12},
}
Row = dict[str, Any]


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    workload.add_flags(parser, batch=[16])
    parser.add_argument("--steps", type=int, help="in a measurement; default: 1 on a CPU, 20 elsewhere")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="step is always measured")
    flags = parser.parse_args()
    share_one_accelerator()
    parts = [part for part in PARTS if part == "step" or part in flags.parts]
    rows: list[Row] = []
    try:
        for chosen in workload.chosen(flags, multiple=2):
            rows += measured(chosen, parts, repeats=flags.repeats, steps=flags.steps, with_peer=not flags.no_peer)
    finally:
        reporting.report(rows, flags.json)


def measured(
    chosen: Workload, parts: Sequence[str], *, repeats: int, steps: int | None, with_peer: bool = True
) -> list[Row]:
    """All rows of one workload.

    Args:
      chosen: the workload.
      parts: which to time, "step" first.
      repeats: turns of each program.
      steps: in a measurement; None for what suits the device.
      with_peer: whether to run torch.
    """
    with tempfile.TemporaryDirectory() as cache:
        with Remote(OURS, chosen, cache) as first:
            cold = first("compile", "step")
        with Remote(OURS, chosen, cache) as ours:
            warm = ours("compile", "step")
            device, weights, losses = ours("device"), ours("weights"), ours("losses", 2)
            rows = [
                reporting.row(name, seconds, None, "seconds", **workload.details(chosen, device, None))
                for name, seconds in (("compile, cold", cold), ("compile, warm", warm))
            ]
            steps = steps or (1 if device["platform"] == "cpu" else 20)
            if not with_peer:
                return rows + _compared(chosen, parts, [ours], None, repeats=repeats, steps=steps)
            memory_format = min(workload.FORMATS, key=lambda name: _brief(chosen, weights, name, steps))
            for compiled in (False, True) if device["platform"] == "gpu" else (False,):
                with Remote(PEER, chosen, weights, memory_format, compiled) as peer:
                    program = peer("program")
                    seconds, theirs = reporting.timed(functools.partial(peer, "losses", 2))
                    workload.check_same(chosen, program, [device, peer("device")], [losses, theirs])
                    if compiled:
                        details = workload.details(chosen, device, program)
                        rows.append(reporting.row("compile, cold", cold, seconds, "seconds", **details))
                    rows += _compared(chosen, parts, [ours, peer], program, repeats=repeats, steps=steps)
            return rows


def _brief(chosen: Workload, weights: Any, memory_format: str, steps: int) -> float:
    """Seconds of the peer's step in a memory format, alone on the machine."""
    with Remote(PEER, chosen, weights, memory_format, False) as peer:
        peer("seconds", "step", 1)
        return min(peer("seconds", "step", steps) for _ in range(2))


def _compared(
    chosen: Workload, parts: Sequence[str], programs: Sequence[Remote], program: str | None, *, repeats: int, steps: int
) -> list[Row]:
    """Speed of each part, and the peak of memory of the step; ours is the first program, a peer the second."""
    device = programs[0]("device")
    details = workload.details(chosen, device, program)
    rows = []
    for part in parts:
        for run in programs:
            run("seconds", part, 1)
            run("reset_peak")
        turns = in_turn([functools.partial(run, "seconds", part, steps) for run in programs], repeats)
        seconds = [statistics.median(of_program) / steps for of_program in turns]
        if part == "optimizer":
            # No matter how many images.
            ours, peer = workload.pair([1e3 * each for each in seconds])
            rows.append(reporting.row(part, ours, peer, "milliseconds", **details))
            continue
        speeds = [chosen.batch / each for each in seconds]
        shares = {}
        if peak := PEAKS.get(device["kind"], {}).get(chosen.dtype):
            # The same FLOPs for both: nobody gains by computing more.
            names = ("share_of_peak", "peer_share_of_peak")
            flops = programs[0]("flops", part)
            shares = {name: flops / each / peak for name, each in zip(names, seconds, strict=False)}
        ours, peer = workload.pair(speeds)
        rows.append(reporting.row(part, ours, peer, "images/s", higher_is_better=True, **details, **shares))
        if part == "step":
            ours, peer = workload.pair([run("peak") for run in programs])
            rows.append(reporting.row("peak memory", ours, peer, "GB", **details))
    return rows


if __name__ == "__main__":
    main()
