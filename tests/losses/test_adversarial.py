"""Losses of a game against cases computed by hand."""

import jax
import numpy as np
import pytest

from jax_mspac.losses import adversarial

SCORES = np.array([[0.0, 1.0], [0.5, -1.0]], np.float32)


@pytest.mark.parametrize(("target", "expected"), [(1.0, (1 + 0 + 0.25 + 4) / 4), (0.0, (0 + 1 + 0.25 + 1) / 4)])
def test_least_squares_is_the_mean_squared_difference(target, expected):
    np.testing.assert_allclose(adversarial.least_squares(SCORES, target), expected, rtol=1e-6)


def test_it_is_finite_for_any_scores_and_shows_those_that_are_not():
    for size in (1e-42, 1.0, -3.3e38):
        value, gradient = jax.value_and_grad(adversarial.least_squares)(np.full((3,), size, np.float32), 1.0)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not np.isfinite(adversarial.least_squares(np.array([0, np.nan]), 1.0))


def test_accuracy_counts_real_and_made_alike():
    # Of four real patches one is told, of one made patch that one.
    real, made = np.array([0.9, 0.4, 0.1, 0.5], np.float32), np.array([0.2], np.float32)
    np.testing.assert_allclose(adversarial.accuracy(real, made), (1 / 4 + 1) / 2, rtol=1e-6)


def test_absolute_is_the_mean_absolute_difference():
    np.testing.assert_allclose(adversarial.absolute(SCORES, SCORES[::-1]), (0.5 + 2 + 0.5 + 2) / 4, rtol=1e-6)
