"""The non-local block against PyTorch and against loops, and where a ResNet has such blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.layers import BatchNorm
from jax_mspac.models.nonlocal_block import NonLocalBlock

SHAPE = (3, 4, 2, 6)


def block(train=False, **fields):
    return NonLocalBlock(norm=functools.partial(BatchNorm, train=train), **fields)


def feature_map():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def random_variables():
    """Variables of the block, none of them zero."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: block().init(jax.random.key(0), feature_map()))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape) - 0.3, leaf.dtype), shapes)


def test_starts_as_the_identity_and_can_leave_it():
    x = feature_map()
    variables = block().init(jax.random.key(0), x)
    np.testing.assert_array_equal(block().apply(variables, x), x)
    in_training, _ = block(train=True).apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_array_equal(in_training, x)

    def loss(params):
        out, _ = block(train=True).apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(out * jnp.asarray(np.random.default_rng(2).normal(size=SHAPE), jnp.float32))

    assert np.abs(jax.grad(loss)(variables["params"])["bn"]["scale"]).min() > 1e-3


def test_equals_loops_over_pixels():
    x, variables = feature_map(), random_variables()
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
    params, statistics = exact["params"], exact["batch_stats"]["bn"]
    theta, phi, g = ((x @ params[k]["kernel"] + params[k]["bias"]).reshape(3, 8, 3) for k in ("theta", "phi", "g"))
    y = np.zeros((3, 8, 3))
    for n in range(3):
        for p in range(8):
            for q in range(8):
                y[n, p] += (theta[n, p] @ phi[n, q]) / 8 * g[n, q]
    y = (y @ params["W"]["kernel"]).reshape(SHAPE)
    y = (y - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * params["bn"]["scale"] + params["bn"]["bias"]
    np.testing.assert_allclose(block().apply(variables, x), x + y, rtol=1e-4, atol=1e-4)


def test_training_agrees_with_torch():
    torch = pytest.importorskip("torch")
    x, variables = feature_map(), random_variables()
    params = variables["params"]

    def linear(name):
        layer = torch.nn.Conv2d(*params[name]["kernel"].shape, 1)
        kernel = torch.from_numpy(np.array(params[name]["kernel"]).T[:, :, None, None].copy())
        bias = torch.from_numpy(np.array(params[name]["bias"])) if "bias" in params[name] else layer.bias.data
        layer.load_state_dict({"weight": kernel, "bias": bias})  # a bias before the normalization has no effect
        return layer

    norm = torch.nn.BatchNorm2d(6)
    norm.weight.data, norm.bias.data = (torch.from_numpy(np.array(params["bn"][k])) for k in ("scale", "bias"))
    maps = torch.from_numpy(x).permute(0, 3, 1, 2)
    with torch.no_grad():
        theta, phi, g = (linear(name)(maps).flatten(2) for name in ("theta", "phi", "g"))
        relation = theta.transpose(1, 2) @ phi / 8
        y = (relation @ g.transpose(1, 2)).transpose(1, 2).reshape(3, 3, 4, 2)
        expected = (maps + norm(linear("W")(y))).permute(0, 2, 3, 1)
    found, _ = block(train=True).apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_inner_channels_are_half_or_as_said():
    shapes = [jax.eval_shape(lambda n=n: block(channels=n).init(jax.random.key(0), feature_map())) for n in (0, 1)]
    assert [shape["params"]["theta"]["kernel"].shape for shape in shapes] == [(6, 3), (6, 1)]
    # More channels contain fewer: those that are added are zero.
    few = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(1).uniform(0.2, 1.2, leaf.shape)), shapes[1])

    def padded(few, many):
        return jnp.pad(few, [(0, m - n) for n, m in zip(few.shape, many.shape, strict=True)])

    many = jax.tree.map(padded, few, shapes[0])
    np.testing.assert_allclose(
        block().apply(many, feature_map()), block(channels=1).apply(few, feature_map()), rtol=1e-5
    )


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    low = NonLocalBlock(functools.partial(BatchNorm, train=True), dtype=jnp.bfloat16)
    variables = low.init(jax.random.key(0), jnp.zeros(SHAPE, jnp.bfloat16))
    out, updates = low.apply(variables, jnp.asarray(feature_map(), jnp.bfloat16), mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype("float32")}


def tree(architecture="resnet50", **fields):
    images = {modality: jnp.zeros((1, 32, 16, 3)) for modality in ("visible", "infrared")}
    model = BACKBONES[architecture].build({"width": 8, **fields})
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


@pytest.mark.parametrize(
    ("architecture", "blocks"),
    [
        ("resnet18", {"nonlocal2_1", "nonlocal3_1"}),
        ("resnet34", {"nonlocal2_2", "nonlocal2_3", "nonlocal3_3", "nonlocal3_4", "nonlocal3_5"}),
        ("resnet50", {"nonlocal2_2", "nonlocal2_3", "nonlocal3_3", "nonlocal3_4", "nonlocal3_5"}),
    ],
)
def test_a_resnet_gains_blocks_and_is_unchanged_otherwise(architecture, blocks):
    without, with_blocks = tree(architecture=architecture), tree(architecture=architecture, nonlocal_blocks=True)
    assert without == tree(architecture=architecture, nonlocal_blocks=False)
    gained = with_blocks.keys() - without.keys()
    assert {key.split("'")[5] for key in gained} == blocks and all("['shared']" in key for key in gained)
    assert {key: with_blocks[key] for key in without} == without


def test_blocks_belong_to_the_modality_that_owns_their_layer():
    gained = tree(nonlocal_blocks=True, shared_from=3).keys() - tree(shared_from=3).keys()
    owners = {tuple(key.split("'")[3:6:2]) for key in gained}
    assert {(m, f"nonlocal2_{i}") for m in ("visible", "infrared") for i in (2, 3)} < owners
    assert owners - {("shared", f"nonlocal3_{i}") for i in (3, 4, 5)} == {
        (m, f"nonlocal2_{i}") for m in ("visible", "infrared") for i in (2, 3)
    }


def test_fresh_blocks_leave_the_network_as_it_is(monkeypatch):
    monkeypatch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    rng = np.random.default_rng(0)
    images = {m: jnp.asarray(rng.normal(size=(2, 32, 16, 3)), jnp.float32) for m in ("visible", "infrared")}
    plain, deep = (BACKBONES["shallow"].build({"width": 8, "nonlocal_blocks": blocks}) for blocks in (False, True))
    initial = [jax.jit(lambda m=m: m.init(jax.random.key(0), images, train=False))() for m in (plain, deep)]
    assert initial[1]["params"]["shared"].keys() - initial[0]["params"]["shared"].keys() == {
        "nonlocal2_0",
        "nonlocal3_0",
    }
    outputs = [
        jax.jit(lambda v, m=m: m.apply(v, images, train=False))(v) for m, v in zip((plain, deep), initial, strict=True)
    ]
    assert np.abs(outputs[0]).max() > 0.1
    np.testing.assert_array_equal(outputs[0], outputs[1])
