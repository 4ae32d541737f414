"""DEEN's layers against sums over pixels and channels in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.heads import Heads
from jax_mspac.models.layers import BatchNorm
from jax_mspac.models.multi_scale import ChannelAttention, DiverseEmbeddings, MultiScaleAttention, PixelAttention

HIGH, LOW = 6, 4
NORM = functools.partial(BatchNorm, train=False)


def maps(scale, height=4, width=2):
    rng = np.random.default_rng(scale)
    high = rng.normal(size=(2, height, width, HIGH))
    return high.astype(np.float32), rng.normal(size=(2, scale * height, scale * width, LOW)).astype(np.float32)


def drawn(module, *inputs):
    """Variables with values of their own everywhere, the closing scales included."""
    rng = np.random.default_rng(5)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))
    return jax.tree.map(lambda leaf: np.float32(rng.uniform(0.2, 1.0, leaf.shape)), shapes)


def mapped(params, name, x):
    return x.reshape(len(x), -1, x.shape[-1]).astype(np.float64) @ params[name]["kernel"] + params[name]["bias"]


def closed(variables, y, high):
    params, norm = variables["params"], variables["batch_stats"]["bn"]
    y = (y @ params["W"]["kernel"] - norm["mean"]) / np.sqrt(norm["var"] + 1e-5)
    return high + (y * params["bn"]["scale"] + params["bn"]["bias"]).reshape(high.shape)


@pytest.mark.parametrize("scale", [1, 2])
def test_channels_look_at_channels_of_the_pixels_that_both_maps_have(scale):
    high, low = maps(scale)
    module = ChannelAttention(NORM)
    variables = drawn(module, high, low)
    common = low[:, ::scale, ::scale]
    theta = mapped(variables["params"], "theta", high)
    phi, g = (mapped(variables["params"], name, common) for name in ("phi", "g"))
    y = np.zeros_like(g)
    for c in range(LOW):
        for other in range(LOW):
            affinity = np.sum(theta[:, :, c] * phi[:, :, other], axis=1) / LOW
            y[:, :, c] += affinity[:, None] * g[:, :, other]
    np.testing.assert_allclose(module.apply(variables, high, low), closed(variables, y, high), rtol=1e-4)


@pytest.mark.parametrize(("height", "width", "halves"), [(4, 2, 2), (3, 3, 1)])
def test_pairs_of_pixels_look_at_pairs(height, width, halves):
    high, low = maps(1, height, width)
    module = PixelAttention(NORM)
    variables = drawn(module, high, low)
    theta = mapped(variables["params"], "theta", high)
    phi, g = (mapped(variables["params"], name, low) for name in ("phi", "g"))
    pairs = height * width // halves
    y = np.zeros_like(g)
    for p in range(pairs):
        for q in range(pairs):
            affinity = sum(
                np.sum(theta[:, p + half * pairs] * phi[:, q + half * pairs], axis=1) for half in range(halves)
            )
            for half in range(halves):
                y[:, p + half * pairs] += affinity[:, None] / pairs * g[:, q + half * pairs]
    np.testing.assert_allclose(module.apply(variables, high, low), closed(variables, y, high), rtol=1e-4)


def test_attention_starts_as_the_identity():
    high, low = maps(2)
    module = MultiScaleAttention(NORM)
    variables = module.init(jax.random.key(0), high, low)
    np.testing.assert_array_equal(module.apply(variables, high, low), high)
    assert not np.allclose(module.apply(drawn(module, high, low), high, low), high)


def test_embeddings_of_an_image_follow_each_other_and_see_three_distances():
    x = np.zeros((2, 9, 9, 4), np.float32)
    x[1, 4, 4, 0] = 1
    module = DiverseEmbeddings()
    variables = jax.tree.map(jnp.ones_like, module.init(jax.random.key(0), x))
    y = np.asarray(module.apply(variables, x)).reshape(2, 3, 9, 9, 4)
    np.testing.assert_array_equal(y[:, 0], x)
    np.testing.assert_array_equal(y[0, 1:], 1)  # the bias of the last layer alone
    # An impulse is seen from 0, 1, 2 and 3 pixels away in eight directions; at 0 by all three convolutions.
    seen = np.zeros((9, 9))
    for distance in (1, 2, 3):
        seen[4 - distance : 5 + distance : distance, 4 - distance : 5 + distance : distance] += 1 / 3
    np.testing.assert_allclose(y[1, 1:], np.broadcast_to(1 + seen[..., None], (2, 9, 9, 4)), atol=1e-6)


def test_embeddings_share_a_neck(monkeypatch):
    monkeypatch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    model = Embedder(backbone="shallow", width=4, parts=(), multi_scale=True, diverse_embeddings=True)
    x = {"visible": np.zeros((2, 32, 32, 3), np.float32), "infrared": np.ones((1, 32, 32, 3), np.float32)}
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    assert shapes["params"]["neck"]["scale"].shape == (32,)
    features = jax.eval_shape(functools.partial(model.apply, train=False), shapes, x)
    assert features["before_neck"].shape == features["after_neck"].shape == (3, 3, 32)
    striped = Embedder(backbone="shallow", parts=(), stripes=2, diverse_embeddings=True)
    assert [problem.field for problem in striped.misfits(64)] == ["diverse_embeddings"]


def test_embeddings_share_a_classifier():
    heads = Heads(num_classes=5, shared=True, use_bias=True)
    features = jnp.ones((2, 3, 4))
    params = heads.init(jax.random.key(0), features)["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {"classifier": (1, 4, 5), "classifier_bias": (1, 5)}
    logits = heads.apply({"params": params}, features)
    np.testing.assert_allclose(logits, np.broadcast_to(params["classifier"].sum(axis=1)[:, None], (2, 3, 5)), rtol=1e-5)
