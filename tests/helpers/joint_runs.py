"""Runs of a small network in one or several processes that share a workdir, each with CPU devices of its own."""

import json
import os
import pathlib
import signal
import socket

import jax

from helpers.shallow import TWO_STAGES
from helpers.small_runs import PROCESSES, _ensure_server, _pause, config_of, end, kill, register
from jax_mspac import config as config_lib
from jax_mspac.runs import config_file, evaluate
from jax_mspac.runtime import command, distributed
from jax_mspac.training import loop

WORK = {"train": loop.train, "evaluate": evaluate.evaluate_checkpoint}


def network_config(folder, **changes):
    """Like `small_runs.config_of`, of the real method, with its gathered features and synchronized BatchNorm.

    Its learning rate is small, so that rounding stays rounding.
    """
    config = config_of(folder)
    config.method = "mspac"
    config.batch.identities = 8
    config.model.backbone, config.model.width, config.model.parts = TWO_STAGES, 4, ()
    config.optimizer.learning_rate = 1e-3
    config.data.test_fraction, config.data.val_fraction = 0.25, 0.2
    config.train.steps, config.checkpoint.every, config.eval.every = 20, 5, 10
    config.checkpoint.keep = 10
    config.update_from_flattened_dict(changes)
    return config


def linear_config(folder, **changes):
    """As `network_config`, for what does not depend on the network: a method that compiles in no time."""
    return network_config(folder, **{"method": "linear", **changes})


class Run:
    """Processes that train together, or do what `mode` says; as a context manager it leaves none behind.

    Args:
      configs: of each process.
      workdirs: of each process.
      devices: of each process.
      mode: a name of `WORK`.
      pause: seconds that every step takes longer.
    """

    def __init__(self, configs, workdirs, *, devices, mode="train", pause=0.0):
        _ensure_server()
        self.outputs = [pathlib.Path(f"{workdir}.output{number}") for number, workdir in enumerate(workdirs)]
        count = len(configs)
        address = f"localhost:{_free_port()}"
        self.processes = []
        for number, (config, workdir, output) in enumerate(zip(configs, workdirs, self.outputs, strict=True)):
            joining = dict(coordinator_address=address, num_processes=count, process_id=number) if count > 1 else {}
            arguments = (config.to_json(), str(workdir), str(output), devices, joining, mode, pause)
            self.processes.append(PROCESSES.Process(target=_work, args=arguments))

    def __enter__(self):
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *error):
        for process in self.processes:
            kill(process)

    def end(self):
        """The exit statuses and what each process said."""
        statuses = [end(process, timeout=500) for process in self.processes]
        return statuses, [output.read_text() for output in self.outputs]


def run(config, workdir, *, processes=1, devices=1, mode="train"):
    """A whole run without errors; returns what each process said."""
    with Run([config] * processes, [workdir] * processes, devices=devices, mode=mode) as started:
        statuses, said = started.end()
    assert statuses == [0] * processes, "\n".join(said)
    return said


def _free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _work(fields, workdir, output, devices, joining, mode, pause):
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    register()
    command.quiet_libraries()
    if pause:
        _pause(pause)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    fields = config_file._tuples(json.loads(fields))
    config = config_lib.default_config(fields["data"]["name"])
    config.update(fields)
    # Runs with as many devices compile once.
    jax.config.update("jax_compilation_cache_dir", f"{config.data.data_dir}-xla-{devices}")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    with command.command(), distributed.joined(**joining):
        WORK[mode](config, pathlib.Path(workdir))
