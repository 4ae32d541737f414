"""Runs that are averaged: the parts of a series train one after the other, in folders of one workdir.

RegDB's ten trials and the folds of a cross-validation are series. The average so far is written after every part, and
the same command again goes on where it stopped; parts that were trained elsewhere count once their folders are there.
"""

import itertools
import json
import os
import pathlib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jax_mspac.data import registry
from jax_mspac.errors import UserError
from jax_mspac.runs import config_file, results
from jax_mspac.runs.checkpoints import FOLDER
from jax_mspac.runs.evaluate import evaluate_checkpoint, place_of, publish
from jax_mspac.runs.logging import duration
from jax_mspac.runtime import distributed
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.training.loop import train as train_run

_ROW_KEY = ("protocol", "mode", "shots", "direction", "feature")

# Name of a part, which is the name of its folder too -> its config. In order; empty for a single run.
Parts = dict[str, ConfigDict]


def parts_of(config: ConfigDict) -> Parts:
    """The runs that a config stands for, or nothing if it stands for itself."""
    parts = {}
    for name, changes in registry.named(config.data.name).parts_of(config.data).items():
        parts[name] = config.copy_and_resolve_references()
        parts[name].data.update(changes)
    return parts


def train(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Trains every part that is not finished and averages all of them; a config that is no series trains as it is.

    The parts of a series, whose config is validated, have folders in the workdir.

    Returns:
      The results, see `average`; of a single run its own.

    Raises:
      UserError: the workdir holds something else, or a part cannot be trained.
    """
    workdir, parts = pathlib.Path(workdir), parts_of(config)
    _check_workdir(config, workdir, same_settings=bool(parts))
    if not parts:
        return _train_one(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    if distributed.is_main():
        config_file.save(config, workdir / config_file.FILE)
    done = {name: outcome for name, part in parts.items() if (outcome := finished(part, workdir / name))}
    if done:
        print(f"finished already: {', '.join(done)}", flush=True)
    waiting = [name for name in parts if name not in done]
    seconds: list[float] = []
    for position, name in enumerate(waiting):
        if done and distributed.is_main():
            results.write(average(done, parts), workdir)
        left = len(waiting) - position
        time_left = f", about {duration(left * float(np.mean(seconds)))}" if seconds else ""
        print(f"\n{name} of {len(parts)}: {left} left to train{time_left}", flush=True)
        # Parts that only go on from a checkpoint say little about how long a part takes.
        whole, start = not _has_checkpoint(workdir / name), time.monotonic()
        done[name] = _train_one(parts[name], workdir / name)
        if whole:
            seconds.append(time.monotonic() - start)
    return _report(average(done, parts), workdir)


def _train_one(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    try:
        return train_run(config, workdir)
    finally:
        # XLA maps memory for each program, and the system limits how often a process may: after some 50 runs in one
        # process, a table of all systems ended with "Cannot allocate memory".
        jax.clear_caches()


def evaluate(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Evaluates the checkpoint of every part and averages; a config that is no series is evaluated as it is.

    The config is as of `evaluate.evaluate_checkpoint`; the results and the folder of the series as of `train`.

    Raises:
      UserError: the workdir holds something else, or no part is trained, or one cannot be evaluated.
    """
    workdir, parts = pathlib.Path(workdir), parts_of(config)
    _check_workdir(config, workdir, same_settings=False)
    if not parts:
        return evaluate_checkpoint(config, workdir)
    trained = [name for name in parts if _has_checkpoint(workdir / name)]
    if not trained:
        raise UserError(f"{workdir} has no checkpoint of {', '.join(parts)}: train first, or name another --workdir")
    outcomes = {}
    for name in trained:
        print(f"\n{name} of {len(parts)}", flush=True)
        outcomes[name] = evaluate_checkpoint(parts[name], workdir / name)
    return _report(average(outcomes, parts), workdir)


def average(outcomes: Mapping[str, Mapping[str, Any]], names: Collection[str]) -> dict[str, Any]:
    """The mean of the parts that have results.

    Args:
      outcomes: part -> its results, of one part or more.
      names: all parts, in order.

    Returns:
      Results whose rows have the form of `metrics.retrieval.evaluate_protocol`: here a trial of a metric is the mean of
      a part, in the order of `names`. "steps" takes the place of "step": part -> the step of its checkpoint.

    Raises:
      UserError: the parts were not searched by the same protocols.
    """
    present = [name for name in names if name in outcomes]
    tables = [{tuple(row[field] for field in _ROW_KEY): row for row in outcomes[name]["rows"]} for name in present]
    for name, table in zip(present, tables, strict=True):
        if table.keys() != tables[0].keys():
            raise UserError(f"{name} and {present[0]} have results of different protocols: evaluate all parts anew")
    averaged = {
        "steps": {name: outcomes[name]["step"] for name in present},
        "data": {
            "name": outcomes[present[0]]["data"]["name"],
            "own": all(outcomes[name]["data"]["own"] for name in present),
        },
        "notes": _notes([outcomes[name] for name in present], present, names),
        "rows": [_mean_row([table[key] for table in tables]) for key in tables[0]],
        "primary": outcomes[present[0]]["primary"],
    }
    baselines = [outcomes[name].get("baselines", {}) for name in present]
    if all(baselines):
        averaged["baselines"] = {
            baseline: {score: float(np.mean([of_part[baseline][score] for of_part in baselines])) for score in scores}
            for baseline, scores in baselines[0].items()
            if all(baseline in of_part for of_part in baselines)
        }
    return averaged


def _mean_row(rows: Sequence[results.Row]) -> dict[str, Any]:
    mean = {**rows[0], **{size: round(np.mean([row[size] for row in rows])) for size in ("queries", "gallery")}}
    for score in results.SCORES:
        values = [row[score]["mean"] for row in rows]
        mean[score] = {"mean": float(np.mean(values)), "std": float(np.std(values)), "trials": values}
    if trained := [row for row in rows if "trained_identities" in row]:
        mean |= {name: sum(row[name] for row in trained) for name in ("trained_identities", "test_identities")}
    return mean


def _notes(outcomes: Sequence[Mapping[str, Any]], present: Sequence[str], names: Collection[str]) -> list[str]:
    """What a reader of the average must know: what every part says, how many there are, and what is missing."""
    kind = f"{present[0].partition('_')[0]}s"
    missing = [name for name in names if name not in present]
    notes = list(dict.fromkeys(itertools.chain.from_iterable(outcome.get("notes", ()) for outcome in outcomes)))
    if missing:
        notes.append(f"Mean of {len(present)} of {len(names)} {kind}; not trained yet: {', '.join(missing)}.")
    else:
        notes.append(f"Mean of {len(names)} {kind}, one model each; ± is the standard deviation over them.")
    steps = {name: outcome["step"] for name, outcome in zip(present, outcomes, strict=True)}
    if len(set(steps.values())) > 1:
        notes.append(f"Checkpoints of different steps: {', '.join(f'{name} {step}' for name, step in steps.items())}.")
    return notes


def _report(outcome: dict[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
    publish(outcome, place_of(outcome, workdir), of=str(workdir))
    return outcome


def finished(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any] | None:
    """The results of a run or of a whole series, if they are what training it with this config would give."""
    if parts := parts_of(config):
        done = {name: outcome for name, part in parts.items() if (outcome := finished(part, folder / name))}
        return average(done, parts) if len(done) == len(parts) else None
    try:
        outcome = json.loads((folder / results.JSON_FILE).read_text())
        trained = config_file.load(folder / config_file.FILE)
    except (FileNotFoundError, ValueError, UserError):
        return None
    # An evaluation of its own may have used other settings than the run.
    with trained.unlocked():
        trained.eval = ConfigDict(outcome.get("eval", {}))
    differing = config_file.differences(trained, config, set(config_file.MAY_CHANGE) - {"eval"})
    return outcome if outcome["step"] == config.train.steps and not differing else None


def _check_workdir(config: ConfigDict, workdir: pathlib.Path, *, same_settings: bool) -> None:
    """Checks that a single run and a series, or two series, do not meet in one folder."""
    path = workdir / config_file.FILE
    holds_run = workdir.is_dir() and any(map(_has_checkpoint, (workdir, *workdir.iterdir())))
    if not path.exists() and not holds_run and (workdir / results.JSON_FILE).exists():
        raise UserError(f"{workdir} holds results of something else than a training run; name another --workdir")
    # Without a checkpoint there is nothing to mix up.
    if not path.exists() or not holds_run:
        return
    before = config_file.load(path)
    there, wanted = parts_of(before), parts_of(config)
    differing = config_file.differences(before, config)
    if there.keys() != wanted.keys() or (same_settings and differing):
        raise UserError(
            f"{workdir} holds {_describe(there)}, and this is {_describe(wanted)} with other settings; give another "
            "--workdir, or its settings back:\n  " + "\n  ".join(differing)
        )


def _describe(parts: Parts) -> str:
    return f"a series of {len(parts)} runs" if parts else "a single run"


def _has_checkpoint(folder: pathlib.Path) -> bool:
    return any(path.name.isdecimal() for path in (folder / FOLDER).glob("*"))
