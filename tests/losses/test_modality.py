"""The loss of a discriminator of modalities against the definition of binary cross-entropy, and its accuracy."""

import jax
import numpy as np

from jax_mspac.losses import modality


def test_the_loss_is_a_binary_cross_entropy_of_each_logit():
    logits = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32) * 3
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    targets = np.array([[1, 0]] * 3 + [[0, 1]] * 4)
    terms = -np.log(np.where(targets == 1, probabilities, 1 - probabilities)).mean(axis=1)
    np.testing.assert_allclose(modality.cross_entropy(logits, 3), terms[:3].mean() + terms[3:].mean(), rtol=1e-6)
    np.testing.assert_allclose(modality.cross_entropy(np.zeros((7, 2)), 3), 2 * np.log(2), rtol=1e-6)


def test_it_is_finite_for_any_logits_and_shows_those_that_are_not():
    for size in (1e-42, 1.0, 3.3e38):
        for signs in ([1, 1], [1, -1], [-1, 1]):
            logits = np.tile(np.float32(size) * np.array(signs, np.float32), (4, 1))
            value, gradient = jax.value_and_grad(modality.cross_entropy)(logits, 2)
            assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not np.isfinite(modality.cross_entropy(np.array([[0, 0], [np.nan, 0]]), 1))


def test_accuracy_counts_both_modalities_alike():
    # Of three visible images two are told, of the one infrared image none.
    logits = np.array([[2, 1], [1, 0], [0, 1], [1, 0]], np.float32)
    np.testing.assert_allclose(modality.accuracy(logits, 3), (2 / 3 + 0) / 2, rtol=1e-6)
