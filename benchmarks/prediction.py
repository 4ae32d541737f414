"""From what a training step computes and sends to the time it might take on many chips. Models, not measurements."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import costs
from benchmarks.costs import CHIP_COUNTS

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """What a vendor says of a chip, and two latencies that we assume.

    Attributes:
      name: as tables print it.
      flops: peak in bfloat16, without sparsity, per second.
      memory: GB/s of the chip's own memory.
      island: chips that fast links join.
      fast: GB/s that a chip sends over those links.
      slow: GB/s that a chip sends between islands: its share of the network cards of its host.
      torus: whether the links are a two-dimensional torus; else all chips of an island are equally near.
      near: seconds of a message over a fast link.
      far: seconds of a message between islands.
    """

    name: str
    flops: float
    memory: float
    island: int
    fast: float
    slow: float
    torus: bool
    near: float
    far: float


# cloud.google.com/tpu/docs/v5e and v6e: a host of 8 chips has network cards of 25 and 100 GB/s. Data sheets of NVIDIA's
# H100 and H200 SXM, and of the DGX systems with eight of them and a network card of 400 Gbit/s for each.
_TPU = {"island": 256, "torus": True, "near": 1e-6, "far": 50e-6}
_GPU = {"island": 8, "torus": False, "near": 5e-6, "far": 5e-6}
CHIPS = (
    Chip(name="TPU v5e", flops=197e12, memory=819, fast=200, slow=3.125, **_TPU),
    Chip(name="TPU v6e", flops=918e12, memory=1638, fast=400, slow=12.5, **_TPU),
    Chip(name="H100 SXM", flops=989e12, memory=3350, fast=450, slow=50, **_GPU),
    Chip(name="H200 SXM", flops=989e12, memory=4800, fast=450, slow=50, **_GPU),
)
# Assumed shares of the vendors' peaks.
COMPUTE, MEMORY, LINKS = 0.4, 0.7, 0.8
# The programs that were read are in float32. Almost all they move are activations, half as large in bfloat16.
BFLOAT16 = 0.5
# The part of a step in which gradients are there to be sent while others are computed.
BACKWARD = 2 / 3


class Work(NamedTuple):
    """What a chip computes and sends in a step.

    Attributes:
      flops, bytes_accessed: of computation.
      gradients, statistics, gathered: bytes of whole arrays: gradients, and what else is summed at the end of a step;
        what is summed before; what is gathered, and scattered on the way back.
      collectives: how many.
      group: chips that share a batch; 0: all.
      collectives_of_group: how many of the collectives are of such a group alone; statistics and what is gathered are.
    """

    flops: float
    bytes_accessed: float
    gradients: float
    statistics: float
    gathered: float
    collectives: float
    group: int = 0
    collectives_of_group: float = 0


class Seconds(NamedTuple):
    """Of a step: what is computed, what has to be waited for, and gradients, which may be sent meanwhile."""

    compute: float
    waits: float
    gradients: float

    @property
    def overlapped(self) -> float:
        return self.compute + self.waits + max(0.0, self.gradients - BACKWARD * self.compute)

    @property
    def in_turn(self) -> float:
        return self.compute + self.waits + self.gradients


def work(row: Row) -> Work:
    """That of a row of the benchmark."""
    gathered = row["all_gather"] + row["reduce_scatter"]
    last = row["gradients"] + row.get("averaged", 0)
    of_group = row.get("group", 0), row.get("collectives_of_group", 0)
    sent = last, row["all_reduce"] - last, gathered, row["collectives"]
    return Work(row["ours"], row["bytes_accessed"], *sent, *of_group)


def extrapolated(weak: Sequence[Row], chips: int) -> Work:
    """The work of a chip under weak scaling: of the row of so many, or on the line through the two of the most chips.

    A loss that compares each example with those of all chips grows with the chips; with those of a group it does not.
    """
    by_devices = {row["devices"]: work(row) for row in weak}
    if chips in by_devices:
        return by_devices[chips]
    (fewer, first), (most, last) = sorted(by_devices.items())[-2:]
    if last.group:
        return last
    steps = (chips - most) / (most - fewer)
    return Work(*(b + steps * (b - a) for a, b in zip(first, last, strict=True)))


def seconds(done: Work, chip: Chip, chips: int) -> Seconds:
    """A step by the roofline of the chip and the rings of `sending`."""
    accessed = done.bytes_accessed * BFLOAT16
    compute = max(done.flops / (COMPUTE * chip.flops), accessed / (MEMORY * chip.memory * 1e9))
    if chips == 1:
        return Seconds(compute, 0.0, 0.0)
    sharing = done.group or chips
    waits = sending(2 * done.statistics + done.gathered, chip, sharing)
    waits += done.collectives_of_group * latency(chip, sharing)
    waits += (done.collectives - done.collectives_of_group) * latency(chip, chips)
    return Seconds(compute, waits, sending(2 * done.gradients, chip, chips))


def sending(size: float, chip: Chip, chips: int) -> float:
    """Seconds until every chip has passed on an array of `size` bytes around a ring, in islands and between them.

    An all-reduce passes its array on twice, a gather or a scatter once. In an island of n chips each sends (n-1)/n of
    the array; between m islands each chip cares for 1/n of it, and sends (m-1)/m of that.
    """
    inside, islands = _islands(chip, chips)
    fast = (inside - 1) / inside * size / (LINKS * chip.fast * 1e9)
    return fast + (islands - 1) / islands * size / inside / (LINKS * chip.slow * 1e9)


def latency(chip: Chip, chips: int) -> float:
    """Seconds of a collective of hardly any bytes: to the farthest chip and back, in a tree between islands."""
    inside, islands = _islands(chip, chips)
    # Half of the way around a ring in each of two dimensions.
    hops = math.sqrt(inside) if chip.torus else 1
    return 2 * (hops * chip.near + math.ceil(math.log2(islands)) * chip.far)


def _islands(chip: Chip, chips: int) -> tuple[int, int]:
    inside = min(chips, chip.island)
    return inside, -(-chips // inside)


def markdown(rows: Sequence[Row]) -> str:
    """The tables of docs/scaling.md."""
    parts = ["### Compiled programs", _programs(rows), "### Chips", chips_table(), assumptions()]
    pairs = [row for row in rows if row.get("pairs")]
    rows = [row for row in rows if not row.get("pairs")]
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        weak, strong = ([row for row in rows if (row["backbone"], row["regime"]) == (backbone, r)] for r in _REGIMES)
        if len(weak) > 1:
            parts += [f"### {backbone}, {weak[0]['images']} images per chip", _weak(weak)]
        parts += _of_pairs([row for row in pairs if row["backbone"] == backbone])
        if len(strong) > 1:
            total = strong[0]["images"] * strong[0]["devices"]
            parts += [f"### {backbone}, {total} images per step", _strong(strong)]
            parts += [f"### {backbone}: images of a device", _batch(strong)]
        any_row = (weak or strong)[0]
        parts += [f"### {backbone}: losses that compare all examples", costs.pairs_table(any_row)]
        parts += [f"### {backbone}: identities", costs.identities_table(any_row)]
        parts += [
            f"### {backbone}: gallery searched by {costs.QUERIES:,} queries, a feature",
            costs.gallery_table(any_row),
        ]
    return "\n\n".join([*parts, "### Cameras: all rows of a table together", costs.cameras_table()])


_REGIMES = ("weak", "strong")


def _of_pairs(rows: Sequence[Row]) -> list[str]:
    """Sections on a step of one backbone that compares the examples of a batch: all chips', then those of groups."""
    parts = []
    for group in sorted({row["group"] for row in rows}):
        shared = [row for row in rows if row["group"] == group or row["devices"] == 1]
        if len(shared) > 1:
            of_group = f", a batch for {group} chips" if group else ""
            title = f"### {rows[0]['backbone']}, {rows[0]['images']} images per chip, all of a batch compared{of_group}"
            parts += [title, _weak(shared)]
    return parts


def _programs(rows: Iterable[Row]) -> str:
    names = ("all_reduce", "all_gather", "reduce_scatter")
    head = "backbone, regime, devices, images, GFLOPs, ratio, GB read, GB held, calls"
    head += ", MB summed, gathered, scattered"
    return costs.table(
        head.split(", "),
        (
            [row["backbone"], _regime(row), row["devices"], row["images"], f"{row['ours'] / 1e9:.1f}"]
            + [f"{row['ours'] / row['peer']:.4f}", f"{row['bytes_accessed'] / 1e9:.1f}", f"{row['memory'] / 1e9:.1f}"]
            + [row["collectives"]]
            + [f"{row[name] / 1e6:.2f} ({row[f'{name}_by_hand'] / 1e6:.2f})" for name in names]
            for row in rows
        ),
    )


def _regime(row: Row) -> str:
    """That of a row or, where its step compares all examples of a batch, of all devices or of some, "pairs (of 8)"."""
    if not row.get("pairs"):
        return row["regime"]
    return f"pairs of {row['group']}" if row["group"] else "pairs"


def chips_table() -> str:
    """What the predictions take the chips to be."""
    head = "chip, bfloat16 TFLOP/s, memory GB/s, chips of an island, GB/s to it, GB/s out of it"
    return costs.table(
        [*head.split(", "), "µs in it", "µs out of it"],
        (
            [chip.name, f"{chip.flops / 1e12:g}", f"{chip.memory:g}", chip.island, f"{chip.fast:g}", f"{chip.slow:g}"]
            + [f"{chip.near * 1e6:g}", f"{chip.far * 1e6:g}"]
            for chip in CHIPS
        ),
    )


def assumptions() -> str:
    """The other numbers that the predictions rest on, as a sentence."""
    return (
        f"Assumed of every chip: {100 * COMPUTE:.0f} % of its peak in computation, {100 * MEMORY:.0f} % of the "
        f"bandwidth of its memory and {100 * LINKS:.0f} % of that of its links. Assumed of the program: in bfloat16 it "
        f"accesses {BFLOAT16:g} times the bytes; {100 * BACKWARD:.0f} % of its computation can go on "
        "while gradients are sent."
    )


_TIMES = "compute, waits, gradients, step, images/s, efficiency, without overlap"


def _weak(rows: Sequence[Row]) -> str:
    lines = []
    for chip in CHIPS:
        alone = seconds(extrapolated(rows, 1), chip, 1).compute
        for chips in (1, *CHIP_COUNTS):
            took, images = seconds(extrapolated(rows, chips), chip, chips), chips * rows[0]["images"]
            efficiency = (alone / took.overlapped, alone / took.in_turn)
            lines.append([chip.name, chips, f"{images:,}", *_times(took, images, efficiency)])
    return costs.table(["chip", "chips", "images per step", *_TIMES.split(", ")], lines)


def _strong(rows: Sequence[Row]) -> str:
    lines = []
    for chip in CHIPS:
        alone = seconds(work(rows[0]), chip, 1).compute
        for row in rows:
            chips, images = row["devices"], row["devices"] * row["images"]
            took = seconds(work(row), chip, chips)
            efficiency = (alone / chips / took.overlapped, alone / chips / took.in_turn)
            lines.append([chip.name, chips, row["images"], *_times(took, images, efficiency)])
    return costs.table(["chip", "chips", "images per chip", *_TIMES.split(", ")], lines)


def _times(took: Seconds, images: int, efficiency: tuple[float, float]) -> list[str]:
    milliseconds = [f"{1e3 * part:.2f}" for part in (*took, took.overlapped)]
    return [*milliseconds, f"{images / took.overlapped:,.0f}", *(f"{100 * share:.0f} %" for share in efficiency)]


def _batch(rows: Iterable[Row]) -> str:
    return costs.table(
        ["images of a device", "GFLOPs per image", "GB accessed per image", "GB memory"],
        (
            [row["images"], f"{row['ours'] / row['images'] / 1e9:.2f}"]
            + [f"{row['bytes_accessed'] / row['images'] / 1e9:.2f}", f"{row['memory'] / 1e9:.2f}"]
            for row in sorted(rows, key=lambda row: row["images"])
        ),
    )
