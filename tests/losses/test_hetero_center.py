"""The hetero-center loss against a plain transcription, and its invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses.base import Examples
from jax_mspac.losses.hetero_center import HeteroCenter, hetero_center


def transcription(visible, visible_labels, infrared, infrared_labels, margin):
    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    visible, infrared = unit(visible.astype(np.float64)), unit(infrared.astype(np.float64))
    terms = []
    for label in sorted(set(visible_labels.tolist()) & set(infrared_labels.tolist())):
        between = visible[visible_labels == label].mean(axis=0) - infrared[infrared_labels == label].mean(axis=0)
        terms.append(max(float(between @ between) - margin, 0.0))
    return np.mean(terms)


@pytest.mark.parametrize("margin", [0.0, 0.1, 1.2])
def test_equals_the_transcription(margin):
    rng = np.random.default_rng(0)
    visible, infrared = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    # Unequal numbers of examples, and identity 4 without infrared ones.
    visible_labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])
    infrared_labels = np.array([3, 3, 0, 0, 1, 2, 1, 2, 2])
    found = hetero_center(visible, visible_labels, infrared, infrared_labels, margin=margin)
    expected = transcription(visible, visible_labels, infrared, infrared_labels, margin)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_of_parts_it_is_the_mean():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 3, 5)).astype(np.float32)
    labels = np.array([0, 0, 1, 1] * 2)
    examples = Examples({"after_neck": features}, logits=None, labels=labels, num_visible=4, gather=jnp.asarray)
    parts = [transcription(part[:4], labels[:4], part[4:], labels[4:], 0.2) for part in features.swapaxes(0, 1)]
    np.testing.assert_allclose(HeteroCenter(margin=0.2)(examples, {}), np.mean(parts), rtol=1e-5)


def test_equal_centers_cost_nothing_and_pull_nowhere():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(6, 4)).astype(np.float32)
    labels = np.array([0, 0, 1, 1, 2, 2])
    shuffled = np.array([1, 0, 3, 2, 5, 4])
    arguments = (features, labels, features[shuffled], labels)
    loss, gradient = jax.value_and_grad(lambda *a: hetero_center(*a, margin=0.0), allow_int=True)(*arguments)
    np.testing.assert_allclose(loss, 0.0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_no_common_identity_is_no_loss():
    features = jnp.ones((2, 3))
    loss = hetero_center(features, np.array([0, 1]), features, np.array([2, 3]), margin=0.1)
    assert float(loss) == 0.0
