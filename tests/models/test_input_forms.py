"""Forms of the input against numpy and scipy, alone and in an embedder with pretrained weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jax_mspac.errors import UserError
from jax_mspac.methods import augmentation
from jax_mspac.models import pretrained, resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.input_forms import (
    completed,
    four_channels,
    gradient_orientation,
    locally_normalized,
    zero_padded,
)
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


LUMA = np.array([0.299, 0.587, 0.114])
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
LOCAL = {"local_normalization": locally_normalized, "gradient_orientation": gradient_orientation}


def pictures(n=3, height=40, width=24):
    """Normalized images with edges in all directions, and noise."""
    rng = np.random.default_rng(3)
    rough = rng.normal(size=(n, height, width, 3))
    return np.float32(3 * ndimage.gaussian_filter(rough, (0, 2, 2, 0)) + 0.1 * rough)


def local_mean(x):
    """The mean of 9 x 9 pixels, of those that there are."""
    return ndimage.uniform_filter(x, 9, mode="constant") / ndimage.uniform_filter(np.ones_like(x), 9, mode="constant")


def floored(local):
    return local + local.mean() / 10


def test_local_normalization_is_scipy_s():
    found = jax.jit(locally_normalized)(pictures())
    for image, normalized in zip(pictures().astype(np.float64), found, strict=True):
        y = image @ LUMA
        deviation = np.sqrt(floored(local_mean(y**2) - local_mean(y) ** 2))
        wanted = np.repeat(((y - local_mean(y)) / deviation)[..., None], 3, axis=-1)
        np.testing.assert_allclose(normalized, wanted, atol=2e-4)


def test_gradient_orientation_is_that_of_the_sum_over_the_channels():
    found = jax.jit(gradient_orientation)(pictures())
    for image, form in zip(pictures().astype(np.float64), found, strict=True):
        across, down = (
            np.stack([ndimage.correlate(image[..., c], kernel, mode="nearest") for c in range(3)], axis=-1)
            for kernel in (SOBEL, SOBEL.T)
        )
        xx, yy, xy = ((a * b).sum(axis=-1) for a, b in ((across, across), (down, down), (across, down)))
        energy = xx + yy
        strength = np.sqrt(energy / (energy + floored(local_mean(energy))))
        wanted = np.stack([(xx - yy) / energy, 2 * xy / energy, np.ones_like(energy)], axis=-1) * strength[..., None]
        np.testing.assert_allclose(form, wanted, atol=5e-4)


def test_the_angle_of_an_edge_is_doubled():
    rows, columns = np.mgrid[:40, :24]
    for degrees in (0, 30, 90, 135, 210):
        angle = np.deg2rad(degrees)
        ramp = np.cos(angle) * columns + np.sin(angle) * rows
        form = gradient_orientation(jnp.asarray(np.repeat(ramp[None, ..., None], 3, axis=-1), jnp.float32))[0, 20, 12]
        # On a ramp, E is its own local mean and its mean over the image, but for the borders.
        np.testing.assert_allclose(form[:2] / form[2], [np.cos(2 * angle), np.sin(2 * angle)], atol=1e-4)
        np.testing.assert_allclose(form[2], np.sqrt(1 / 2.1), atol=0.01)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(("gain", "offset"), [(0.3, 40.0), (0.05, 100.0), (-0.3, 180.0)])
def test_another_black_and_white_of_an_infrared_image_do_not_matter(name, gain, offset):
    """Of gray values in [0, 255], before `normalize`: a rising line, a very flat one, a falling one."""
    pixels = np.clip(128 + 40 * pictures()[..., :1], 0, 255).repeat(3, axis=-1)
    form = jax.jit(LOCAL[name])
    before, after = (np.asarray(form(augmentation.normalize(x))) for x in (pixels, gain * pixels + offset))
    sign = -1 if gain < 0 and name == "local_normalization" else 1
    assert np.abs(before).max() > 0.5
    np.testing.assert_allclose(after, sign * before, atol=5e-3)


def test_no_channel_alone_decides_where_an_edge_is():
    """An edge between two colors of one brightness, which gray does not show, and one of inverted channels."""
    image = np.zeros((1, 32, 16, 3), np.float32)
    image[:, :, 8:, 0], image[:, :, 8:, 1] = 1.0, -LUMA[0] / LUMA[1]
    assert np.abs(zero_padded(image, modality="visible")).max() < 1e-6
    form = np.asarray(gradient_orientation(image))
    assert form[0, 16, 8, 0] > 0.5 and np.abs(form[0, 16, 2]).max() < 1e-3
    np.testing.assert_allclose(gradient_orientation(image * np.float32([1, -1, 1])), form, atol=1e-5)


@pytest.mark.parametrize("name", LOCAL)
def test_flat_images_are_zero_and_have_a_finite_derivative(name):
    flat = jnp.full((2, 16, 8, 3), 0.7)
    np.testing.assert_allclose(LOCAL[name](flat), 0, atol=1e-3)
    half = flat.at[1, :8].set(-1.0)
    for images in (flat, half):
        assert np.isfinite(jax.jit(jax.grad(lambda x: LOCAL[name](x)[..., 2].sum()))(images)).all()


@pytest.mark.parametrize("name", LOCAL)
def test_pretrained_stems_of_colors_see_local_forms(name):
    color, local = embedder(), embedder(input_form=name)
    loaded = pretrained.load_into(zeros(local), weights(), TORCH_NAMES, source="w")
    reference = pretrained.load_into(zeros(color), weights(), TORCH_NAMES, source="w")
    jax.tree.map(np.testing.assert_array_equal, loaded, reference)
    formed = {m: LOCAL[name](x) for m, x in images().items()}
    found = jax.jit(lambda v, x: local.apply(v, x, train=False)["before_neck"])(loaded, images())
    expected = jax.jit(lambda v, x: color.apply(v, x, train=False)["before_neck"])(reference, formed)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
