"""What travels between the host and the devices in a step: what the method reads, early, and nothing unasked."""

import jax
import numpy as np
import pytest
from helpers import small_runs

from jax_mspac.runtime import parallel
from jax_mspac.training import loop


@pytest.fixture
def config(tmp_path, monkeypatch):
    small_runs.draw(tmp_path)
    monkeypatch.setitem(small_runs.methods.METHODS, "linear", None)
    small_runs.register()
    return small_runs.config_of(tmp_path, **{"train.steps": 5, "eval.every": 0, "checkpoint.every": 5})


@pytest.mark.parametrize("reads", [None, ("image", "label", "camera")])
def test_only_what_the_method_reads_is_sent(config, tmp_path, monkeypatch, reads):
    sent, shard = [], parallel.shard
    monkeypatch.setattr(parallel, "shard", lambda batch, *more: sent.append(batch) or shard(batch, *more))
    if reads:
        monkeypatch.setattr(small_runs.Linear, "reads", reads, raising=False)
    loop.train(config, tmp_path / "run")
    expected = {
        "visible": set(reads or ("image", "label", "slot")),
        "infrared": set(reads or ("image", "label", "slot")),
    }
    assert [{modality: set(samples) for modality, samples in batch.items()} for batch in sent] == [expected] * 5


def test_a_transfer_that_nobody_asked_for_ends_the_run(config, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "shard", lambda batch: batch)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        loop.train(config, tmp_path / "run")


def test_batches_are_sent_one_step_early_and_come_in_order():
    events = []

    def batches():
        for number in range(4):
            events.append(f"made {number}")
            yield {"kept": np.full(4, number), "sent": np.full((4, 2), number)}

    for batch, placed in parallel.sharded_ahead(batches(), lambda batch: {"sent": batch["sent"]}):
        number = int(batch["kept"][0])
        events.append(f"used {number}")
        assert set(placed) == {"sent"} and len(placed["sent"].addressable_shards) == jax.local_device_count()
        np.testing.assert_array_equal(placed["sent"], batch["sent"])
    assert events == ["made 0", "made 1", "used 0", "made 2", "used 1", "made 3", "used 2", "used 3"]


def test_the_state_before_a_step_is_donated_to_it():
    update = parallel.data_parallel(lambda state, batch: (state + parallel.average(batch.sum()), ()))
    state = parallel.replicate(np.zeros(8, np.float32))
    after, _ = update(state, parallel.shard(np.ones((4, 2), np.float32)))
    assert state.is_deleted() and not after.is_deleted()
    np.testing.assert_array_equal(after, np.full(8, 2.0))
