"""The files that a training run leaves in its workdir, as far as they can be read."""

import dataclasses
import json
import pathlib
from typing import Any

from jax_mspac.runs.logging import METRICS_FILE
from jax_mspac.runs.results import JSON_FILE, SCORES

VERSIONS_FILE = "versions.json"

# step -> value, for each scalar of metrics.jsonl
Curves = dict[str, dict[int, float]]


@dataclasses.dataclass(frozen=True)
class Records:
    """What a run wrote about itself.

    Attributes:
      curves: scalar name -> step -> value.
      results: see `results`; None if they are missing or damaged.
      versions: package -> version; {} if they are missing or damaged.
      problems: file name -> what is wrong with it and what to do; files without a problem are not in it.
    """

    curves: Curves
    results: dict[str, Any] | None
    versions: dict[str, Any]
    problems: dict[str, str]


def read(workdir: pathlib.Path) -> Records:
    """Reads what is there; what is missing or damaged becomes an entry of `problems`."""
    problems: dict[str, str] = {}
    curves, broken = _curves(workdir / METRICS_FILE)
    if not curves:
        problems[METRICS_FILE] = f"{METRICS_FILE} is missing or holds no scalars: nothing was logged while training."
    elif broken:
        problems[METRICS_FILE] = f"{METRICS_FILE} is damaged: {broken} of its lines cannot be read and are left out."
    results, versions = _object(workdir / JSON_FILE), _object(workdir / VERSIONS_FILE)
    if results is not None and not _whole(results):
        results = None
    if results is None:
        problems[JSON_FILE] = (
            f"{JSON_FILE} is missing or damaged. Evaluate a checkpoint to write it again: "
            "python -m jax_mspac.main --config FILE --workdir DIR --mode evaluate"
        )
    if versions is None:
        problems[VERSIONS_FILE] = f"{VERSIONS_FILE} is missing or damaged; the next training in this workdir writes it."
    return Records(curves, results, versions or {}, problems)


def _curves(path: pathlib.Path) -> tuple[Curves, int]:
    """The curves and the number of lines that are none."""
    curves: Curves = {}
    broken = 0
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            scalars = json.loads(line)
            step = int(scalars.pop("step"))
            numbers = {str(name): float(value) for name, value in scalars.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            broken += 1
            continue
        for name, value in numbers.items():
            curves.setdefault(name, {})[step] = value
    return curves, broken


def _object(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _whole(results: dict[str, Any]) -> bool:
    """Whether the results have what a table shows."""
    try:
        rows = results["rows"]
        for row in rows:
            _ = [row[field] for field in ("protocol", "mode", "shots", "direction", "feature")]
            _ = [int(row[field]) for field in ("queries", "gallery")]
            _ = [float(row[score]["mean"]) + float(row[score]["std"]) + len(row[score]["trials"]) for score in SCORES]
        return results.get("primary", 0) in range(len(rows))
    except (KeyError, TypeError, ValueError):
        return False
