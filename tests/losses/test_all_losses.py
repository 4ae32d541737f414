"""Every loss, for any finite input: finite value, finite gradient; and non-finite input is never hidden."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses import identity, triplet
from jax_mspac.losses.discriminative_center import discriminative_center
from jax_mspac.losses.mecen import mecen
from jax_mspac.losses.modality_shared import modality_shared

CLASSES, SIZE = 4, 8


def _mecen(**kwargs):
    def loss(x, labels):
        return mecen(x, x[:CLASSES] if len(x) >= CLASSES else jnp.tile(x[:1], (CLASSES, 1)), labels, **kwargs)

    return loss


def _modality_shared(x, labels):
    # An image without another of its person in both modalities does not count.
    return modality_shared(jnp.concatenate([x, x / 2]), jnp.tile(labels, 2), x[::-1], labels[::-1])


LOSSES = {
    "cross_entropy": functools.partial(identity.cross_entropy, label_smoothing=0.1),
    "per_sample": _mecen(margin=0.3),
    "mean": _mecen(margin=0.3, reduction="mean"),
    "sum": _mecen(margin=0.3, reduction="sum"),
    "sum without normalization": _mecen(margin=0.3, reduction="sum", normalize=False),
    "center": _mecen(margin=0.0, reduction="sum", use_margin=False, use_exp=False),
    "hard": functools.partial(triplet.batch_hard, margin=0.3),
    "soft": functools.partial(triplet.batch_hard, margin=None),
    "weighted": triplet.weighted_regularized,
    "modality-shared": _modality_shared,
    "discriminative center": discriminative_center,
    "squared": functools.partial(triplet.weighted_regularized, squared=True),
}


def _features(n):
    rng = np.random.default_rng(n)
    signs = rng.choice([-1.0, 1.0], size=(n, SIZE))
    yield "normal", rng.normal(size=(n, SIZE))
    yield "zero", np.zeros((n, SIZE))
    yield "identical", np.tile(rng.normal(size=(1, SIZE)), (n, 1))
    yield "one zero row", rng.normal(size=(n, SIZE)) * (np.arange(n) > 0)[:, None]
    yield "constant", np.full((n, SIZE), 1e30)
    yield "mixed", signs * 10.0 ** rng.uniform(-37, 37, size=(n, SIZE))
    for size in (1e-42, 1e-37, 1e-30, 1e-15, 1e6, 1e15, 1e30, 3.3e38):
        yield f"{size}", signs * size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [1, 512])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_finite(name, n, dtype):
    value_and_grad = jax.jit(jax.value_and_grad(LOSSES[name]))
    for kind, features in _features(n):
        for labels in (np.arange(n) % CLASSES, np.zeros(n, int)):
            value, gradient = value_and_grad(jnp.asarray(features, dtype), labels)
            assert value.dtype == jnp.float32
            assert np.isfinite(value) and value >= 0, (kind, value)
            assert np.all(np.isfinite(gradient.astype(jnp.float32))), (kind, labels[-1])


# A logit of -inf is legitimate: a class of probability zero.
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("name", LOSSES)
def test_non_finite_features_are_seen(name, bad):
    features = np.random.default_rng(0).normal(size=(6, SIZE)).astype(np.float32)
    features[2, 0] = bad
    assert not np.isfinite(jax.jit(LOSSES[name])(features, np.arange(6) % CLASSES))
