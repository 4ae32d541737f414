"""Blocks of translation networks against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.models import translation

SHAPE = (2, 8, 12, 3)


def maps(shape=SHAPE):
    return np.random.default_rng(0).normal(loc=0.3, size=shape).astype(np.float32)


def drawn(module, x):
    """Variables with values of their own everywhere."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.9, leaf.shape).astype(np.float32) - 0.3, shapes)


def channels_first(torch, x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def channels_last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def torch_convolution(torch, params, **options):
    height, _, inputs, outputs = params["kernel"].shape
    layer = torch.nn.Conv2d(inputs, outputs, height, bias="bias" in params, **options)
    layer.weight.data = torch.from_numpy(params["kernel"].transpose(3, 2, 0, 1).copy())
    if "bias" in params:
        layer.bias.data = torch.from_numpy(params["bias"])
    return layer


@pytest.mark.parametrize("border", ["zeros", "reflect"])
@pytest.mark.parametrize(
    ("size", "strides", "padding", "bias"), [(7, 1, 3, "none"), (4, 2, 1, "uniform"), (3, 1, 0, "zeros")]
)
def test_convolution_is_torch_s(border, size, strides, padding, bias):
    torch = pytest.importorskip("torch")
    module = translation.Convolution(5, size, strides, padding, border, bias)
    x = maps()
    variables = drawn(module, x)
    layer = torch_convolution(torch, variables["params"], stride=strides, padding=padding, padding_mode=border)
    expected = channels_last(layer(channels_first(torch, x)))
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "strides"), [(4, 2), (3, 1), (5, 3)])
def test_transposed_convolution_is_torch_s(size, strides):
    torch = pytest.importorskip("torch")
    module = translation.TransposedConvolution(5, size, strides, bias="uniform")
    x = maps()
    variables = drawn(module, x)
    layer = torch.nn.ConvTranspose2d(3, 5, size, strides, padding=(size - strides) // 2)
    turned = variables["params"]["kernel"][::-1, ::-1]
    layer.weight.data = torch.from_numpy(turned.transpose(2, 3, 0, 1).copy())
    layer.bias.data = torch.from_numpy(variables["params"]["bias"])
    expected = channels_last(layer(channels_first(torch, x)))
    assert expected.shape[1:3] == (strides * 8, strides * 12)
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5, atol=1e-5)


def test_starts_are_those_of_gans_and_of_torch_s_biases():
    kernel, bias = (
        np.asarray(translation.Convolution(64, 8, bias="uniform").init(jax.random.key(3), maps())["params"][name])
        for name in ("kernel", "bias")
    )
    assert abs(kernel.mean()) < 1e-3 and abs(kernel.std() - 0.02) < 1e-3
    bound = (8 * 8 * 3) ** -0.5
    assert 0.8 * bound < np.abs(bias).max() <= bound
    zeros = translation.Convolution(4, 3, bias="zeros").init(jax.random.key(3), maps())["params"]["bias"]
    np.testing.assert_array_equal(zeros, 0)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_normalization_and_its_gradient_are_torch_s(affine):
    torch = pytest.importorskip("torch")
    module = translation.InstanceNorm(affine=affine)
    x, weights = maps(), maps(SHAPE)[::-1].copy()
    variables = drawn(module, x) if affine else {}
    layer = torch.nn.InstanceNorm2d(3, affine=affine)
    if affine:
        layer.weight.data, layer.bias.data = (torch.from_numpy(variables["params"][k]) for k in ("scale", "bias"))
    given = channels_first(torch, x).requires_grad_()
    expected = layer(given)
    (expected * channels_first(torch, weights)).sum().backward()
    np.testing.assert_allclose(module.apply(variables, x), channels_last(expected), rtol=1e-4, atol=1e-5)
    found = jax.grad(lambda x: jnp.sum(module.apply(variables, x) * weights))(x)
    np.testing.assert_allclose(found, channels_last(given.grad), rtol=1e-4, atol=1e-5)


def test_running_statistics_are_torch_s():
    torch = pytest.importorskip("torch")
    module = translation.InstanceNorm(running=True)
    x = maps()
    variables = module.init(jax.random.key(0), x)
    layer = torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
    for _ in range(2):
        trained, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
        np.testing.assert_allclose(trained, channels_last(layer(channels_first(torch, x))), rtol=1e-4, atol=1e-5)
        variables = {**variables, **updated}
    layer.eval()
    expected = channels_last(layer(channels_first(torch, x)))
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - trained).max() > 0.1  # that of an image is another one


def test_a_residual_block_is_torch_s():
    torch = pytest.importorskip("torch")
    module = translation.ResidualBlock(border="reflect", bias="zeros")
    x = maps()
    variables = drawn(module, x)
    params = variables["params"]
    y = channels_first(torch, x)
    for number in (1, 2):
        layer = torch_convolution(torch, params[f"conv{number}"], padding=1, padding_mode="reflect")
        norm = torch.nn.InstanceNorm2d(3, affine=True)
        norm.weight.data, norm.bias.data = (torch.from_numpy(params[f"norm{number}"][k]) for k in ("scale", "bias"))
        y = norm(layer(y))
        y = torch.relu(y) if number == 1 else y
    np.testing.assert_allclose(module.apply(variables, x), x + channels_last(y), rtol=1e-4, atol=1e-4)


def test_a_generator_keeps_the_size_and_refuses_one_that_it_cannot_keep():
    module = translation.Generator(width=2, blocks=1)
    variables = module.init(jax.random.key(0), jnp.zeros(SHAPE))
    made = module.apply(variables, maps())
    assert made.shape == SHAPE and made.dtype == jnp.float32
    assert np.abs(made).max() <= 1 and np.std(made) > 0
    with pytest.raises(ValueError, match="multiples of 4"):
        module.apply(variables, jnp.zeros((1, 8, 14, 3)))


def test_a_patch_sees_its_own_part_of_the_image_and_is_normalized_by_all():
    module = translation.PatchDiscriminator(width=2, layers=2)
    x = maps((1, 32, 16, 3))
    variables = module.init(jax.random.key(0), x)
    scores = module.apply(variables, x)
    assert scores.shape == (1, 8, 4)
    plain = translation.PatchLayers(width=2, layers=2, first_normalized=2)
    before, other = plain.init(jax.random.key(0), x), x.copy()
    other[:, :4] += 1.0
    changed = np.abs(plain.apply(before, x) - plain.apply(before, other)).max(axis=(0, 2, 3))
    assert (changed[:2] > 0).all() and (changed[2:] == 0).all()


def test_computation_in_bfloat16_keeps_parameters_in_float32():
    for module in (
        translation.Generator(2, 1, dtype=jnp.bfloat16),
        translation.PatchDiscriminator(2, 2, dtype=jnp.bfloat16),
    ):
        variables = module.init(jax.random.key(0), jnp.zeros(SHAPE))
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        exact = module.clone(dtype=jnp.float32).apply(variables, maps())
        found = module.apply(variables, maps())
        assert found.dtype == jnp.float32
        assert 0 < np.abs(found - exact).max() < 0.1
