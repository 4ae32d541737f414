"""What each learned system costs beside AGW: parameters, FLOPs of an image, images/s of training and embedding.

    python benchmarks/system_costs.py --json system_costs.json
    python benchmarks/system_costs.py --read system_costs.json

All systems have the same backbone but for PMT, whose own is ViT-B/16. Parameters and FLOPs are counted without running
anything, for ResNet-50 and the size of SYSU-MM01's config. FLOPs are those that XLA counts in the program before its
optimization, with plain convolutions. Speeds are of a small network and small images: the step of
`jax_mspac.training.loop` with the system's own augmentation, from uint8 images on the host, and the embedding that
evaluation calls. AGW runs in a process of its own, in turn with each system; medians. AlignGAN is in its last phase, in
which all of its players play; its generators see four people of a step, or all where there are fewer.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting  # noqa: E402
from benchmarks.costs import table  # noqa: E402
from benchmarks.remote import Remote, in_turn, share_one_accelerator  # noqa: E402

OURS, PEER = "benchmarks.programs_systems:Program", "agw"
# Steps that take longer are measured one at a time.
LONG_SECONDS, STEPS = 3.0, 3
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A system at some size.

    Attributes:
      method: a name of `jax_mspac.methods.METHODS`.
      backbone: of all systems but those that have one of their own.
      height, width: of the images, in pixels.
      images: of a step, both modalities together.
      model_width: channels of the stem; 64 is the published network.
    """

    method: str
    backbone: str = "resnet50"
    height: int = 288
    width: int = 144
    images: int = 64
    model_width: int = 64


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="default: all that are learned")
    parser.add_argument("--backbone", default="resnet18", help="of the speeds")
    parser.add_argument("--height", type=int, default=96, help="of the speeds")
    parser.add_argument("--width", type=int, default=48, help="of the speeds")
    parser.add_argument("--images", type=int, default=16, help="of a step, for the speeds")
    parser.add_argument("--model-width", type=int, default=64, help="channels of the stem, for the speeds")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each program, of which the median counts")
    parser.add_argument("--counts-only", action="store_true", help="run nothing")
    parser.add_argument("--read", type=pathlib.Path, metavar="FILE", help="print an earlier run's rows as Markdown")
    flags = parser.parse_args()
    if flags.read:
        print(markdown(json.loads(flags.read.read_text())["rows"]))
        return
    share_one_accelerator()
    rows: list[Row] = []
    try:
        for row in measured(flags):
            rows.append(row)
            print(row, flush=True)
    finally:
        reporting.report(rows, flags.json)


def measured(flags: argparse.Namespace) -> Iterator[Row]:
    """Rows of all systems, as they are made: "counted" first, then "step" and "embed" of each."""
    with Remote("benchmarks.programs_systems:Counter") as counter:
        names = flags.systems or counter("systems")
        for name in names:
            yield {"name": "counted", "system": name, **counter("counts", Work(method=name))}
    if flags.counts_only:
        return
    size = {"height": flags.height, "width": flags.width, "images": flags.images, "model_width": flags.model_width}
    with Remote(OURS, Work(method=PEER, backbone=flags.backbone, **size)) as peer:
        for name in names:
            if name != PEER:
                work = Work(method=name, backbone=flags.backbone, **size)
                with Remote(OURS, work) as ours:
                    yield from compared(work, ours, peer, repeats=flags.repeats)


def compared(work: Work, ours: Remote, peer: Remote, *, repeats: int) -> list[Row]:
    """Images/s of the step and of the embedding, and AGW's in the same turns."""
    rows = []
    for part in ("step", "embed"):
        warm = [run("seconds", part, 1) for run in (ours, peer)]
        counts = [1 if seconds > LONG_SECONDS else STEPS for seconds in warm]
        programs = [functools.partial(run, "seconds", part, n) for run, n in zip((ours, peer), counts, strict=True)]
        turns = in_turn(programs, repeats)
        speeds = [work.images * n / statistics.median(of_one) for n, of_one in zip(counts, turns, strict=True)]
        rows.append(reporting.row(part, *speeds, "images/s", higher_is_better=True, system=work.method))
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table, a line for each system; speeds relative to AGW's."""
    lines = []
    for counted in (row for row in rows if row["name"] == "counted"):
        own = {row["name"]: row.get("ratio") for row in rows if row["system"] == counted["system"]}
        speeds = [own.get(part, 1.0 if counted["system"] == PEER else None) for part in ("step", "embed")]
        lines.append(
            [f"`{counted['system']}`", counted["backbone"]]
            + [f"{counted[name] / 1e6:.1f}" for name in ("embedding_parameters", "trained_parameters")]
            + [f"{counted[name] / 1e9:.1f}" for name in ("embed_flops", "step_flops")]
            + ["-" if speed is None else f"{speed:.2f}" for speed in speeds]
        )
    head = "system, backbone, million parameters: embedding, trained, GFLOPs: embedding, step, speed: step, embedding"
    return table(head.split(", "), lines)


if __name__ == "__main__":
    main()
