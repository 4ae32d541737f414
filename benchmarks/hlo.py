"""Reading the text of a compiled program: what its devices send each other."""

import math
import re
from typing import NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_COLLECTIVE = re.compile(rf" = (.+?) ({'|'.join(KINDS)})(-start|-done)?\(")
# Lists of devices, such as {{0,1},{2,3}}, or groups x devices of one, such as [2,4]<=[8].
_GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\])")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """An instruction that all devices run together.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the whole arrays: what a reduction sums (before it is scattered), what a gather brings together.
      devices: that take part, each in one of several groups, or all.
    """

    kind: str
    bytes: int
    devices: int


def collectives(text: str, *, devices: int) -> list[Collective]:
    """The collectives of one run of an optimized HLO module, in the order of its text.

    Args:
      text: of the module.
      devices: how many it was compiled for.

    Raises:
      ValueError: a collective is in a loop or a branch, where the text does not say how often it runs, or is split into
        a start and an end.
    """
    found, in_entry = [], False
    for line in text.splitlines():
        if line.endswith("{"):
            in_entry = line.startswith("ENTRY ")
        if match := _COLLECTIVE.search(line):
            arrays, kind, half = match.groups()
            if half or not in_entry:
                raise ValueError(f"a collective that cannot be counted: {line.strip()[:200]}")
            sharing = _sharing(line, devices)
            found.append(Collective(kind, _size(arrays) * (sharing if kind == "reduce-scatter" else 1), sharing))
    return found


def _sharing(line: str, devices: int) -> int:
    """How many devices of so many the collective of a line brings together."""
    groups = _GROUPS.search(line)
    if not groups:
        return devices
    return int(groups[2]) if groups[2] else len(groups[1].split(","))


def _size(arrays: str) -> int:
    """Bytes of an array, such as "f32[2,64]{1,0}", or of a tuple of arrays."""
    return sum(BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in _ARRAY.findall(arrays))
