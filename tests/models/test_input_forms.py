"""Zero-padded input, alone and in an embedder with pretrained weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.methods import augmentation
from jax_mspac.models import pretrained, resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.input_forms import completed, four_channels, zero_padded
from jax_mspac.models.resnet import TORCH_NAMES

MODALITIES = ("visible", "infrared")


@pytest.fixture(autouse=True, scope="module")
def shallow():
    """A backbone of every kind of stage that compiles fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
        yield


def images(n=2):
    rng = np.random.default_rng(7)
    return {m: jnp.asarray(rng.normal(size=(n, 32, 16, 3)), jnp.float32) for m in MODALITIES}


def embedder(**fields):
    return Embedder(backbone="shallow", width=4, parts=(), shared_from=0, **fields)


def zeros(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images(1), train=False))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def weights():
    """Weights of the shallow network for color images, under torchvision's names."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        values = rng.uniform(0.5, 1.5, leaf.shape) if leaf.ndim == 1 else rng.normal(size=leaf.shape)
        return values.astype(np.float32)

    return pretrained.tensors_of(jax.tree.map(draw, zeros(embedder())), TORCH_NAMES, source="w")


def test_each_modality_has_its_channel():
    x = jnp.array([[[[1.0, 10.0, 100.0], [2.0, 2.0, 2.0]]]])
    gray = [0.299 + 5.87 + 11.4, 2.0]
    np.testing.assert_allclose(zero_padded(x, modality="visible")[0, 0], [[g, 0] for g in gray], rtol=1e-6)
    np.testing.assert_allclose(zero_padded(x, modality="infrared")[0, 0], [[0, g] for g in gray], rtol=1e-6)


def test_the_mean_color_is_zero():
    mean = augmentation.normalize(np.broadcast_to(augmentation.MEAN, (1, 2, 2, 3)))
    np.testing.assert_allclose(zero_padded(mean, modality="visible"), 0, atol=1e-6)


def test_gray_orders_photographs_by_their_luma():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(1, 1, 500, 3))
    gray = zero_padded(augmentation.normalize(pixels.astype(np.float32)), modality="visible")[0, 0, :, 0]
    assert np.corrcoef(gray, pixels[0, 0] @ np.array([0.299, 0.587, 0.114]))[0, 1] > 0.999


def test_modalities_share_all_weights_but_not_the_stems_channels():
    model = embedder(input_form="zero_padding")
    variables = zeros(model)
    stem = variables["params"]["backbone"]["shared"]["conv1"]["kernel"]
    assert stem.shape == (7, 7, 2, 4) and variables["params"]["backbone"].keys() == {"shared"}
    variables = pretrained.load_into(variables, weights(), TORCH_NAMES, source="w")
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["before_neck"])
    before = apply(variables, images())
    kernel = variables["params"]["backbone"]["shared"]["conv1"]["kernel"]
    variables["params"]["backbone"]["shared"]["conv1"]["kernel"] = kernel.at[:, :, 1].set(0.0)
    after = apply(variables, images())
    np.testing.assert_array_equal(after[:2], before[:2])
    assert np.abs(after[2:] - before[2:]).max() > 1e-3
    one = apply(variables, {"visible": images()["visible"]})
    np.testing.assert_allclose(one, after[:2], rtol=1e-4, atol=1e-4)


def test_pretrained_stem_sees_a_gray_image():
    color, padded = embedder(), embedder(input_form="zero_padding")
    tensors = weights()
    loaded = pretrained.load_into(zeros(padded), tensors, TORCH_NAMES, source="w")
    reference = pretrained.load_into(zeros(color), tensors, TORCH_NAMES, source="w")
    x = images()
    gray = {m: jnp.repeat(zero_padded(x[m], modality=m).sum(axis=-1, keepdims=True), 3, axis=-1) for m in MODALITIES}
    found = jax.jit(lambda v, x: padded.apply(v, x, train=False)["before_neck"])(loaded, x)
    expected = jax.jit(lambda v, x: color.apply(v, x, train=False)["before_neck"])(reference, gray)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_four_channels_are_the_colors_and_the_gray_of_infrared():
    x = jnp.array([[[[1.0, 10.0, 100.0], [2.0, 2.0, 2.0]]]])
    gray = [0.299 + 5.87 + 11.4, 2.0]
    np.testing.assert_allclose(four_channels(x, 2 * x)[0, 0], [[1, 10, 100, 2 * gray[0]], [2, 2, 2, 4]], rtol=1e-6)
    np.testing.assert_allclose(completed(x, modality="visible")[0, 0], [[1, 10, 100, 0], [2, 2, 2, 0]])
    np.testing.assert_allclose(completed(x, modality="infrared")[0, 0], [[0, 0, 0, g] for g in gray], rtol=1e-6)
    four = jnp.ones((2, 3, 3, 4))
    assert completed(four, modality="visible") is four


def test_a_pretrained_stem_of_four_channels_sees_the_mean_of_colors_and_infrared():
    color, four = embedder(), embedder(input_form="four_channels")
    loaded = pretrained.load_into(zeros(four), weights(), TORCH_NAMES, source="w")
    kernel = loaded["params"]["backbone"]["shared"]["conv1"]["kernel"]
    expected = weights()["conv1.weight"].transpose(2, 3, 1, 0)
    assert kernel.shape == (7, 7, 4, 4)
    np.testing.assert_allclose(kernel[:, :, :3], expected / 2, rtol=1e-6)
    np.testing.assert_allclose(kernel[:, :, 3], expected.sum(axis=2) / 2, rtol=1e-5, atol=1e-6)
    # Of a gray scene, which both cameras see alike, the network makes what that of colors does.
    reference = pretrained.load_into(zeros(color), weights(), TORCH_NAMES, source="w")
    gray = {m: jnp.repeat(x[..., :1], 3, axis=-1) for m, x in images().items()}
    both = {m: four_channels(x, x) for m, x in gray.items()}
    found = jax.jit(lambda v, x: four.apply(v, x, train=False)["before_neck"])(loaded, both)
    known = jax.jit(lambda v, x: color.apply(v, x, train=False)["before_neck"])(reference, gray)
    np.testing.assert_allclose(found, known, atol=1e-4 * np.abs(known).max())
    again = pretrained.tensors_of(loaded, TORCH_NAMES, source="run")
    np.testing.assert_array_equal(again["conv1.weight"].transpose(2, 3, 1, 0), kernel)


def test_a_pretrained_stem_of_another_size_is_still_refused():
    tensors = weights() | {"conv1.weight": np.ones((4, 3, 5, 5), np.float32)}
    with pytest.raises(UserError, match=r"conv1\.weight: shape .*\(4, 2, 7, 7\)"):
        pretrained.load_into(zeros(embedder(input_form="zero_padding")), tensors, TORCH_NAMES, source="w")


def test_non_local_blocks_stay_as_they_are_when_weights_are_loaded():
    model = embedder(nonlocal_blocks=True)
    variables = model.init(jax.random.key(0), images(1), train=False)
    loaded = pretrained.load_into(variables, weights(), TORCH_NAMES, source="w")
    for name in ("nonlocal2_0", "nonlocal3_0"):
        for collection in ("params", "batch_stats"):
            shared = [tree[collection]["backbone"]["shared"] for tree in (loaded, variables)]
            jax.tree.map(np.testing.assert_array_equal, shared[0][name], shared[1][name])
    kernel = loaded["params"]["backbone"]["shared"]["layer3_0"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 2], weights()["layer3.0.conv1.weight"][:, :, 1, 2].T)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_form": "gray"}, "'gray'; expected one of 'rgb', 'zero_padding', 'four_channels'"),
        ({"input_form": "zero_padding", "shared_from": 1}, "shared_from is 1; expected 0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        model = Embedder(**{"backbone": "shallow", "width": 4, "parts": (), **fields})
        jax.eval_shape(lambda: model.init(jax.random.key(0), images(1), train=False))
