"""The common form of the benchmarks: measure two programs in turn, print a table, write JSON."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "tensorflow")


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the machine and the rows here")
    return made


def installed(peers: Sequence[str]) -> list[str]:
    """Those of some modules that can be imported; it prints which are left out."""
    found = [name for name in peers if importlib.util.find_spec(name)]
    if missing := sorted(set(peers) - set(found)):
        print(f"left out, because not installed: {', '.join(missing)}")
    return found


def alternate(ours: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds of each, run in turn so that a change of load falls on both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, of_run in zip((ours, peer), seconds, strict=True):
            of_run.append(timed(run)[0])
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one run, and what it returned."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def peak_memory() -> float:
    """Peak resident memory of this process in GB, on Linux.

    `resource.getrusage` would count that of the process that started this one, too.
    """
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def resident_memory() -> float:
    """Resident memory of this process in GB, on Linux."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e9


def reset_peak_memory() -> None:
    """Has `peak_memory` start again from the present."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def row(
    name: str, ours: float, peer: float | None, unit: str, *, higher_is_better: bool = False, **details: Any
) -> dict[str, Any]:
    """One comparison; `ratio` is above 1 where ours is the better one, and None where there is no peer."""
    ratio = peer and (ours / peer if higher_is_better else peer / ours)
    return {"name": name, **details, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit}


def machine() -> dict[str, Any]:
    """What the figures depend on, with the load at the time of the call."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


def report(rows: Sequence[dict[str, Any]], file: pathlib.Path | None) -> None:
    """Prints the rows as a table and the machine and, where a file is named, writes them there."""
    names = list(dict.fromkeys(name for entry in rows for name in entry))
    cells = [names] + [[_shown(entry.get(name)) for name in names] for entry in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    found = machine()
    print(described(found))
    if file is not None:
        file.write_text(json.dumps({"machine": found, "rows": list(rows)}, indent=2) + "\n")


def described(machine: Mapping[str, Any]) -> str:
    """The machine in a sentence, with the versions of what decides speed."""
    packages = [f"{name} {machine[name]}" for name in ("jax", "torch", "tensorflow") if machine[name]]
    return ", ".join([f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}", *packages]) + "."


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
