import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.losses.mecen import mecen

MARGIN = 0.5


def _example(n=6, classes=3, size=5, scale=1.0):
    rng = np.random.default_rng(0)
    features = (scale * rng.normal(size=(n, size))).astype(np.float32)
    return features, (scale * rng.normal(size=(classes, size))).astype(np.float32), rng.integers(0, classes, n)


def _unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _hinges(features, centers, labels, margin=MARGIN):
    x, c = _unit(features.astype(np.float64)), _unit(centers.astype(np.float64))
    return np.array([max(np.sum((x[i] - c[k]) ** 2) - margin, 0.0) for i, k in enumerate(labels)])


def test_reductions_match_the_formulas_in_float64():
    example = _example()
    hinges = _hinges(*example)
    expected = {
        "sum": np.exp(hinges.sum() / 2) - 1,
        "mean": np.exp(hinges.mean() / 2) - 1,
        "per_sample": np.mean(np.exp(hinges / 2) - 1),
    }
    assert 0 < np.sum(hinges == 0) < len(hinges)
    for reduction, value in expected.items():
        loss = mecen(*example, margin=MARGIN, reduction=reduction, max_exponent=80.0)
        np.testing.assert_allclose(loss, value, rtol=1e-5, err_msg=reduction)
    assert mecen(*example, margin=MARGIN) == mecen(*example, margin=MARGIN, reduction="per_sample")


@pytest.mark.parametrize("reduction, reduce", [("sum", np.sum), ("mean", np.mean), ("per_sample", np.mean)])
def test_switches_give_the_rows_of_the_ablation(reduction, reduce):
    example = _example()
    loss = functools.partial(mecen, *example, margin=MARGIN, reduction=reduction, use_exp=False)
    np.testing.assert_allclose(loss(use_margin=False), reduce(_hinges(*example, margin=0.0)) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(use_margin=True), reduce(_hinges(*example)) / 2, rtol=1e-5)


def test_gradient_of_the_sum_is_the_closed_form():
    features, centers, labels = _example()
    features, centers = _unit(features), _unit(centers)
    loss = functools.partial(mecen, margin=MARGIN, reduction="sum", normalize=False, max_exponent=80.0)
    by_features, by_centers = jax.jit(jax.grad(loss, argnums=(0, 1)))(features, centers, labels)

    hinges = _hinges(features, centers, labels)
    expected = np.exp(hinges.sum() / 2) * (features - centers[labels]) * (hinges > 0)[:, None]
    expected_centers = np.zeros_like(centers)
    np.add.at(expected_centers, labels, -expected)
    np.testing.assert_allclose(by_features, expected, rtol=1e-4)
    np.testing.assert_allclose(by_centers, expected_centers, rtol=1e-4, atol=1e-4)


def test_gradient_per_sample_has_one_gain_per_example():
    features, centers, labels = _example(scale=3.0)
    gradient = jax.jit(jax.grad(functools.partial(mecen, margin=MARGIN)))(features, centers, labels)

    hinges, u = _hinges(features, centers, labels), _unit(features)
    by_unit = np.exp(hinges / 2)[:, None] * (u - _unit(centers)[labels]) * (hinges > 0)[:, None] / len(labels)
    tangential = by_unit - u * np.sum(u * by_unit, axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, tangential / np.linalg.norm(features, axis=1, keepdims=True), atol=1e-6)


def test_length_of_features_and_centers_does_not_matter():
    features, centers, labels = _example()
    loss = mecen(features, centers, labels, margin=MARGIN)
    np.testing.assert_allclose(mecen(features * 1e3, centers * 1e-3, labels, margin=MARGIN), loss, rtol=1e-5)


def test_continuation_is_continuous_in_value_and_slope_and_linear_above():
    def loss(s):
        # One example at squared distance 2 s from its center, hence exponent s.
        features = jnp.sqrt(2.0 * s).reshape(1, 1)
        return mecen(features, jnp.zeros((1, 1)), jnp.zeros(1, int), margin=0.0, normalize=False, max_exponent=3.0)

    value_and_grad, step = jax.jit(jax.value_and_grad(loss)), 1e-3
    below, at, above, far = (value_and_grad(s) for s in (3.0 - step, 3.0, 3.0 + step, 50.0))
    np.testing.assert_allclose(below, [np.expm1(3 - step), np.exp(3 - step)], rtol=1e-5)
    np.testing.assert_allclose(at, [np.expm1(3), np.exp(3)], rtol=1e-5)
    np.testing.assert_allclose(above, [np.expm1(3) + step * np.exp(3), np.exp(3)], rtol=1e-5)
    np.testing.assert_allclose(far, [np.expm1(3) + 47 * np.exp(3), np.exp(3)], rtol=1e-5)


def test_default_continuation_leaves_unit_vectors_per_sample_alone():
    features = np.array([[1.0, 0.0]], np.float32)
    np.testing.assert_allclose(mecen(features, -features, np.array([0]), margin=0.0), np.expm1(2.0), rtol=1e-6)


def test_small_exponents_keep_their_digits():
    features, centers = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 1e-5]], np.float32)
    np.testing.assert_allclose(mecen(features, centers, np.array([0]), margin=0.0), 0.5e-10, rtol=1e-4)


def test_sum_of_512_examples_is_finite_up_to_exponent_80():
    features = np.ones((512, 4), np.float32)
    loss = functools.partial(mecen, margin=0.0, reduction="sum", max_exponent=80.0)
    value, gradient = jax.jit(jax.value_and_grad(loss))(features, -features[:1], np.zeros(512, int))
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_mistakes_are_seen():
    features, centers, labels = _example()
    with pytest.raises(UserError, match="reduction of MeCen is 'none'; expected one of per_sample, mean, sum"):
        mecen(features, centers, labels, margin=MARGIN, reduction="none")
    assert np.isnan(mecen(features, centers, labels + 3, margin=MARGIN))
