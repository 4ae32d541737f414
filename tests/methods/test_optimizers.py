"""Schedules, parameter groups and weight decay masks, against hand-computed steps."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_mspac.methods import optimizers
from jax_mspac.methods.optimizers import Recipe


def rates(recipe, steps):
    schedule = optimizers.learning_rate(recipe, steps)
    return np.array([float(schedule(step)) for step in range(steps)])


def test_step_schedule_with_warm_up():
    recipe = Recipe(learning_rate=1.0, schedule="step", warmup=0.1, milestones=(0.4, 0.7))
    expected = [*np.arange(1, 11) / 10, *[1.0] * 30, *[0.1] * 30, *[0.01] * 30]
    np.testing.assert_allclose(rates(recipe, 100), expected, rtol=1e-5)


def test_cosine_schedule_ends_near_zero():
    values = rates(Recipe(learning_rate=0.5, schedule="cosine", warmup=0.0), 50)
    np.testing.assert_allclose(values, 0.25 * (1 + np.cos(np.pi * np.arange(50) / 50)), rtol=1e-5)


def test_constant_schedule_without_warm_up():
    np.testing.assert_allclose(rates(Recipe(learning_rate=0.3, schedule="constant", warmup=0.0), 4), 0.3)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_keep_a_positive_rate(schedule, warmup, steps):
    values = rates(Recipe(schedule=schedule, warmup=warmup), steps)
    assert (values > 0).all() and values.max() <= Recipe().learning_rate + 1e-6


def test_two_sgd_steps_by_hand():
    recipe = Recipe(
        learning_rate=0.1, backbone_factor=0.5, momentum=0.9, weight_decay=0.01, schedule="constant", warmup=0.0
    )
    transform = optimizers.build(recipe, 10, lambda path: "backbone" if path.startswith("slow/") else "other")
    params = {"slow": {"kernel": jnp.full((1, 1), 2.0)}, "fast": {"kernel": jnp.full((1, 1), 2.0), "bias": jnp.ones(1)}}
    gradients = {"slow": {"kernel": jnp.ones((1, 1))}, "fast": {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}}
    state = transform.init(params)
    expected = {"slow": 2.0, "fast": 2.0, "bias": 1.0}
    velocity = dict.fromkeys(expected, 0.0)
    for _ in range(2):
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for name, value in expected.items():
            gradient = 1.0 + (0.0 if name == "bias" else 0.01 * value)
            velocity[name] = gradient + 0.9 * velocity[name]
            expected[name] -= 0.1 * (0.5 if name == "slow" else 1.0) * (gradient + 0.9 * velocity[name])
        np.testing.assert_allclose(params["slow"]["kernel"], [[expected["slow"]]], rtol=1e-6)
        np.testing.assert_allclose(params["fast"]["kernel"], [[expected["fast"]]], rtol=1e-6)
        np.testing.assert_allclose(params["fast"]["bias"], [expected["bias"]], rtol=1e-6)


def test_norms_and_biases_decay_where_the_recipe_says_so():
    for decays in (False, True):
        recipe = Recipe(weight_decay=0.1, decay_norms_and_biases=decays, schedule="constant", warmup=0.0)
        transform = optimizers.build(recipe, 1, lambda path: "any")
        params = {"scale": jnp.ones(3)}
        updates, _ = transform.update({"scale": jnp.zeros(3)}, transform.init(params), params)
        assert bool((updates["scale"] != 0).all()) == decays


def test_an_exponent_has_a_rate_of_its_own_and_never_decays():
    recipe = Recipe(
        learning_rate=1.0,
        exponent_factor=0.01,
        momentum=0.0,
        weight_decay=0.5,
        decay_norms_and_biases=True,
        schedule="constant",
        warmup=0.0,
    )
    transform = optimizers.build(recipe, 1, lambda path: "exponent" if path.startswith("pooling/") else "other")
    params = {"pooling": {"p": jnp.float32(3)}, "neck": {"scale": jnp.ones(1)}}
    gradients = {"pooling": {"p": jnp.float32(2)}, "neck": {"scale": jnp.full(1, 2.0)}}
    updates, _ = transform.update(gradients, transform.init(params), params)
    np.testing.assert_allclose(updates["pooling"]["p"], -0.02, rtol=1e-6)
    np.testing.assert_allclose(updates["neck"]["scale"], [-2.5], rtol=1e-6)


def test_clipping_bounds_the_gradient():
    recipe = Recipe(clip_norm=1.0, momentum=0.0, weight_decay=0.0, learning_rate=1.0, schedule="constant", warmup=0.0)
    transform = optimizers.build(recipe, 1, lambda path: "any")
    params = {"kernel": jnp.zeros((1, 2))}
    updates, _ = transform.update({"kernel": jnp.array([[30.0, 40.0]])}, transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [[-0.6, -0.8]], rtol=1e-5)


def test_adamw_decays_decoupled_from_the_gradient():
    recipe = Recipe(name="adamw", weight_decay=0.5, learning_rate=0.1, schedule="constant", warmup=0.0)
    transform = optimizers.build(recipe, 1, lambda path: "any")
    params = {"kernel": jnp.full((1, 1), 4.0)}
    updates, _ = transform.update({"kernel": jnp.full((1, 1), 7.0)}, transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [[-0.1 * (1.0 + 0.5 * 4.0)]], rtol=1e-4)


def test_adam_adds_the_decay_to_the_gradient_and_adamw_does_not():
    params, gradients = {"kernel": jnp.full((1, 1), 2.0)}, {"kernel": jnp.full((1, 1), 0.01)}
    for name, gradient, apart in (("adam", 0.01 + 0.1 * 2.0, 0.0), ("adamw", 0.01, 0.1 * 2.0)):
        recipe = Recipe(name=name, learning_rate=0.1, weight_decay=0.1, schedule="constant", warmup=0.0)
        transform = optimizers.build(recipe, 10, lambda path: "other")
        updates, state = transform.update(gradients, transform.init(params), params)
        # After the first step the moments are the gradient and its square: the rate times the sign.
        np.testing.assert_allclose(updates["kernel"], [[-0.1 * (1 + apart)]], rtol=1e-4)
        updates, _ = transform.update({"kernel": jnp.zeros((1, 1))}, state, {"kernel": jnp.zeros((1, 1))})
        first, second = 0.9 * 0.1 * gradient / 0.19, 0.999 * 0.001 * gradient**2 / (1 - 0.999**2)
        np.testing.assert_allclose(updates["kernel"], [[-0.1 * first / np.sqrt(second)]], rtol=1e-3)
