"""Checkpoints: what is kept, what comes back, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_mspac.checkpoints import Checkpoints
from jax_mspac.errors import UserError
from jax_mspac.methods.base import State


def make_state(step, width=3):
    params = {"dense": {"kernel": jnp.arange(2.0 * width).reshape(2, width) + step, "bias": jnp.full(width, 0.1)}}
    optimizer = optax.chain(optax.trace(0.9), optax.scale_by_learning_rate(lambda count: 0.1)).init(params)
    return State(jnp.int32(step), {"params": params, "batch_stats": {"mean": jnp.float32(step)}}, {"o": optimizer})


def assert_equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(lambda x: x.dtype, two)


def test_state_comes_back_to_the_bit(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(7))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [7]
        assert_equal(checkpoints.restore(7, make_state(0)), jax.device_get(make_state(7)))


def test_latest_two_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, score in enumerate([0.1, 0.9, None, 0.5, None, 0.2], 1):
            checkpoints.save(make_state(step), score=score)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [2, 5, 6]
        assert checkpoints.best == 2
        assert [checkpoints.find(which) for which in ("latest", "best", "5")] == [6, 2, 5]


def test_a_save_holds_the_state_of_its_moment(tmp_path):
    # The step donates its state: the buffers are gone while the save may still be writing.
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        expected = jax.device_get(state)
        jax.tree.map(lambda x: x.delete(), state)
    with Checkpoints(tmp_path) as checkpoints:
        assert_equal(checkpoints.restore(1, expected), expected)


def test_variables_come_back_without_the_rest(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(3))
    # Damage everything else: restoring for inference must not look at it.
    for path in (tmp_path / "3" / "training").rglob("*"):
        if path.is_file() and path.name not in ("_METADATA", "_sharding"):
            path.write_bytes(b"")
    with Checkpoints(tmp_path) as checkpoints:
        variables = checkpoints.restore_variables(3, make_state(0).variables)
    assert_equal(variables, jax.device_get(make_state(3).variables))


def test_another_model_is_refused_with_names_and_shapes(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        with pytest.raises(UserError, match=r"dense/kernel: saved \(2, 3\), expected \(2, 5\)"):
            checkpoints.restore(1, make_state(0, width=5))
        renamed = {"params": {"other": jnp.ones(1)}, "batch_stats": {"mean": jnp.float32(0)}}
        with pytest.raises(UserError, match=r"dense/bias: saved \(3,\), expected nothing"):
            checkpoints.restore_variables(1, renamed)


def test_missing_checkpoints_are_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint in"):
            checkpoints.find("latest")
        checkpoints.save(make_state(4))
        with pytest.raises(UserError, match="no checkpoint of step 5 .* there are 4"):
            checkpoints.find("5")
        with pytest.raises(UserError, match="no best one"):
            checkpoints.find("best")
