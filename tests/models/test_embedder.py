"""The embedder as a whole, its pooling and neck, and the heads on top."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.losses.mecen import Mecen
from jax_mspac.models import pooling, resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder, flatten_parts
from jax_mspac.models.heads import Heads
from jax_mspac.models.pooling import GeneralizedMeanPool, average_pool, split_stripes
from jax_mspac.settings import SettingsError

TINY = functools.partial(Embedder, backbone="shallow", width=8, parts=())


@pytest.fixture(autouse=True, scope="module")
def shallow():
    """A backbone of every kind of stage that compiles fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
        yield


def images(n=4):
    rng = np.random.default_rng(7)
    return {m: jnp.asarray(rng.normal(size=(n, 48, 24, 3)), jnp.float32) for m in ("visible", "infrared")}


def filled(model, x):
    """Variables of the model: random kernels, normalization that does nothing. Far faster than to compile `init`."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        if leaf.ndim > 1:
            return jnp.asarray(rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.dtype)
        return jnp.full(leaf.shape, 0 if path[-1].key in ("mean", "bias") else 1, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def test_average_pool_is_the_mean():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), x.mean(axis=(1, 2)), atol=1e-6)
    assert average_pool(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.float32


def test_a_global_part_follows_the_stripes_with_a_neck_of_its_own():
    x, stripes = images(), TINY(stripes=3)
    both = TINY(stripes=3, global_part=True)
    variables = filled(both, x)
    neck = variables["params"]["neck"]["scale"].reshape(4, -1)
    found = both.apply(variables, x, train=False)
    assert found["before_neck"].shape == (8, 4, neck.shape[1])
    np.testing.assert_allclose(found["before_neck"][:, 3], found["before_neck"][:, :3].mean(axis=1), rtol=1e-5)
    alone = stripes.apply(filled(stripes, x), x, train=False)
    np.testing.assert_allclose(found["before_neck"][:, :3], alone["before_neck"], rtol=1e-6)
    doubled = variables["params"] | {"neck": {"scale": neck.at[3].mul(2).reshape(-1)}}
    changed = both.apply({**variables, "params": doubled}, x, train=False)["after_neck"]
    factors = np.array([1.0, 1.0, 1.0, 2.0]).reshape(1, 4, 1)
    np.testing.assert_allclose(changed, factors * found["after_neck"], rtol=1e-5)


@pytest.mark.parametrize("p", [1.0, 3.0, 6.5])
def test_gem_agrees_with_numpy(p):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = ((np.maximum(x.astype(np.float64), 0) ** p).mean(axis=(1, 2)) + 1e-12) ** (1 / p)
    model = GeneralizedMeanPool()
    assert model.init(jax.random.key(0), jnp.asarray(x)) == {"params": {"p": 3.0}}
    np.testing.assert_allclose(model.apply({"params": {"p": jnp.float32(p)}}, jnp.asarray(x)), expected, rtol=1e-4)
    fixed = GeneralizedMeanPool(p, learned=False)
    assert fixed.init(jax.random.key(0), jnp.asarray(x)) == {}
    np.testing.assert_allclose(fixed.apply({}, jnp.asarray(x)), expected, rtol=1e-4)


@pytest.mark.parametrize("p", [pooling.LEAST, 3, pooling.MOST])
@pytest.mark.parametrize("size", [0, 1e-3, 1, 1e5])
def test_gem_and_its_gradients_are_finite_for_dead_and_for_large_channels(p, size):
    loss = jax.value_and_grad(lambda p, x: GeneralizedMeanPool().apply({"params": {"p": p}}, x).sum(), argnums=(0, 1))
    x = size * np.random.default_rng(0).uniform(size=(1, 3, 4, 5)).astype(np.float32)
    value, gradients = loss(jnp.float32(p), jnp.asarray(x))
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)
    if size >= 1:
        # A p-norm is homogeneous: Euler's theorem.
        np.testing.assert_allclose(np.sum(gradients[1] * x), value, rtol=1e-4)


def test_stripes_are_consecutive_rows():
    x = jnp.arange(2 * 6 * 2 * 3.0).reshape(2, 6, 2, 3)
    stripes = split_stripes(x, 3)
    for i in range(3):
        np.testing.assert_array_equal(stripes[:, i], x[:, 2 * i : 2 * i + 2])


@pytest.mark.parametrize(("stripes", "embedding_dim"), [(0, 0), (3, 0), (3, 5)])
def test_features_are_pooled_stripes_of_the_backbone_in_layers_of_their_own(stripes, embedding_dim):
    model = TINY(stripes=stripes, embedding_dim=embedding_dim)
    variables = filled(model, images())
    out = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images())
    backbone = {c: variables[c]["backbone"] for c in variables}
    maps = jax.jit(lambda v, x: BACKBONES["shallow"].build({"width": 8}).apply(v, x, train=False))(backbone, images())
    assert maps.shape == (8, 3, 2, 64)
    expected = np.asarray(maps.mean(axis=2) if stripes else maps.mean(axis=(1, 2))[:, None])
    if embedding_dim:
        kernels = [variables["params"][f"embedding_{i}"]["kernel"] for i in range(3)]
        expected = np.stack([expected[:, i] @ kernels[i] for i in range(3)], axis=1)
    np.testing.assert_allclose(out["before_neck"], expected, atol=1e-5)
    # A fresh neck in inference divides by sqrt(1 + epsilon) alone.
    np.testing.assert_allclose(out["after_neck"], expected / np.sqrt(1 + 1e-5), atol=1e-5)
    np.testing.assert_array_equal(
        flatten_parts(out["before_neck"]), np.concatenate(list(out["before_neck"].swapaxes(0, 1)), 1)
    )


def test_neck_normalizes_each_feature_of_each_stripe_without_bias():
    model = TINY(stripes=3, embedding_dim=5)
    variables = filled(model, images())
    assert variables["params"]["neck"].keys() == {"scale"}
    assert [variables["params"][f"embedding_{i}"]["kernel"].shape for i in range(3)] == [(64, 5)] * 3
    scaled = jax.tree.map(lambda leaf: leaf, variables)
    scaled["params"]["neck"]["scale"] = jnp.arange(1, 16.0)
    out, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(scaled, images())
    after = np.asarray(out["after_neck"])
    assert after.shape == (8, 3, 5) and after.dtype == np.float32
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(after.std(axis=0), np.arange(1, 16).reshape(3, 5), rtol=1e-3)
    before = np.asarray(out["before_neck"]).reshape(8, 15)
    np.testing.assert_allclose(updates["batch_stats"]["neck"]["mean"], 0.1 * before.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["neck"]["var"], 0.9 + 0.1 * before.var(axis=0), atol=1e-6)


def test_a_neck_may_have_a_bias_and_a_relu():
    features = {}
    for neck in ("bnneck", "affine", "relu"):
        model = TINY(neck=neck)
        variables = filled(model, images())
        if neck != "bnneck":
            variables["params"]["neck"]["bias"] -= 0.5
        features[neck] = np.asarray(
            jax.jit(lambda v, model=model: model.apply(v, images(), train=False))(variables)["after_neck"]
        )
    np.testing.assert_allclose(features["affine"], features["bnneck"] - 0.5, atol=1e-6)
    np.testing.assert_array_equal(features["relu"], np.maximum(features["affine"], 0))
    assert 0.1 < np.mean(features["relu"] == 0) < 0.9


def test_cascade_and_gem_are_part_of_the_network():
    model = TINY(parts=(3, 1), pooling="gem", attention_kernel=3)
    variables = filled(model, images())
    names = {"backbone", "attention", "pooling", "neck"}
    assert variables["params"].keys() == names and variables["params"]["attention"].keys() == {
        *(f"level0_part{i}" for i in range(3)),
        "level1_part0",
    }
    out, state = jax.eval_shape(lambda v: model.apply(v, images(), train=False, mutable=["intermediates"]), variables)
    assert out["after_neck"].shape == (8, 1, 64)
    assert state["intermediates"]["attention"]["level1_part0"]["spatial_gate"][0].shape == (8, 3, 2)


@pytest.mark.parametrize(
    ("height", "fields"),
    [(288, {}), (384, {"last_stride": 2}), (256, {"parts": (8, 4)}), (90, {"parts": (6,)}), (7, {"parts": ()})],
)
def test_stripes_that_divide_the_map_are_accepted(height, fields):
    assert Embedder(**fields).misfits(height) == []


@pytest.mark.parametrize(
    ("height", "fields", "rows", "work"),
    [
        (256, {"parts": (1, 3, 6)}, "16 rows", "192 or 288"),
        (256, {"last_stride": 2}, "8 rows", "192 or 384"),
        (288, {"last_stride": 2}, "9 rows", "192 or 384"),
        (48, {"parts": (6,)}, "3 rows", "work: 96"),
        (48, {"parts": (), "last_stride": 2, "stripes": 3}, "2 rows", "work: 96"),
    ],
)
def test_stripes_that_do_not_divide_the_map_name_the_heights_that_work(height, fields, rows, work):
    model = Embedder(**{"backbone": "resnet18", "width": 8, **fields})
    (problem,) = model.misfits(height)
    assert rows in problem.expected and f"height {height}" in problem.expected and work in problem.expected
    assert problem.field in fields or problem.field == "parts"
    images = {modality: jnp.zeros((1, height, 32, 3)) for modality in ("visible", "infrared")}
    with pytest.raises(UserError, match=rows):
        jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def test_bad_fields_are_named_together():
    with pytest.raises(UserError) as error:
        Embedder(backbone="resnet20", pooling="max", attention_kernel=4, dtype="float16")
    for line in (
        "backbone is 'resnet20'",
        "pooling is 'max'; expected one of 'average', 'gem'",
        "kernel is 4",
        "dtype is",
    ):
        assert line in str(error.value)


def test_settings_of_the_backbone_are_checked_with_the_others():
    with pytest.raises(SettingsError) as error:
        Embedder(pooling="max", width=0, last_stride=3, shared_from=6)
    assert {problem.field for problem in error.value.problems} == {"pooling", "width", "last_stride", "shared_from"}


@pytest.mark.parametrize("given", [{}, {"visible"}, {"visible", "infrared", "thermal"}])
def test_init_needs_both_modalities_and_no_other(given):
    x = {modality: jnp.zeros((1, 48, 24, 3)) for modality in given}
    with pytest.raises(ValueError, match="images of"):
        jax.eval_shape(lambda: TINY().init(jax.random.key(0), x, train=False))


def test_bfloat16_features_parameters_and_statistics_are_float32():
    model = TINY(parts=(3, 1), pooling="gem", embedding_dim=5, dtype="bfloat16")
    variables, out = jax.eval_shape(
        lambda: (
            model.init(jax.random.key(0), images(), train=False),
            model.init_with_output(jax.random.key(0), images(), train=True)[0],
        )
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, out))} == {jnp.dtype("float32")}


def test_four_devices_with_synchronized_normalization_equal_one():
    # 4 devices of 2 images per modality against 1 device of 8: features, statistics and gradients.
    model = TINY(axis_name="data", embedding_dim=6)
    x = images(8)
    variables = filled(TINY(embedding_dim=6), x)
    target = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 6)), jnp.float32)

    def loss(model, params, batch_stats, x, target):
        out, updates = model.apply(
            {"params": params, "batch_stats": batch_stats}, x, train=True, mutable=["batch_stats"]
        )
        features = out["after_neck"].reshape(target.shape)  # [2, n, D]: modality, image
        return jnp.mean((features - target) ** 2), (features, updates["batch_stats"])

    def step(model, params, batch_stats, x, target):
        gradient = jax.grad(functools.partial(loss, model), has_aux=True)
        return gradient(params, batch_stats, x, target)

    def device_step(*args):
        gradients, (features, statistics) = step(model, *args)
        return jax.lax.pmean(gradients, "data"), (features, statistics)

    split = jax.tree.map(lambda a: a.reshape(4, 2, *a.shape[1:]), x)
    split_target = target.reshape(2, 4, 2, 6).transpose(1, 0, 2, 3)
    parallel = jax.pmap(device_step, axis_name="data", in_axes=(None, None, 0, 0))
    arguments = variables["params"], variables["batch_stats"]
    gradients, (features, statistics) = parallel(*arguments, split, split_target)
    expected = jax.jit(functools.partial(step, TINY(embedding_dim=6)))(*arguments, x, target)

    features = features.transpose(1, 0, 2, 3).reshape(2, 8, 6)
    np.testing.assert_allclose(features, expected[1][0], atol=2e-4)
    for (path, many), one in zip(
        jax.tree_util.tree_leaves_with_path((gradients, statistics)),
        jax.tree.leaves((expected[0], expected[1][1])),
        strict=True,
    ):
        for device in range(4):
            tolerance = 1e-3 * np.abs(one).max()
            np.testing.assert_allclose(many[device], one, atol=tolerance, err_msg=jax.tree_util.keystr(path))


def test_heads_classify_each_part_and_hold_what_losses_own():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)), jnp.float32)
    heads = Heads(num_classes=7, owned={"mecen": Mecen().init})
    logits, variables = heads.init_with_output(jax.random.key(0), features)
    classifier = np.asarray(variables["params"]["classifier"])
    assert classifier.shape == (2, 3, 7) and 0 < classifier.std() < 0.002
    for part in range(2):
        np.testing.assert_allclose(logits[:, part], features[:, part] @ classifier[part], atol=1e-6)
    centers = variables["params"]["mecen"]["centers"]
    assert centers.shape == (7, 6) and np.linalg.matrix_rank(centers) == 6
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-6)
    assert Heads(num_classes=7).init(jax.random.key(0), features)["params"].keys() == {"classifier"}


def test_classifiers_may_have_a_bias_and_a_leaky_relu():
    features = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    bias, kernel = np.arange(14.0).reshape(2, 7), np.random.default_rng(1).normal(size=(2, 3, 7))
    heads = Heads(num_classes=7, use_bias=True, slope=0.1)
    logits = heads.apply(
        {"params": {"classifier": jnp.asarray(kernel), "classifier_bias": jnp.asarray(bias)}}, features
    )
    expected = np.einsum("npd,pdc->npc", np.where(features > 0, features, 0.1 * features), kernel) + bias
    np.testing.assert_allclose(logits, expected, atol=1e-5)
