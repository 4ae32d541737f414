"""Runs of a method so small that faults can be tried on many of them, each in a process of its own.

The processes are forked from a server that has imported everything, which takes most of the time of a start.
"""

import dataclasses
import json
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import shutil
import signal
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.trees import draw_folder_tree
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.evaluation.evaluator import Evaluator
from jax_mspac.methods.base import State, System, Update
from jax_mspac.runs import config_file
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runs.workdir import explained
from jax_mspac.runtime import command, parallel
from jax_mspac.training import loop

PROCESSES = multiprocessing.get_context("forkserver")
# What a run imports when it needs it: TensorFlow, and the writer of TensorBoard's files.
PROCESSES.set_forkserver_preload([__name__, "jax_mspac.data.preparation", "tensorboard.summary", "helpers.frozen"])


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear map of 4 x 2 pixels and a classifier, with momentum.

    Attributes:
      num_identities: classes.
      width: of the feature.
      nan_at: steps whose gradients are not finite while their losses are.
    """

    num_identities: int
    width: int = 8
    nan_at: tuple[int, ...] = ()
    features = ("before_neck", "after_neck")

    def init(self, key):
        shapes = {"embed": (24, self.width), "classify": (self.width, self.num_identities)}
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        weights = {name: jax.random.normal(keys[name], shape) / 5 for name, shape in shapes.items()}
        variables = {"params": {"embed": weights["embed"]}, "batch_stats": {"mean": jnp.zeros(self.width)}}
        head = weights["classify"]
        momentum = jax.tree.map(jnp.zeros_like, (weights["embed"], head))
        return State(jnp.int32(0), variables, {"head": head, "momentum": momentum})

    def load_pretrained(self, state, tensors, *, source):
        return state

    def update(self, state, batch):
        def loss(trainable):
            embed, head = trainable
            features = jnp.concatenate([_pixels(part["image"]) @ embed for part in batch.values()])
            labels = jnp.concatenate([part["label"] for part in batch.values()])
            log_probabilities = nn.log_softmax(features @ head)
            picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)
            return -picked.mean(), features.mean(axis=0)

        trainable = (state.variables["params"]["embed"], state.training["head"])
        (value, mean), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        gradients, value, mean = parallel.average((gradients, value, mean))
        broken = jnp.any(state.step + 1 == jnp.array((0, *self.nan_at)))
        gradients = jax.tree.map(lambda g: jnp.where(broken, jnp.nan, g), gradients)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state.training["momentum"], gradients)
        embed, head = jax.tree.map(lambda w, m: w - 0.1 * m, trainable, momentum)
        variables = {"params": {"embed": embed}, "batch_stats": {"mean": mean}}
        return Update(State(state.step + 1, variables, {"head": head, "momentum": momentum}), {"loss": value})

    def settle(self, variables, batch):
        return variables

    def embed(self, variables, images, modality):
        features = _pixels(images) @ variables["params"]["embed"]
        return {"before_neck": features, "after_neck": features - variables["batch_stats"]["mean"][None]}


def _pixels(images):
    """A pixel of every 8 x 8: [N, 32, 16, 3] -> [N, 24]."""
    return images[:, 4::8, 4::8].reshape(len(images), -1).astype(jnp.float32) / 255 - 0.5


def config_of(folder, **changes):
    """Of a run on the tree in `folder / "tree"`; `changes` are fields such as "train.steps"."""
    config = config_lib.default_config("folder")
    config.method = "linear"
    config.data.source, config.data.data_dir = str(folder / "tree"), str(folder / "tfds")
    config.data.height, config.data.width = 32, 16
    config.data.test_fraction, config.data.val_fraction = 0.3, 0.3
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.train.steps, config.train.log_every = 24, 1
    config.checkpoint.every, config.eval.every = 2, 6
    config.eval.trials, config.eval.batch = 2, 5
    config.update_from_flattened_dict(changes)
    return config


def state_of(config, workdir, step=None):
    """The saved state of a step, or of the last one, and the step."""
    with Checkpoints(workdir / FOLDER, read_only=True) as checkpoints:
        like = jax.eval_shape(Linear(5).init, jax.random.key(0))
        step = checkpoints.steps[-1] if step is None else step
        return checkpoints.restore(step, like), step


def metrics_of(workdir):
    """The entries of metrics.jsonl without the one that is of the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def killed_after(workdir, step, copy):
    """A copy of a whole run, its checkpoints and its results, as if it had been killed after saving a step."""
    shutil.copytree(workdir, copy)
    for later in [path for path in (copy / FOLDER).iterdir() if int(path.name) > step]:
        shutil.rmtree(later)
    (copy / "results.json").unlink()
    return copy


def tensorboard_steps(workdir, tag="loss"):
    """The steps of a scalar in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workdir / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    return [event.step for event in events.Tensors(tag)]


def assert_equal_runs(config, one, two):
    """Both ended with the same bits, and both logs tell of every step once."""
    jax.tree.map(np.testing.assert_array_equal, state_of(config, one)[0], state_of(config, two)[0])
    assert metrics_of(one) == metrics_of(two)
    steps = list(range(1, config.train.steps + 1))
    for run in (one, two):
        assert [line["step"] for line in metrics_of(run)] == steps == tensorboard_steps(run)


def start(config, workdir, *, output, pause=0.0, slow_evaluation=False, mode="train"):
    """A process that trains, or does what `mode` says, and writes what it says into the file `output`.

    Args:
      config: of the run.
      workdir: its folder.
      output: a path; written anew.
      pause: seconds that every step takes longer.
      slow_evaluation: every evaluation says so and takes a minute.
      mode: a name of `WORK`.
    """
    _ensure_server()
    pathlib.Path(output).write_text("")
    arguments = (config.to_json(), str(workdir), str(output), pause, slow_evaluation, mode)
    process = PROCESSES.Process(target=_work, args=arguments)
    process.start()
    return process


def _ensure_server():
    # Before Python 3.13 the server does not look for its modules where this process does.
    paths = [*map(str, pathlib.Path(__file__).parents[1:3])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        multiprocessing.forkserver.ensure_running()


def end(process, timeout=120):
    """The exit status of a process; negative numbers are signals."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"still running after {timeout} s")
    return process.exitcode


def kill(process):
    process.kill()
    process.join()


def _work(fields, workdir, output, pause, slow_evaluation, mode):
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), stream)
    # A shell gives its jobs the default; a test runner may have been told to ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    register()
    command.quiet_libraries()
    if pause:
        _pause(pause)
    if slow_evaluation:
        _slow_evaluation()
    config = config_lib.default_config("folder")
    with config.unlocked():
        config.update(config_file._tuples(json.loads(fields)))
    # Runs on the same data compile once.
    jax.config.update("jax_compilation_cache_dir", f"{config.data.data_dir}-xla")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        with command.command():
            WORK[mode](config, pathlib.Path(workdir))
    except SystemExit as end:
        command.end_soon(end)
        raise
    finally:
        sys.stdout.flush()


def register():
    methods.METHODS["linear"] = System(title="Linear", build=lambda config, *, num_identities: Linear(num_identities))


def _pause(pause):
    batches = loop._Loop.batches

    def late(self, start, stop):
        for batch in batches(self, start, stop):
            time.sleep(pause)
            yield batch

    loop._Loop.batches = late


def _slow_evaluation():
    evaluate = Evaluator.evaluate

    def slow(self, embed, variables):
        print("evaluating", flush=True)
        for _ in range(600):
            time.sleep(0.1)
        return evaluate(self, embed, variables)

    Evaluator.evaluate = slow


def _evaluate(config, workdir):
    with explained(config, workdir):
        evaluate_checkpoint(config, workdir)


def _prepare(config, workdir):
    Experiment(config).images("test")


WORK = {"train": loop.train, "evaluate": _evaluate, "prepare": _prepare}


def wait_for(output, text, process, timeout=60):
    """Until a process has written a text."""
    deadline = time.monotonic() + timeout
    while text not in (output.read_text() if output.exists() else ""):
        assert process.is_alive() and time.monotonic() < deadline, output.read_text()
        time.sleep(0.02)


def draw(folder):
    """Draws the tree that `config_of` reads, and returns the folder."""
    draw_folder_tree(folder / "tree", identities=[f"person {i}" for i in range(13)], images=2)
    return folder
