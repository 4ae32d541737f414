"""Trains every row of an ablation table and prints it beside the numbers of the method's talk slides.

    python -m jax_mspac.reproduce --table attention --config configs/study.py [--seeds 3] [--workdir DIR]

Rows of the same seed differ only in what the table says. The same command again resumes where it stopped: finished runs
are not trained again. A run that fails, for example since its batch needs more identities than there are, leaves its
place in the table empty; the command goes on, and ends with what failed. The workdir holds table.md, table.csv and
table.png, which are updated after every run, and the folder of a run for each row and seed. Fields of the config can be
set as for `jax_mspac.main`.
"""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError
from jax_mspac.runs.logging import duration
from jax_mspac.runtime import command
from jax_mspac.runtime.files import write_whole
from jax_mspac.studies import TABLES, Row, Table, summary

_SECONDS_FILE = "seconds.json"


def define_flags() -> None:
    """Called by the command alone: other commands have flags of the same names."""
    config_flags.DEFINE_config_file("config", help_string="The experiment that the rows change.")
    flags.DEFINE_enum("table", None, list(TABLES), "Which table.")
    flags.DEFINE_integer("seeds", 3, "Runs per row; their seeds count up from config.seed.", lower_bound=1)
    flags.DEFINE_multi_string("row", [], "Train this row alone; may be given several times.")
    flags.DEFINE_bool("list", False, "Print the names of the table's rows, one a line, and do nothing else.")
    flags.DEFINE_string("workdir", None, "Folder of the runs. Default: runs/<table>-<name of the config file>.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; settings look like --config.train.steps=100")
    values = flags.FLAGS
    if values.table is None:
        raise app.UsageError(f"--table is required: {', '.join(TABLES)}")
    table = TABLES[values.table]
    if values.list:
        print("\n".join(row.name for row in table.rows))
        return
    if values.config is None:
        raise app.UsageError("--config is required, for example --config configs/study.py")
    command.quiet_libraries()
    name = pathlib.Path(config_flags.get_config_filename(values["config"])).stem
    workdir = pathlib.Path(values.workdir or f"runs/{table.name}-{name}").expanduser()
    with command.command():
        rows = table.chosen(values.row)
        if values.config.train.compilation_cache:
            command.cache_compilations()
        # JAX takes seconds to import: --help and --list answer without it.
        from jax_mspac.runs.workdir import explained
        from jax_mspac.runtime import memory

        memory.keep()
        with explained(values.config, workdir):
            reproduce(table, rows, values.config, seeds=values.seeds, workdir=workdir)


def reproduce(
    table: Table,
    rows: Sequence[Row],
    config: ConfigDict,
    *,
    seeds: int,
    workdir: pathlib.Path,
) -> str:
    """Trains what is not trained yet of some rows of a table, `seeds` runs each, and returns the table as Markdown.

    The config is what the rows have in common; the workdir, made if it is missing, is the table's.

    Raises:
      UserError: a row does not fit the config or the runs in the workdir, before anything is trained; or runs failed,
        after all others are done.
    """
    # All rows get one run before any gets its second.
    runs = [(row, seed) for seed in range(config.seed, config.seed + seeds) for row in rows]
    configs = {(row.name, seed): run_config(config, row, seed) for row, seed in runs}
    # JAX and TensorFlow take seconds to import: --list and a wrong flag answer without them.
    from jax_mspac.runs.workdir import check_settings
    from jax_mspac.training import series

    for row, seed in runs:
        check_settings(configs[row.name, seed], workdir / folder_name(row) / f"seed_{seed}")
    workdir.mkdir(parents=True, exist_ok=True)
    seconds = _read_seconds(workdir)
    failures: dict[str, list[str]] = {}
    for number, (row, seed) in enumerate(runs, 1):
        run, name = configs[row.name, seed], f"{folder_name(row)}/seed_{seed}"
        if series.finished(run, workdir / name):
            continue
        left = _time_left(runs[number - 1 :], seconds)
        print(f"\n=== run {number} of {len(runs)}: {row.name}, seed {seed}{left}", flush=True)
        start = time.monotonic()
        try:
            series.train(run, workdir / name)
        except UserError as error:
            # Such as too few identities for the batch of a system: the other rows need not wait for it to be mended.
            print(f"error: {error}", flush=True)
            failures.setdefault(str(error), []).append(f"{row.name}, seed {seed}")
            continue
        seconds[name] = time.monotonic() - start
        write_whole(workdir / _SECONDS_FILE, json.dumps(seconds, indent=2) + "\n")
        _write(table, config, runs, configs, seconds, workdir)
    text = _write(table, config, runs, configs, seconds, workdir)
    print(f"\n{text}Written to {workdir}: table.md, table.csv, table.png", flush=True)
    if failures:
        told = "\n".join(f"{'; '.join(names)}: {error}" for error, names in failures.items())
        raise UserError(f"{sum(map(len, failures.values()))} of {len(runs)} runs failed.\n{told}")
    return text


def run_config(config: ConfigDict, row: Row, seed: int) -> ConfigDict:
    """The validated config of one run; neither baselines nor evaluations while training, which no table needs.

    Raises:
      UserError: an impossible setting, named with its row.
    """
    from jax_mspac import methods

    chosen = {*config_lib.chosen(config), *row.settings}
    config = config.copy_and_resolve_references()
    config_lib.split_lists(config)
    config.update_from_flattened_dict({**row.settings, "seed": seed, "eval.baselines": False, "eval.every": 0})
    try:
        config = methods.configured(config, chosen=chosen)
        config_lib.validate(config)
    except UserError as error:
        raise UserError(f"row {row.name}: {error}") from error
    return config


def folder_name(row: Row) -> str:
    """The name of a row in letters that any file system takes: {1,3,6} -> 1-3-6, +center -> center."""
    words = "".join(letter if letter.isalnum() or letter in "._" else " " for letter in row.name).split()
    return "-".join(words)


def _write(
    table: Table,
    config: ConfigDict,
    runs: Sequence[tuple[Row, int]],
    configs: Mapping[tuple[str, int], ConfigDict],
    seconds: Mapping[str, float],
    workdir: pathlib.Path,
) -> str:
    """Writes the table of the runs that are finished, and returns it as Markdown."""
    from jax_mspac.runs import results
    from jax_mspac.training import series

    measured: dict[str, list[dict[str, float]]] = {}
    primary: dict[str, Any] = {}
    for row, seed in runs:
        outcome = series.finished(configs[row.name, seed], workdir / folder_name(row) / f"seed_{seed}")
        if outcome:
            primary = outcome["rows"][outcome["primary"]]
            scores = {score: primary[score]["mean"] for score in results.SCORES}
            measured.setdefault(row.name, []).append(scores)
    notes = [_size(config), _protocol(primary) if primary else "No run is finished."]
    if parts := series.parts_of(config):
        notes.append(f"Each run is the mean of {len(parts)} models: {', '.join(parts)}.")
    if all(f"{folder_name(row)}/seed_{seed}" in seconds for row, seed in runs):
        total = sum(seconds[f"{folder_name(row)}/seed_{seed}"] for row, seed in runs)
        notes.append(f"{len(runs)} runs took {total / 60:.0f} minutes.")
    text = summary.markdown(table, measured, notes)
    write_whole(workdir / "table.md", text)
    write_whole(workdir / "table.csv", summary.comma_separated(table, measured))
    summary.bar_chart(table, measured, workdir / "table.png")
    return text


def _time_left(runs: Sequence[tuple[Row, int]], seconds: Mapping[str, float]) -> str:
    """Of the runs that are not done: each as long as the last run of its row, or the mean of all runs."""
    if not seconds:
        return ""
    average = sum(seconds.values()) / len(seconds)
    of_row = {name.partition("/")[0]: value for name, value in seconds.items()}
    left = [row for row, seed in runs if f"{folder_name(row)}/seed_{seed}" not in seconds]
    return f", about {duration(sum(of_row.get(folder_name(row), average) for row in left))} left"


def _read_seconds(workdir: pathlib.Path) -> dict[str, float]:
    """How long the finished runs took, by folder; a damaged file costs the estimate and nothing else."""
    try:
        return dict(json.loads((workdir / _SECONDS_FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _size(config: ConfigDict) -> str:
    """What was trained, for a reader who compares tables."""
    data, model, batch, train = config.data, config.model, config.batch, config.train
    return (
        f"{data.name} data; {model.backbone}, width {model.width}, images {data.height}x{data.width}, {train.steps} "
        f"steps of {batch.identities} identities x ({batch.visible} visible + {batch.infrared} infrared) images."
    )


def _protocol(row: Mapping[str, Any]) -> str:
    """The search that the scores are of."""
    shots = "whole gallery" if row["shots"] is None else f"{row['shots']}-shot"
    mode = "" if row["mode"] == "-" else f"{row['mode']}, "
    return f"{row['protocol']} protocol, {mode}{shots}, {row['direction']}, feature {row['feature']}; last step."


if __name__ == "__main__":
    define_flags()
    command.run(main, flags_parser=command.parse_flags)
