import jax
import numpy as np
import pytest

from jax_mspac.losses import Examples, identity


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_value_and_gradient_match_torch(label_smoothing):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(6, 9)).astype(np.float32), rng.integers(0, 9, 6)
    value, gradient = jax.value_and_grad(identity.cross_entropy)(logits, labels, label_smoothing=label_smoothing)

    reference = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(reference, torch.tensor(labels), label_smoothing=label_smoothing)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, reference.grad.numpy(), atol=1e-6)


def test_equal_logits_cost_log_of_the_number_of_classes():
    np.testing.assert_allclose(identity.cross_entropy(np.full((4, 395), 7.0), np.arange(4)), np.log(395), rtol=1e-6)


@pytest.mark.parametrize("global_part", [False, True])
def test_parts_are_averaged_and_the_whole_map_counts_by_itself(global_part):
    logits = np.random.default_rng(2).normal(size=(5, 3, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 1, 2])
    examples = Examples({}, logits, labels, 2, np.asarray, global_part=global_part)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    one, two, three = -np.log(shares[np.arange(5), :, labels]).mean(axis=0)
    expected = (one + two) / 2 + three if global_part else (one + two + three) / 3
    np.testing.assert_allclose(identity.Identity()(examples), expected, rtol=1e-5)


def test_a_label_that_is_no_class_is_seen():
    assert np.isnan(identity.cross_entropy(np.zeros((2, 3), np.float32), np.array([0, 3])))


def test_mixed_parts_are_one_loss_of_the_mean_probability():
    logits = np.random.default_rng(3).normal(size=(5, 2, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 1, 2])
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    mean = shares[np.arange(5), :, labels].mean(axis=1)
    examples = Examples({}, logits, labels, 2, np.asarray)
    np.testing.assert_allclose(identity.Identity(identity_parts="mixed")(examples), -np.log(mean).mean(), rtol=1e-5)
    huge = jax.numpy.full((1, 2, 3), 3e38).at[0, 0, 0].set(-3e38)
    loss = jax.value_and_grad(
        lambda x: identity.Identity(identity_parts="mixed")(Examples({}, x, np.array([0]), 1, id))
    )
    value, gradient = loss(huge)
    assert np.isfinite(value) and np.isfinite(gradient).all()
