"""MPANet's losses by hand, and for any finite input; its numbers are in test_original_numbers.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.losses.center_cluster import center_cluster
from jax_mspac.losses.separation import separation
from jax_mspac.methods.mpanet import divergence


def test_center_cluster_by_hand():
    # Centers (0, 0), (0.3, 0) and (0, 0.5); identity 1 has one example, which is its center.
    features = np.float32([[-0.2, 0], [0.2, 0], [0.3, 0], [0, 0.4], [0, 0.6]])
    labels = np.array([4, 4, 1, 2, 2])
    to_center = (0.2 + 0.2 + 0 + 0.1 + 0.1) / 5
    # Another identity counts by its examples.
    near = [((0.7 - 0.3) + 2 * (0.7 - 0.5)) / 3, (2 * 0.4 + 2 * (0.7 - np.sqrt(0.34))) / 4]
    near.append((2 * 0.2 + (0.7 - np.sqrt(0.34))) / 3)
    np.testing.assert_allclose(center_cluster(features, labels), to_center + np.mean(near), rtol=1e-5)
    np.testing.assert_allclose(center_cluster(features, labels, margin=0.1), to_center, rtol=1e-5)
    np.testing.assert_allclose(center_cluster(features[:2], labels[:2]), 0.2, rtol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e6, 1e30, 3e38])
def test_center_cluster_is_finite(size):
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(6, 5))
    features, labels = np.float32(signs * size), np.array([0, 0, 1, 1, 2, 2])
    value, gradient = jax.jit(jax.value_and_grad(center_cluster))(features, labels)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not np.isfinite(center_cluster(np.where(signs > 0, np.nan, features), labels))


def test_separation_is_the_mean_product_of_two_masks():
    masks = np.zeros((2, 3, 4), np.float32)
    masks[0, 0, :2], masks[0, 1, 1:], masks[0, 2] = 0.5, 1.0, 0.25
    # Image 0: 0.5 + 0.25 + 0.75; image 1 has empty masks.
    np.testing.assert_allclose(separation(masks), 1.5 / (2 * 3), rtol=1e-6)
    np.testing.assert_array_equal(separation(masks[:, :1]), 0)


def test_divergence_is_kullback_and_leibler_s_and_moves_the_own_logits_alone():
    own, copied = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (own, copied))
    np.testing.assert_allclose(divergence(own, copied), np.mean(np.sum(p * np.log(p / q), axis=1)), rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(divergence, argnums=1)(own, copied), 0)
    assert np.abs(jax.grad(divergence)(own, copied)).max() > 1e-3
    huge = jnp.full((1, 3), 3e38).at[0, 0].set(-3e38)
    value, gradient = jax.value_and_grad(divergence)(huge, -huge)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_masks_are_what_separation_needs():
    config = config_lib.default_config()
    config.loss.separation.weight = 0.5
    with pytest.raises(UserError, match=r"separation\.weight is 0\.5; .* because without model\.pattern_masks"):
        methods.build(config, num_identities=4)
