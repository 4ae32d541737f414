import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses import distances


def _direct(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.sqrt(np.sum((x[:, None] - y[None]) ** 2, axis=-1))


def test_distances_match_differences_in_float64():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 64)).astype(np.float32), rng.normal(size=(3, 64)).astype(np.float32)
    np.testing.assert_allclose(distances.squared_euclidean(x, y), _direct(x, y) ** 2, rtol=1e-5)
    np.testing.assert_allclose(distances.euclidean(x, y), _direct(x, y), rtol=1e-5)


def test_distances_of_rows_are_those_of_the_pairs_and_have_their_gradients():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 8)).astype(np.float32)
    x[3] = y[3]
    between, gradient = jax.value_and_grad(lambda x: distances.between_rows(x, y).sum())(x)
    np.testing.assert_allclose(between, np.trace(_direct(x, y)), rtol=1e-5)
    np.testing.assert_allclose(distances.between_rows(x, y), np.diag(_direct(x, y)), rtol=1e-5)
    lengths = np.maximum(_direct(x, y).diagonal(), 1e-9)[:, None]
    np.testing.assert_allclose(gradient, (x - y) / lengths, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_computed_in_float32():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 256)), jnp.bfloat16)
    result = distances.euclidean(x, x[:2])
    assert result.dtype == jnp.float32 and distances.unit(x).dtype == jnp.float32
    np.testing.assert_allclose(result[2:], _direct(x.astype(jnp.float32), x[:2].astype(jnp.float32))[2:], rtol=1e-5)


def test_squared_distance_is_never_negative():
    x = np.random.default_rng(0).normal(size=(64, 33)).astype(np.float32) * 100
    assert np.min(distances.squared_euclidean(x, x * np.float32(1 + 1e-7))) >= 0


def test_euclidean_gradient_is_the_direction_and_zero_at_distance_zero():
    x, y = jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.0], [3.0, 4.0]])
    gradient = jax.jacobian(lambda x: distances.euclidean(x, y)[0])(x)[:, 0]
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30, 4e37])
def test_unit_has_length_one_and_the_tangential_gradient_at_any_scale(scale):
    rng = np.random.default_rng(0)
    x64 = rng.uniform(-1, 1, size=(3, 8))
    x = (x64 * scale).astype(np.float32)
    x64 = x.astype(np.float64)
    length = np.linalg.norm(x64, axis=1, keepdims=True)
    u = x64 / length
    unit = jax.jit(distances.unit)
    np.testing.assert_allclose(unit(x), u, rtol=1e-5)

    cotangent = rng.normal(size=(3, 8))
    (gradient,) = jax.vjp(unit, x)[1](jnp.asarray(cotangent, jnp.float32))
    expected = (cotangent - u * np.sum(u * cotangent, axis=1, keepdims=True)) / length
    # Below the smallest normal number XLA flushes to zero.
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 / scale + np.finfo(np.float32).tiny)


def test_unit_of_zero_is_zero_with_zero_gradient():
    x = jnp.array([[0.0, 0.0], [0.0, 2.0]])
    np.testing.assert_array_equal(distances.unit(x), [[0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(distances.unit(x)[0]))(x), np.zeros((2, 2)))


def test_bounded_clips_finite_values_only():
    x = jnp.array([-jnp.inf, -1e30, 1.5, 1e30, jnp.inf, jnp.nan])
    expected = [-np.inf, -distances.LARGEST, 1.5, distances.LARGEST, np.inf, np.nan]
    np.testing.assert_array_equal(distances.bounded(x), expected)
