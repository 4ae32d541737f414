"""Embedding images with MSPAC-MeCen beside the same network in PyTorch: images/s, and the latency of one image.

    python benchmarks/embed.py --backbone resnet50 --batch 1 16 64 256 --json embed.json

Ours is the function that `jax_mspac.runs.evaluate` and `jax_mspac.load` call; the peer is benchmarks/peers.py in eval
mode under `torch.inference_mode`, in the better of torch's two memory formats and, on a GPU, under `torch.compile` as
well. Both go from uint8 images on the host to float32 features on the host and must agree on them, or nothing is timed.
Each runs in a process of its own, in turn; medians over all calls.
"""

import contextlib
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting, workload  # noqa: E402
from benchmarks.remote import Remote, in_turn, share_one_accelerator  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402

OURS, PEER = "benchmarks.programs_jax:Embed", "benchmarks.programs_torch:Embed"
# Of images in a turn, about: small batches are over soon, and their times scatter.
IMAGES, MOST_CALLS = 64, 20
Row = dict[str, Any]


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    workload.add_flags(parser, batch=[1, 16, 64, 256])
    flags = parser.parse_args()
    share_one_accelerator()
    by_network: dict[tuple[str, str], list[Workload]] = {}
    for chosen in workload.chosen(flags):
        by_network.setdefault((chosen.backbone, chosen.dtype), []).append(chosen)
    rows: list[Row] = []
    try:
        for batches in by_network.values():
            rows += measured(batches, repeats=flags.repeats, with_peer=not flags.no_peer)
    finally:
        reporting.report(rows, flags.json)


def measured(batches: Sequence[Workload], *, repeats: int, with_peer: bool = True) -> list[Row]:
    """Rows of one network.

    Args:
      batches: the same but for `batch`, which rises.
      repeats: turns of each program.
      with_peer: whether to run torch.
    """
    rows: list[Row] = []
    with contextlib.ExitStack() as running:
        ours = running.enter_context(Remote(OURS, batches[0]))
        device, weights = ours("device"), ours("weights")
        forms = [(memory_format, False) for memory_format in workload.FORMATS]
        if device["platform"] == "gpu":
            forms += [(memory_format, True) for memory_format in workload.FORMATS]
        peers = [running.enter_context(Remote(PEER, batches[0], weights, *form)) for form in forms if with_peer]
        for chosen in batches:
            rows += _compared(chosen, ours, peers, device, repeats)
    return rows


def _compared(
    chosen: Workload, ours: Remote, peers: Sequence[Remote], device: Mapping[str, str], repeats: int
) -> list[Row]:
    """Rows of one batch size; of the peers in two memory formats each, the faster one counts."""
    features = ours("features", chosen)
    names = [peer("program") for peer in peers]
    for peer, name in zip(peers, names, strict=True):
        workload.check_same(chosen, name, [device, peer("device")], [features, peer("features", chosen)])
    calls = min(-(-IMAGES // chosen.batch), MOST_CALLS)
    turns = in_turn([functools.partial(run, "seconds", chosen, calls) for run in (ours, *peers)], repeats)
    of_ours, *of_peers = [np.concatenate(of_program) for of_program in turns]
    fastest: dict[str, tuple[str, np.ndarray]] = {}
    for name, seconds in sorted(zip(names, of_peers, strict=True), key=lambda peer: -np.median(peer[1])):
        fastest[name.partition(",")[0]] = (name, seconds)
    rows = []
    for name, of_peer in fastest.values() or [(None, None)]:
        details = workload.details(chosen, device, name)
        both = [of_ours] if of_peer is None else [of_ours, of_peer]
        speeds = workload.pair([chosen.batch / float(np.median(seconds)) for seconds in both])
        rows.append(reporting.row("embed", *speeds, "images/s", higher_is_better=True, **details))
        if chosen.batch == 1:
            for shown, percentile in (("latency, median", 50), ("latency, p90", 90)):
                latencies = workload.pair([1e3 * float(np.percentile(seconds, percentile)) for seconds in both])
                rows.append(reporting.row(shown, *latencies, "milliseconds", **details))
    return rows


if __name__ == "__main__":
    main()
