"""Structure of the backbone: sizes, what is shared, what mixes, dtypes. Parity with torch is in test_pretrained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.layers import BatchNorm, Conv
from jax_mspac.settings import SettingsError


def images(n_visible=2, n_infrared=3, height=48, width=24):
    rng = np.random.default_rng(7)
    counts = {"visible": n_visible, "infrared": n_infrared}
    return {m: jnp.asarray(rng.normal(size=(n, height, width, 3)), jnp.float32) for m, n in counts.items()}


def filled(model, x):
    """Variables of the model: random kernels, normalization that does nothing. Far faster than to compile `init`."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        if leaf.ndim > 1:
            return jnp.asarray(rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.dtype)
        return jnp.full(leaf.shape, 0 if path[-1].key in ("mean", "bias") else 1, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def network(backbone, **fields):
    return BACKBONES[backbone].build(fields)


def shapes(**fields):
    return jax.eval_shape(lambda x: network(**fields).init(jax.random.key(0), x, train=False), images(1, 1))


@pytest.fixture(autouse=True, scope="module")
def shallow():
    """A network of every kind of stage that compiles fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
        yield


@pytest.fixture(scope="module")
def agw(shallow):
    """A shallow, narrow network with a stem per modality, and its variables."""
    model = network("shallow", width=8)
    return model, filled(model, images())


@pytest.mark.parametrize(
    ("architecture", "published", "fc"),
    [("resnet18", 11_689_512, 513_000), ("resnet34", 21_797_672, 513_000), ("resnet50", 25_557_032, 2_049_000)],
)
def test_parameter_count_is_the_published_one_without_classifier(architecture, published, fc):
    assert count(shapes(backbone=architecture, shared_from=0)["params"]) == published - fc


def test_shared_from_moves_stages_into_the_modalities():
    # By hand, resnet18 of width 8: convolutions, and 2 numbers per channel for each normalization.
    stem = 7 * 7 * 3 * 8 + 2 * 8
    layer1 = 4 * (9 * 8 * 8 + 2 * 8)

    def layer(c):  # doubles the channels to c
        return 9 * c // 2 * c + 3 * 9 * c * c + c // 2 * c + 5 * 2 * c

    stages = [stem, layer1, layer(16), layer(32), layer(64)]
    for shared_from in range(6):
        params = shapes(backbone="resnet18", width=8, shared_from=shared_from)["params"]
        own, shared = sum(stages[:shared_from]), sum(stages[shared_from:])
        assert [count(params.get(k, {})) for k in ("visible", "infrared", "shared")] == [own, own, shared]


def test_names_follow_torchvision():
    params = shapes(backbone="resnet18")["params"]
    assert params["visible"].keys() == params["infrared"].keys() == {"conv1", "bn1"}
    assert params["shared"].keys() == {f"layer{k}_{i}" for k in (1, 2, 3, 4) for i in (0, 1)}
    assert params["shared"]["layer3_1"].keys() == {"conv1", "bn1", "conv2", "bn2"}
    assert params["shared"]["layer3_0"].keys() == {"conv1", "bn1", "conv2", "bn2", "downsample_0", "downsample_1"}


def test_blocks_start_as_the_identity_with_he_normal_kernels():
    conv, norm = functools.partial(Conv, dtype=jnp.float32), functools.partial(BatchNorm, train=False)
    block = resnet.BasicBlock(64, 1, conv, norm)
    params = block.init(jax.random.key(0), jnp.zeros((1, 2, 2, 64)))["params"]
    np.testing.assert_array_equal(params["bn1"]["scale"], np.ones(64))
    np.testing.assert_array_equal(params["bn2"]["scale"], np.zeros(64))
    np.testing.assert_allclose(np.std(params["conv2"]["kernel"]), np.sqrt(2 / (9 * 64)), rtol=0.05)


@pytest.mark.parametrize(("last_stride", "size"), [(1, (18, 9)), (2, (9, 5))])
def test_map_size_at_288x144(last_stride, size):
    model = network("resnet50", last_stride=last_stride)
    (out, _) = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), images(2, 3, 288, 144)
    )
    assert out.shape == (5, *size, 2048)


def test_one_modality_alone_gives_its_rows_of_both_and_uses_its_own_stem(agw):
    model, variables = agw
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    both = images()
    out = apply(variables, {m: both[m] for m in ("infrared", "visible")})  # visible comes first all the same
    np.testing.assert_allclose(apply(variables, {"visible": both["visible"]}), out[:2], atol=1e-5)
    np.testing.assert_allclose(apply(variables, {"infrared": both["infrared"]}), out[2:], atol=1e-5)
    one_stem = {c: {m: v for m, v in variables[c].items() if m != "infrared"} for c in variables}
    np.testing.assert_allclose(apply(one_stem, {"visible": both["visible"]}), out[:2], atol=1e-5)
    as_infrared = apply(variables, {"infrared": both["visible"]})
    assert np.abs(as_infrared - out[:2]).max() > 1e-2


def test_shared_statistics_mix_the_modalities():
    both = {"visible": images()["visible"], "infrared": 5 + 2 * images()["infrared"]}
    one_batch = {"visible": jnp.concatenate(list(both.values()))}
    model = network("shallow", width=8, shared_from=0)
    variables = filled(model, both)
    apply = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"]))
    mixed = apply(both)
    for actual, expected in zip(jax.tree.leaves(mixed), jax.tree.leaves(apply(one_batch)), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)
    alone = apply({"visible": both["visible"]})[0]
    assert np.abs(alone - mixed[0][:2]).max() > 1e-2


def test_bfloat16_keeps_parameters_and_statistics_in_float32(agw):
    exact, variables = agw
    model = network("shallow", width=8, dtype=jnp.bfloat16)
    own = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images())
    apply = jax.jit(lambda m, x: m.apply(variables, x, train=True, mutable=["batch_stats"]), static_argnums=0)
    out, updates = apply(model, images())
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((own, updates))} == {jnp.dtype("float32")}
    expected, _ = apply(exact, images())
    assert np.abs(np.asarray(out, np.float32) - expected).mean() < 0.05 * np.abs(expected).mean()


def test_what_is_computed_again_is_the_same():
    x = {"visible": images()["visible"]}

    def graded(model):
        def loss(variables):
            out, updates = model.apply(variables, x, train=True, mutable=["batch_stats"])
            return jnp.square(out).mean(), updates

        variables = filled(model, images())
        (value, updates), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
        return value, updates, gradients["params"]

    plain, again = (graded(network("shallow", width=4, shared_from=0, remat=remat)) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), plain, again)


def test_bad_fields_are_named_together():
    with pytest.raises(SettingsError) as error:
        network("resnet18", width=0, last_stride=3, shared_from=6)
    assert [(problem.field, problem.expected) for problem in error.value.problems] == [
        ("width", "1 or more"),
        ("last_stride", "one of 1, 2"),
        ("shared_from", "0 to 5"),
    ]
