"""MFEN's divergence between the modalities against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses import LOSSES, Examples
from jax_mspac.losses.base import alone
from jax_mspac.losses.divergence import divergence

VISIBLE, INFRARED = np.array([0, 0, 1, 2]), np.array([1, 0, 0, 3, 1])


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def looped(visible, infrared):
    found = []
    for x, label in zip(visible, VISIBLE, strict=True):
        for y, other in zip(infrared, INFRARED, strict=True):
            if label == other:
                p, q = softmax(x), softmax(y)
                found.append(np.sum(p * np.log(p / q)) / 2 + np.sum(q * np.log(q / p)) / 2)
    assert len(found) == 6
    return np.mean(found)


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_it_is_the_mean_over_pairs_of_one_person_in_both_directions():
    logits = drawn(9, 5)
    found = divergence(logits[:4], VISIBLE, logits[4:], INFRARED)
    np.testing.assert_allclose(found, looped(logits[:4], logits[4:]), rtol=1e-5)


def test_of_two_classes_by_hand():
    # p = (3/4, 1/4), q = (1/4, 3/4): each direction is 1/2 log 3.
    p, q = np.log(np.float32([[3, 1]])), np.log(np.float32([[1, 3]]))
    np.testing.assert_allclose(divergence(p, np.zeros(1, int), q, np.zeros(1, int)), np.log(3) / 2, rtol=1e-6)


def test_parts_have_a_loss_each_and_features_play_no_part():
    logits = drawn(9, 2, 5)
    examples = Examples({}, logits, np.concatenate([VISIBLE, INFRARED]), 4, alone)
    expected = np.mean([looped(logits[:4, part], logits[4:, part]) for part in (0, 1)])
    np.testing.assert_allclose(LOSSES["divergence"](weight=1.0)(examples, {}), expected, rtol=1e-5)


def test_without_a_pair_and_of_equal_images_it_is_nothing():
    logits = drawn(3, 5)
    assert divergence(logits, np.arange(3), logits, np.arange(3) + 3) == 0
    assert divergence(logits, np.arange(3), logits, np.arange(3)) < 1e-6


@pytest.mark.parametrize("size", [0.0, 1e-30, 100.0, 1e30, 3e38])
def test_it_is_finite(size):
    logits = np.float32(np.random.default_rng(1).choice([-size, size], (6, 5)))
    labels = np.array([0, 0, 1])
    loss = jax.jit(jax.value_and_grad(lambda x: divergence(x[:3], labels, x[3:], labels)))
    value, gradient = loss(logits)
    assert value.dtype == jnp.float32 and np.isfinite(value) and value >= 0 and np.isfinite(gradient).all()
    logits[1, 2] = np.nan
    assert not np.isfinite(loss(logits)[0])
