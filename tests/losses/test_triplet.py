import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses import Examples, triplet

LOSSES = {
    "hard": functools.partial(triplet.batch_hard, margin=0.3),
    "soft": functools.partial(triplet.batch_hard, margin=None),
    "weighted": triplet.weighted_regularized,
    "squared": functools.partial(triplet.weighted_regularized, squared=True),
}


def _example(identities=4, images=4, size=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(identities * images, size)).astype(np.float32), np.repeat(np.arange(identities), images)


def _reference(name, features, labels):
    """Loops over anchors in float64."""
    features, total = features.astype(np.float64), 0.0
    for a, label in zip(features, labels, strict=True):
        distance = np.sqrt(np.sum((a - features) ** 2, axis=1))
        positive, negative = distance[labels == label], distance[labels != label]
        if name in ("weighted", "squared"):
            w, v = np.exp(positive) / np.exp(positive).sum(), np.exp(-negative) / np.exp(-negative).sum()
            difference = w @ positive - v @ negative
            total += np.log1p(np.exp(difference if name == "weighted" else np.sign(difference) * difference**2))
        else:
            difference = positive.max() - negative.min()
            total += max(difference + 0.3, 0.0) if name == "hard" else np.log1p(np.exp(difference))
    return total / len(features)


@pytest.mark.parametrize("name", LOSSES)
def test_value_matches_loops(name):
    features, labels = _example()
    # Rounding in the distance of an anchor to itself is about 1e-3; it enters the weighted losses only.
    rtol = 1e-3 if name in ("weighted", "squared") else 1e-5
    np.testing.assert_allclose(LOSSES[name](features, labels), _reference(name, features, labels), rtol=rtol)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_matches_central_differences(name):
    features, labels = _example(images=2)
    direction = np.random.default_rng(1).normal(size=features.shape)
    step = 1e-5
    slope = [_reference(name, features + sign * step * direction, labels) for sign in (1, -1)]
    gradient = jax.jit(jax.grad(LOSSES[name]))(features, labels)
    np.testing.assert_allclose(np.sum(gradient * direction), (slope[0] - slope[1]) / (2 * step), rtol=2e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_devices_is_the_loss_of_the_whole_batch(name):
    images, labels = _example()
    weights = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)

    def whole(weights):
        return LOSSES[name](jnp.tanh(images @ weights), labels)

    def step(weights, images, labels):
        def local(weights):
            features = jnp.tanh(images @ weights)
            gathered = jax.lax.all_gather((features, labels), "devices", tiled=True)
            return LOSSES[name](features, labels, *gathered)

        return jax.lax.pmean(jax.value_and_grad(local)(weights), "devices")

    shards = images.reshape(4, 4, 6), labels.reshape(4, 4)
    value, gradient = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0), out_axes=None)(weights, *shards)
    expected, expected_gradient = jax.jit(jax.value_and_grad(whole))(weights)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_one_identity_costs_nothing(name):
    features, _ = _example()
    value, gradient = jax.jit(jax.value_and_grad(LOSSES[name]))(features, np.zeros(len(features), int))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(features))


def test_an_anchor_without_a_negative_counts_as_zero_in_the_mean():
    # Anchor 0 has no negative among the candidates; anchor 1 is at distance 3 from one and has no positive.
    anchors, labels = np.array([[0.0], [1.0]], np.float32), np.array([0, 1])
    candidates, candidate_labels = np.array([[4.0]], np.float32), np.array([0])
    np.testing.assert_allclose(LOSSES["soft"](anchors, labels, candidates, candidate_labels), np.log1p(np.exp(-3)) / 2)
    loss = triplet.batch_hard(anchors, labels, candidates, candidate_labels, margin=3.5)
    np.testing.assert_allclose(loss, 0.25)
    weighted = LOSSES["weighted"](anchors, labels, candidates, candidate_labels)
    np.testing.assert_allclose(weighted, np.log1p(np.exp(-3)) / 2)


def test_the_squared_difference_keeps_its_sign():
    anchor, label, labels = np.zeros((1, 1), np.float32), np.array([0]), np.array([0, 1])
    for positive, negative, difference in ((3.0, 1.0, 4.0), (1.0, 3.0, -4.0)):
        loss = LOSSES["squared"](anchor, label, np.array([[positive], [negative]], np.float32), labels)
        np.testing.assert_allclose(loss, np.log1p(np.exp(difference)), rtol=1e-5)


def test_the_squared_difference_gets_no_steeper_than_it_may():
    label, labels = np.array([0]), np.array([0, 1])

    @jax.jit
    @jax.value_and_grad
    def loss(positive):
        candidates = jnp.stack([positive, jnp.ones(())])[:, None]
        return triplet.weighted_regularized(jnp.zeros((1, 1)), label, candidates, labels, squared=True, steepest=3.0)

    # Positive and negative at distances d and 1: D = d - 1. D^2 up to D = 1.5, 3 D - 2.25 beyond, -D^2 below zero.
    for distance, difference, slope in ((2.0, 1.0, 2.0), (2.5, 2.25, 3.0), (41.0, 117.75, 3.0), (0.25, -0.5625, 1.5)):
        value, gradient = loss(distance)
        np.testing.assert_allclose(value, np.log1p(np.exp(difference)), rtol=1e-5)
        np.testing.assert_allclose(gradient, slope / (1 + np.exp(-difference)), rtol=1e-5)


def test_an_anchor_without_another_positive_still_pushes_its_negatives():
    features, labels = jnp.array([[0.0], [0.5]]), jnp.array([0, 1])
    loss = functools.partial(triplet.batch_hard, margin=1.0)
    value, gradient = jax.jit(jax.value_and_grad(loss))(features, labels)
    np.testing.assert_allclose(value, 0.5)
    np.testing.assert_allclose(gradient, [[1.0], [-1.0]])


def test_separated_identities_cost_nothing_beyond_the_margin():
    features = np.array([[0.0], [0.1], [5.0], [5.2]], np.float32)
    assert LOSSES["hard"](features, np.array([0, 0, 1, 1])) == 0


@pytest.mark.parametrize("global_part", [False, True])
def test_parts_have_losses_of_their_own(global_part):
    features, labels = _example()
    parts = np.stack([features, 2 * features[:, ::-1], features**2], axis=1)
    examples = Examples({"before_neck": parts}, None, labels, 2, jnp.asarray, global_part=global_part)
    one, two, three = (float(triplet.batch_hard(parts[:, part], labels, margin=0.3)) for part in range(3))
    expected = (one + two) / 2 + three if global_part else (one + two + three) / 3
    np.testing.assert_allclose(triplet.BatchHard(parts="alone")(examples, {}), expected, rtol=1e-5)
    each = triplet.batch_hard(parts.reshape(-1, parts.shape[-1]), np.repeat(labels, 3), margin=0.3)
    np.testing.assert_allclose(triplet.BatchHard(parts="examples")(examples, {}), each, rtol=1e-5)
    whole = triplet.batch_hard(parts.reshape(len(parts), -1), labels, margin=0.3)
    np.testing.assert_allclose(triplet.BatchHard()(examples, {}), whole, rtol=1e-5)


def test_candidates_need_labels():
    features, labels = _example()
    with pytest.raises(ValueError, match="give both or neither"):
        triplet.weighted_regularized(features, labels, features)
