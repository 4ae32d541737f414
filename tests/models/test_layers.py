"""Our batch normalization against Flax's, whose gradient is derived automatically, and over several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jax_mspac.models.layers import BatchNorm

SHAPE = (8, 5, 3, 6)


def batch(dtype=jnp.float32, *, shape=SHAPE, shift=0.5):
    return jnp.asarray(np.random.default_rng(0).normal(shift, 2.0, shape), dtype)


def variables():
    rng = np.random.default_rng(1)
    draw = {name: jnp.asarray(rng.normal(size=6), jnp.float32) for name in ("scale", "bias", "mean")}
    return {
        "params": {"scale": draw["scale"], "bias": draw["bias"]},
        "batch_stats": {"mean": draw["mean"], "var": jnp.asarray(rng.uniform(1, 2, 6), jnp.float32)},
    }


def flax(*, train, **fields):
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, **fields)


def outcome(module, variables, x, axis_name=None):
    """Result, new statistics, and the gradients of some loss."""
    weight = jnp.asarray(np.random.default_rng(2).normal(size=x.shape), jnp.float32)

    def loss(params, x):
        y, updated = module.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(y.astype(jnp.float32))), (y, updated["batch_stats"])

    gradients, (y, statistics) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)
    return y, statistics, gradients


def assert_near(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_agrees_with_flax_in_value_statistics_and_gradients(train, fast, dtype):
    ours = outcome(BatchNorm(train=train, use_fast_variance=fast), variables(), batch(dtype))
    with jax.numpy_rank_promotion("allow"):
        theirs = outcome(flax(train=train, use_fast_variance=fast, dtype=dtype), variables(), batch(dtype))
    assert_near(ours, theirs, 2e-5 if dtype == jnp.float32 else 3e-2)


def test_starts_as_flax_does():
    with jax.numpy_rank_promotion("allow"):
        expected = flax(train=True, scale_init=nn.initializers.zeros).init(jax.random.key(0), batch())
    module = BatchNorm(train=True, axis_name="unbound", scale_init=nn.initializers.zeros)
    assert_near(module.init(jax.random.key(0), batch()), expected, 0)


def test_without_bias_there_is_no_such_parameter():
    params = BatchNorm(train=True, use_bias=False).init(jax.random.key(0), batch())["params"]
    assert set(params) == {"scale"}


def test_two_passes_keep_the_variance_of_values_far_from_zero():
    x = batch(shape=(64, 6), shift=1e4)
    _, updated = BatchNorm(train=True, use_fast_variance=False).apply(variables(), x, mutable=["batch_stats"])
    var = (updated["batch_stats"]["var"] - 0.9 * variables()["batch_stats"]["var"]) / 0.1
    np.testing.assert_allclose(var, np.var(np.asarray(x, np.float64), axis=0), rtol=1e-3)


def test_four_devices_do_what_one_does():
    x = batch()
    weight = jnp.asarray(np.random.default_rng(2).normal(size=SHAPE), jnp.float32)

    def loss(params, x, weight, axis_name):
        module = BatchNorm(train=True, axis_name=axis_name)
        y, updated = module.apply({**variables(), "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(y)), updated["batch_stats"]

    def gradients(params, x, weight, axis_name=None):
        found, statistics = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x, weight, axis_name)
        # Each device has the parameters' gradients of its own images.
        params = found[0] if axis_name is None else jax.lax.psum(found[0], axis_name)
        return (params, statistics), found[1]

    params = variables()["params"]
    expected = gradients(params, x, weight)
    split = [value.reshape(4, 2, *SHAPE[1:]) for value in (x, weight)]
    mapped = jax.pmap(
        functools.partial(gradients, axis_name="devices"), "devices", in_axes=(None, 0, 0), out_axes=(None, 0)
    )
    together, of_images = mapped(params, *split)
    assert_near((together, of_images.reshape(SHAPE)), expected, 2e-5)
