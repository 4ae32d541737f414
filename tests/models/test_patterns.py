"""MPANet's layers against numpy, and what they are in a network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.heads import ModalityClassifiers
from jax_mspac.models.patterns import ModalityAlleviation, PatternMasks

MAPS = np.random.default_rng(0).normal(1.0, 2.0, size=(2, 4, 3, 32)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_alleviation_is_between_a_channel_and_its_normalized_form():
    module = ModalityAlleviation()
    variables = module.init(jax.random.key(0), MAPS)
    params = variables["params"]
    assert params["squeeze"]["kernel"].shape == (32, 2)
    mean, deviation = MAPS.mean(axis=(1, 2)), MAPS.std(axis=(1, 2))
    gate = sigmoid(np.maximum(mean @ params["squeeze"]["kernel"], 0) @ params["excite"]["kernel"])[:, None, None]
    normalized = (MAPS - mean[:, None, None]) / np.sqrt(deviation[:, None, None] ** 2 + 1e-5)
    found = module.apply(variables, MAPS)
    np.testing.assert_allclose(found, gate * MAPS + (1 - gate) * normalized, atol=1e-5)
    assert gate.min() < 0.4 and gate.max() > 0.6
    half = module.apply(variables, jnp.asarray(MAPS, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(half), found, atol=0.1)


def test_parts_are_means_of_masked_maps():
    module = PatternMasks(3)
    variables = module.init(jax.random.key(0), MAPS)
    kernel = np.asarray(variables["params"]["masks"]["kernel"])
    assert not np.any(variables["params"]["masks"]["bias"])
    parts, masks = module.apply(variables, MAPS)
    expected = sigmoid(MAPS @ kernel)
    np.testing.assert_allclose(masks, expected.reshape(2, 12, 3).transpose(0, 2, 1), rtol=1e-5)
    for k in range(3):
        np.testing.assert_allclose(parts[:, k], (expected[..., k : k + 1] * MAPS).mean(axis=(1, 2)), atol=1e-5)


def test_masked_parts_and_the_pooled_feature_are_one_embedding(monkeypatch):
    monkeypatch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    model = Embedder(backbone="shallow", width=4, shared_from=0, parts=(), pattern_masks=2, modality_alleviation=2)
    x = {"visible": np.zeros((2, 32, 32, 3), np.float32), "infrared": np.ones((1, 32, 32, 3), np.float32)}
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    assert shapes["params"]["neck"]["scale"].shape == (3 * 32,)
    assert {"alleviation3", "alleviation4"} <= shapes["params"]["backbone"]["shared"].keys()
    inferred = jax.eval_shape(functools.partial(model.apply, train=False), shapes, x)
    trained, _ = jax.eval_shape(functools.partial(model.apply, train=True, mutable=["batch_stats"]), shapes, x)
    assert {name: feature.shape for name, feature in inferred.items()} == dict.fromkeys(
        ("before_neck", "after_neck"), (3, 1, 96)
    )
    assert trained.keys() - inferred.keys() == {"masks"} and trained["masks"].shape == (3, 2, 4)
    striped = Embedder(backbone="shallow", parts=(), stripes=2, pattern_masks=1)
    assert [problem.field for problem in striped.misfits(64)] == ["pattern_masks"]


@pytest.mark.parametrize("crossed", [False, True])
def test_each_modality_has_a_classifier(crossed):
    heads = ModalityClassifiers(num_classes=5)
    features = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    variables = heads.init(jax.random.key(0), features, 3)
    kernels = [variables["params"][name] for name in ("visible", "infrared")]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    first, second = kernels[::-1] if crossed else kernels
    found = heads.apply(variables, features, 3, crossed=crossed)
    np.testing.assert_allclose(found, np.concatenate([features[:3] @ first, features[3:] @ second]), rtol=1e-5)
