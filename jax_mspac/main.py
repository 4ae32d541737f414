"""Trains and evaluates: python -m jax_mspac.main --config configs/demo.py [--workdir DIR] [--mode train|evaluate].

Scores features of any program under the protocols of a data set, see docs/score.md:
python -m jax_mspac.main --config configs/sysu.py --mode score --features FILE.npz [--workdir DIR].

Every field of the config can be set on the command line, for example --config.train.steps=100. The same command again
resumes where it stopped. SIGTERM or SIGINT (Ctrl-C) saves the state and exits with status 75: see docs/reliability.md.
On several hosts, run the same command on each of them with --distributed: see docs/hosts.md.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError
from jax_mspac.runtime import command, disk

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="The config: a name or a file in configs/, or a file of your own."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run. Default: runs/<name of the config file>, or runs/score-<name of the features>."
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "score"], "What to do.")
FEATURES = flags.DEFINE_string("features", None, "With --mode score: the .npz file to score, see docs/score.md.")

DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other processes that Slurm, Cloud TPU, GKE, Open MPI or Kubernetes started."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT of process 0, if --distributed cannot detect how the processes were started.",
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator_address: the number of processes.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator_address: the number of this process, from 0.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; settings look like --config.train.steps=100")
    if CONFIG.value is None:
        raise app.UsageError("--config is required, for example --config configs/demo.py")
    if (MODE.value == "score") != (FEATURES.value is not None):
        raise app.UsageError("--mode score and --features FILE.npz need each other")
    processes = {
        "detect": DISTRIBUTED.value,
        "coordinator_address": COORDINATOR.value,
        "num_processes": NUM_PROCESSES.value,
        "process_id": PROCESS_ID.value,
    }
    if MODE.value == "score" and any(value not in (None, False) for value in processes.values()):
        raise app.UsageError("--mode score runs in one process, without --distributed and its like")
    command.quiet_libraries()
    features = pathlib.Path(FEATURES.value).expanduser() if FEATURES.value else None
    config_file = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    name = f"score-{features.stem}" if features else config_file.stem
    with command.command():
        workdir = pathlib.Path(WORKDIR.value or f"runs/{name}").expanduser()
        run(CONFIG.value, workdir, MODE.value, features=features, processes=processes)


def run(
    config: ConfigDict,
    workdir: pathlib.Path,
    mode: str,
    *,
    features: pathlib.Path | None = None,
    processes: Mapping[str, Any] | None = None,
) -> None:
    """Validates the config and does what `mode` says.

    Args:
      config: of the run.
      workdir: folder of the run.
      mode: as the flag.
      features: what "score" scores.
      processes: arguments of `distributed.joined`.
    """
    config_lib.split_lists(config)
    if mode == "score":
        from jax_mspac.data.registry import named
        from jax_mspac.evaluation.feature_files import score
        from jax_mspac.runs import config_file
        from jax_mspac.runs.evaluate import publish

        assert features is not None  # `main` has seen to it
        config_lib.validate(config)
        if (workdir / config_file.FILE).exists():
            raise UserError(f"{workdir} holds a training run, whose results stay its own: name another --workdir")
        outcome = score(features, named(config.data.name), config.eval)
        with disk.explained({workdir: "--workdir"}):
            publish(outcome, workdir, of=str(features))
        return
    # JAX and TensorFlow take seconds to import: --help and a wrong flag answer without them.
    if config.train.compilation_cache:
        command.cache_compilations()
    from jax_mspac import methods
    from jax_mspac.runtime import distributed

    config_lib.check_types(config)
    if mode == "train":
        config = methods.configured(config, chosen=config_lib.chosen(config))
        config_lib.validate(config)
    with distributed.joined(**(processes or {})):
        from jax_mspac.runs.workdir import explained
        from jax_mspac.runtime import accelerators, memory
        from jax_mspac.training import series

        # Before anything asks JAX for its devices.
        memory.keep()
        if (told := accelerators.unused()) and distributed.is_main():
            print(told, flush=True)
        # One run or several, as the config says.
        with explained(config, workdir):
            (series.train if mode == "train" else series.evaluate)(config, workdir)


if __name__ == "__main__":
    command.run(main, flags_parser=command.parse_flags)
