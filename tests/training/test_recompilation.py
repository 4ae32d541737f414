"""A run compiles at its start and in its first evaluation; its loop neither copies the state nor waits for a step."""

import dataclasses

import jax
import jax.monitoring
import numpy as np
import pytest
from helpers import small_runs

from jax_mspac import methods
from jax_mspac.methods.base import System
from jax_mspac.methods.learned import build
from jax_mspac.runtime import parallel, preemption
from jax_mspac.training import loop

STEPS, EVERY = 12, 3  # an epoch is three steps; evaluations at 3, 6, 9 and 12


@dataclasses.dataclass
class Observation:
    """What a run did.

    Attributes:
      compilations: so far.
      before_step: step -> compilations before it was dispatched, but after everything else.
      deleted: for each leaf of each state that a step took from the step before, whether its memory went with it.
      dispatched: steps so far.
      reads: (dispatched, step) for each array of a step that the host looked at or waited for.
      metrics: of the last step.
    """

    compilations: int = 0
    before_step: dict[int, int] = dataclasses.field(default_factory=dict)
    deleted: list[bool] = dataclasses.field(default_factory=list)
    dispatched: int = 0
    reads: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    metrics: dict[str, "Result"] = dataclasses.field(default_factory=dict)


class Result:
    """An array that a step returned. It tells when the host looks at it."""

    def __init__(self, array, step, observation):
        self.array, self.step, self._observation = array, step, observation

    def _read(self):
        self._observation.reads.append((self._observation.dispatched, self.step))
        return self.array

    def block_until_ready(self):
        self._read()
        return self

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._read(), dtype=dtype, copy=copy)

    def __int__(self):
        return int(self._read())

    def __float__(self):
        return float(self._read())

    def __lt__(self, other):
        return float(self) < other

    def __str__(self):
        return str(self._read())


@pytest.fixture
def observe(monkeypatch):
    """Starts to watch the compilations and the steps of this test's run: Observation."""
    observation = Observation()

    def compiled(event, seconds, **details):
        observation.compilations += event == "/jax/core/compile/backend_compile_duration"

    data_parallel = parallel.data_parallel

    def observed(update):
        update = data_parallel(update)

        def step(state, batch):
            observation.before_step[observation.dispatched + 1] = observation.compilations
            state = jax.tree.map(lambda leaf: leaf.array if isinstance(leaf, Result) else leaf, state)
            taken = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
            with jax.transfer_guard("disallow" if taken else "allow"):
                results = update(state, batch)
            # Where the host has evaluated and saved a state, it may still hold a view of it: jax 0.11 then copies.
            if observation.dispatched % EVERY:
                observation.deleted += [leaf.is_deleted() for leaf in taken]
            observation.dispatched += 1
            results = jax.tree.map(lambda array: Result(array, observation.dispatched, observation), results)
            observation.metrics = results[1]
            return results

        return step

    monkeypatch.setattr(parallel, "data_parallel", observed)
    jax.monitoring.register_event_duration_secs_listener(compiled)
    yield observation
    jax.monitoring.unregister_event_duration_listener(compiled)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("runs"))


def run(folder, workdir, **changes):
    small_runs.register()
    settings = {"train.steps": STEPS, "eval.every": EVERY, "checkpoint.every": STEPS, "train.log_every": 1}
    loop.train(small_runs.config_of(folder, **settings, **changes), workdir)


def test_a_network_is_compiled_in_the_first_epoch_and_never_again(observe, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "tiny", System(title="Tiny", build=build))
    network = {"model.backbone": "resnet10", "model.width": 4, "model.parts": (2, 1)}
    network["loss.weighted_regularized.weight"] = 1.0
    run(folder, tmp_path / "run", method="tiny", **network)
    before = observe.before_step
    assert list(before) == list(range(1, STEPS + 1))
    assert before[2] > before[1] and before[3] == before[2]  # the step
    assert before[4] - before[3] >= 2  # the embedding of either modality, in the first evaluation
    assert before[STEPS] == before[4]  # and two more evaluations in between
    assert len(observe.deleted) > 100 * (STEPS - STEPS // EVERY) and all(observe.deleted)


def test_a_batch_of_another_shape_is_compiled_once_more(observe, folder, tmp_path, monkeypatch):
    batches = loop._Loop.batches

    def ragged(self, start, stop):
        for step, batch in enumerate(batches(self, start, stop), start + 1):
            yield jax.tree.map(lambda x: np.repeat(x, 2, axis=1), batch) if step == 8 else batch

    monkeypatch.setattr(loop._Loop, "batches", ragged)
    run(folder, tmp_path / "run")
    before = observe.before_step
    assert before[8] == before[4] and before[9] > before[8] and before[STEPS] == before[9]


def early(observation):
    """Looks at a step before the next one was on its way."""
    # The host catches up after the first step, whose compilation is not in the rate, and where it evaluates or saves.
    caught_up = {1, *range(EVERY, STEPS + 1, EVERY)}
    looks = [look for look in observation.reads if look[0] not in caught_up]
    # After it has caught up, there is no step before to look at.
    assert {dispatched for dispatched, _ in looks} == {2, 5, 8, 11}
    return [dispatched for dispatched, step in looks if step != dispatched - 1]


def test_the_host_looks_at_a_step_when_the_next_one_is_on_its_way(observe, folder, tmp_path):
    run(folder, tmp_path / "run")
    assert not early(observe)


def test_a_look_at_the_step_that_is_running_is_seen(observe, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(preemption, "requested", lambda: observe.dispatched == 5 and observe.metrics["loss"] < 0)
    run(folder, tmp_path / "run")
    assert early(observe) == [5]
