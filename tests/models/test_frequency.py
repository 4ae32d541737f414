"""MFEN's layers against numpy and against sums over pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.frequency import BandExperts, banded_product, octaves, spectral_statistics
from jax_mspac.models.layers import BatchNorm

NORM = functools.partial(BatchNorm, train=False)
# So that normalization by statistics of 0 and 1 changes nothing.
NEUTRAL = np.sqrt(1 + 1e-5)


def maps(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(24, 12), (6, 3), (1, 1)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_frequency_is_in_one_octave(height, width, count):
    masks = octaves(height, width, count)
    assert masks.shape == (count, height, width // 2 + 1)
    np.testing.assert_array_equal(masks.sum(axis=0), 1)
    assert masks[0, 0, 0] == 1  # the mean


def test_octaves_part_at_powers_of_two():
    # Down a column the frequencies are 0, 1, ... 8 of 8.
    first = octaves(16, 2, 4)[:, :9, 0].argmax(axis=0)
    np.testing.assert_array_equal(first, [0, 1, 2, 2, 3, 3, 3, 3, 3])
    np.testing.assert_array_equal(octaves(16, 2, 2)[:, :9, 0].argmax(axis=0), [0] * 4 + [1] * 5)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_an_expert_is_a_circular_convolution_with_a_band(kernels):
    q, k = maps(0, 2, 5, 4, 3), maps(1, 2, 5, 4, 3)
    masks = octaves(5, 4, 2)
    found = banded_product(q, k, masks, kernels=kernels)
    assert found.shape == (2, 5, 4, 2, 3)
    for band, mask in enumerate(masks):
        low = np.fft.irfft2(np.fft.rfft2(k, axes=(1, 2)) * mask[None, ..., None], s=(5, 4), axes=(1, 2))
        expected = np.zeros_like(low)
        for i in range(5):
            for j in range(4):
                shifted = np.roll(low, (i, j), axis=(1, 2))
                expected += q[:, i : i + 1, j : j + 1] * shifted
        np.testing.assert_allclose(found[..., band, :], expected, atol=1e-4)


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_experts_of_an_impulse_sum_to_the_map(bands):
    # The spectrum of an impulse is 1 everywhere: each expert hands its band on.
    q, k = np.zeros((1, 6, 4, 3), np.float32), maps(2, 1, 6, 4, 3)
    q[:, 0, 0] = 1
    np.testing.assert_allclose(banded_product(q, k, octaves(6, 4, bands)).sum(axis=3), k, atol=1e-5)


def test_of_a_block_of_identities_with_open_gates_the_number_of_bands_does_not_matter():
    channels, x = 3, maps(3, 2, 6, 4, 3)
    identity, zeros = np.eye(channels, dtype=np.float32), np.zeros(channels, np.float32)
    # q, k and v are x: the sum over bands is its circular convolution with itself.
    spectrum = np.fft.fft2(x, axes=(1, 2))
    expected = x + np.fft.ifft2(spectrum * spectrum, axes=(1, 2)).real * x
    for bands in (1, 4):
        norms = {"experts": bands * channels, "bn": channels}
        params = {name: {"kernel": identity, "bias": zeros} for name in ("q", "k", "v")}
        params |= {name: {"scale": np.full(size, NEUTRAL), "bias": np.zeros(size)} for name, size in norms.items()}
        params["gate"] = {"kernel": np.zeros((channels, bands)), "bias": np.full(bands, 50.0)}
        params["W"] = {"kernel": identity}
        stats = {name: {"mean": np.zeros(size), "var": np.ones(size)} for name, size in norms.items()}
        variables = jax.tree.map(np.float32, {"params": params, "batch_stats": stats})
        made = BandExperts(NORM, bands=bands, channels=channels).apply(variables, x)
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)


def test_a_block_is_the_formula_band_by_band():
    x, bands, inner = maps(4, 2, 6, 4, 5), 2, 3
    module = BandExperts(NORM, bands=bands, channels=inner)
    rng = np.random.default_rng(5)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    variables = jax.tree.map(lambda leaf: np.float32(rng.uniform(0.2, 1.0, leaf.shape)), shapes)
    params, stats = variables["params"], variables["batch_stats"]

    def normalized(y, name, part=slice(None)):
        mean, var = (stats[name][key][part] for key in ("mean", "var"))
        return (y - mean) / np.sqrt(var + 1e-5) * params[name]["scale"][part] + params[name]["bias"][part]

    q, k, v, gate = (x @ params[name]["kernel"] + params[name]["bias"] for name in ("q", "k", "v", "gate"))
    weights = np.zeros_like(q)
    for band, mask in enumerate(octaves(6, 4, bands)):
        spectrum = np.fft.rfft2(q, axes=(1, 2)) * mask[None, ..., None] * np.fft.rfft2(k, axes=(1, 2))
        found = normalized(
            np.fft.irfft2(spectrum, s=(6, 4), axes=(1, 2)), "experts", slice(band * inner, (band + 1) * inner)
        )
        weights += found / (1 + np.exp(-gate[..., band : band + 1]))
    expected = x + normalized((weights * v) @ params["W"]["kernel"], "bn")
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-4)


def test_a_block_starts_as_the_identity_and_keeps_the_dtype():
    x = jnp.asarray(maps(6, 2, 6, 4, 5), jnp.bfloat16)
    module = BandExperts(NORM, bands=4, channels=2, dtype=jnp.bfloat16)
    variables = module.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    made = module.apply(variables, x)
    assert made.dtype == jnp.bfloat16
    np.testing.assert_array_equal(made, x)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("width", [1, 4, 5])
def test_statistics_are_mean_and_deviation_of_all_amplitudes(width, kernels):
    x = maps(7, 2, 6, width, 3)
    amplitudes = np.abs(np.fft.fft2(x, axes=(1, 2), norm="ortho"))
    expected = amplitudes.mean(axis=(1, 2)) + amplitudes.std(axis=(1, 2))
    np.testing.assert_allclose(spectral_statistics(x, kernels=kernels), expected, rtol=1e-5)


@pytest.mark.parametrize("x", [np.zeros((1, 4, 2, 1)), np.ones((1, 4, 2, 1)), 1e-30 * np.ones((1, 4, 2, 1))])
def test_statistics_of_a_dead_or_even_channel_have_a_finite_gradient(x):
    value, gradient = jax.value_and_grad(lambda x: spectral_statistics(x).sum())(np.float32(x))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_statistics_are_a_second_part_of_the_embedding(monkeypatch):
    monkeypatch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    model = Embedder(backbone="shallow", width=4, parts=(), frequency_bands=2, frequency_statistics=True)
    x = {"visible": np.zeros((2, 32, 32, 3), np.float32), "infrared": np.ones((1, 32, 32, 3), np.float32)}
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    layers = shapes["params"]["backbone"]["shared"]
    assert layers["frequency2"]["experts"]["scale"].shape == layers["frequency3"]["experts"]["scale"].shape == (128,)
    assert {name for name in layers if name.startswith("frequency")} == {"frequency2", "frequency3"}
    features = jax.eval_shape(functools.partial(model.apply, train=False), shapes, x)
    assert features["before_neck"].shape == features["after_neck"].shape == (3, 2, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.diverse_embeddings": True},
            "frequency_statistics is True; expected False, because diverse_embeddings",
        ),
        ({"model.pattern_masks": 2}, "expected False, because there are pattern_masks"),
        ({"loss.identity": "both"}, "expected False, because the embedding is one of stripes"),
        ({"model.frequency_bands": -1}, r"frequency_bands is -1; expected"),
        ({"model.frequency_channels": 0}, r"frequency_channels is 0; expected"),
        ({"model.backbone": "vit_ti16", "data.height": 96}, "frequency_bands is 4; expected 0, because vit_ti16"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    config = config_lib.default_config()
    config.method = "mfen"
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        config_lib.validate(methods.configured(config, chosen=changes))
