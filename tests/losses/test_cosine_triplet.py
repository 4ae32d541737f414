"""The triplet loss of cosines against loops over anchors, and its finiteness."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.losses.cosine_triplet import cosine_triplet

LABELS, OTHERS = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0, 3])


def features(rows, seed):
    return np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)


def test_it_is_the_hardest_positive_and_negative_of_each_anchor():
    x, y = features(4, 0), features(5, 1)
    terms = []
    for anchor, label in zip(x, LABELS, strict=True):
        cosines = y @ anchor / np.linalg.norm(y, axis=1) / np.linalg.norm(anchor)
        same = label == OTHERS
        # The last anchor has no positive.
        terms.append(max(0.7 + cosines[~same].max() - cosines[same].min(), 0) if same.any() else 0.0)
    assert min(terms[:3]) > 0
    np.testing.assert_allclose(cosine_triplet(x, LABELS, y, OTHERS, margin=0.7), np.mean(terms), rtol=1e-5)
    # Lengths do not matter, and an anchor that needs nothing adds nothing.
    np.testing.assert_allclose(cosine_triplet(3 * x, LABELS, y / 5, OTHERS, margin=0.7), np.mean(terms), rtol=1e-5)
    assert float(cosine_triplet(jnp.eye(2), jnp.arange(2), jnp.eye(2), jnp.arange(2), margin=0.9)) == 0.0


def test_it_is_finite_for_any_features_and_shows_those_that_are_not():
    for size in (0.0, 1e-42, 1.0, 3.3e38):
        x = np.full((4, 6), size, np.float32)
        value, gradient = jax.value_and_grad(cosine_triplet)(x, LABELS, x[:3], OTHERS[:3])
        assert np.isfinite(value) and np.isfinite(gradient).all()
    x[1, 2] = np.nan
    assert not np.isfinite(cosine_triplet(x, LABELS, features(5, 1), OTHERS))
