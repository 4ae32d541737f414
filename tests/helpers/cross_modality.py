"""What the tests of the losses between modalities share: a batch, and the same loss on four devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64."""
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def uneven_batch(size: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Visible and infrared features and labels: unequal numbers, identity 4 visible only, identity 5 infrared only."""
    rng = np.random.default_rng(0)
    visible_labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])
    infrared_labels = np.array([3, 3, 0, 0, 1, 2, 1, 2, 5])
    centers = rng.normal(size=(6, size))
    visible, infrared = (
        (centers[labels] + 0.7 * rng.normal(size=(len(labels), size))).astype(np.float32)
        for labels in (visible_labels, infrared_labels)
    )
    return visible, visible_labels, infrared, infrared_labels


def assert_gradient_matches_central_differences(loss: Callable, transcription: Callable) -> None:
    """Slopes of the loss in a random direction of both modalities against those of its float64 transcription."""
    visible, visible_labels, infrared, infrared_labels = uneven_batch()
    rng = np.random.default_rng(1)
    directions = rng.normal(size=visible.shape), rng.normal(size=infrared.shape)
    step = 1e-6
    values = [
        transcription(
            visible + sign * step * directions[0],
            visible_labels,
            infrared + sign * step * directions[1],
            infrared_labels,
        )
        for sign in (1, -1)
    ]
    gradients = jax.jit(jax.grad(loss, argnums=(0, 2)))(visible, visible_labels, infrared, infrared_labels)
    slope = sum(np.sum(np.asarray(g, np.float64) * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(slope, (values[0] - values[1]) / (2 * step), rtol=2e-3)


def assert_four_devices_equal_one(loss: Callable) -> None:
    """Each device embeds its share, gathers both modalities and takes the loss of all; the mean over devices."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(2, 8, 6)).astype(np.float32)
    labels = np.array([[0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 1, 2, 3, 3, 3]])
    weights = rng.normal(size=(6, 5)).astype(np.float32)

    def whole(weights):
        features = jnp.tanh(images @ weights)
        return loss(features[0], labels[0], features[1], labels[1])

    def step(weights, images, labels):
        def local(weights):
            features = jnp.tanh(images @ weights)
            sides = features[0], labels[0], features[1], labels[1]
            return loss(*(jax.lax.all_gather(side, "devices", tiled=True) for side in sides))

        return jax.lax.pmean(jax.value_and_grad(local)(weights), "devices")

    shards = images.reshape(2, 4, 2, 6).swapaxes(0, 1), labels.reshape(2, 4, 2).swapaxes(0, 1)
    value, gradient = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0), out_axes=None)(weights, *shards)
    expected, expected_gradient = jax.jit(jax.value_and_grad(whole))(weights)
    assert expected > 0.01
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-5)


def assert_finite_for_any_batch(loss: Callable) -> None:
    """Finite value and gradient for equal, huge, tiny and zero features, with and without partners; NaN is seen."""
    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 2)))
    rng = np.random.default_rng(3)
    normal = rng.normal(size=(8, 6))
    signs = np.sign(normal)
    features = [normal, np.zeros((8, 6)), np.ones((8, 6)), normal * (np.arange(8) > 0)[:, None]]
    features += [size * signs for size in (1e-42, 1e-30, 1e-15, 1e6, 1e15, 3.3e38)]
    own = np.array([0, 0, 1, 1])
    for other in (own, own[::-1], own + 2, np.zeros(4, int), np.array([0, 0, 0, 5])):
        for x in features:
            for dtype in (jnp.float32, jnp.bfloat16):
                visible, infrared = jnp.asarray(x[:4], dtype), jnp.asarray(x[4:], dtype)
                value, gradients = value_and_grad(visible, own, infrared, other)
                assert value.dtype == jnp.float32
                assert np.isfinite(value) and value >= 0, (x, other)
                assert all(np.isfinite(np.asarray(g, np.float32)).all() for g in gradients), (x, other)
    for bad in (np.nan, np.inf):
        broken = normal.astype(np.float32)
        broken[5, 2] = bad
        assert not np.isfinite(loss(broken[:4], own, broken[4:], own))
