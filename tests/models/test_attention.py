"""Part attention against a transcription of the slides' formulas to numpy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.models.attention import CascadedPartAttention, PartAttention


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def part_attention(x, params, form):
    """float64 [N, H, W, C]; returns the map and both gates."""
    weight, bias = (np.asarray(params["channel"][k], np.float64) for k in ("kernel", "bias"))
    kernel = np.asarray(params["spatial"]["kernel"], np.float64)[..., 0]
    n, h, w, _ = x.shape
    r = kernel.shape[0] // 2
    channel = sigmoid((x.mean(axis=(1, 2)) + x.max(axis=(1, 2))) @ weight + bias)
    x1 = x * channel[:, None, None, :]
    maps = np.pad(np.stack([x1.mean(axis=-1), x1.max(axis=-1)], axis=-1), ((0, 0), (r, r), (r, r), (0, 0)))
    spatial = np.zeros((n, h, w))
    for i in range(h):
        for j in range(w):
            spatial[:, i, j] = sigmoid((maps[:, i : i + 2 * r + 1, j : j + 2 * r + 1] * kernel).sum(axis=(1, 2, 3)))
    x2 = x1 * spatial[..., None]
    return (
        (x + x * x2 if form == "literal" else x * (1 + channel[:, None, None, :] * spatial[..., None])),
        channel,
        spatial,
    )


def randomize(variables, seed=3):
    """Large weights everywhere, biases included, so that gates are far from one half."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), variables)


def feature_map(shape=(2, 6, 4, 5)):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("form", ["literal", "mask"])
@pytest.mark.parametrize("kernel_size", [7, 3, 1])
def test_one_part_agrees_with_the_formula(form, kernel_size):
    x = feature_map()
    model = PartAttention(form=form, kernel_size=kernel_size)
    params = randomize(model.init(jax.random.key(0), x)["params"])
    y, state = model.apply({"params": params}, x, mutable=["intermediates"])
    expected, channel, spatial = part_attention(np.asarray(x, np.float64), params, form)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(state["intermediates"]["channel_gate"][0], channel, atol=1e-6)
    np.testing.assert_allclose(state["intermediates"]["spatial_gate"][0], spatial, atol=1e-6)


def test_parameters_are_one_affine_map_and_one_convolution_without_bias():
    params = PartAttention().init(jax.random.key(0), feature_map())["params"]
    shapes = {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    assert shapes == {
        "['channel']['kernel']": (5, 5),
        "['channel']['bias']": (5,),
        "['spatial']['kernel']": (7, 7, 2, 1),
    }


def test_a_map_of_low_rank_is_a_product_of_two():
    x = feature_map()
    params = randomize(PartAttention(rank=2).init(jax.random.key(0), x)["params"])
    assert params["channel_reduced"]["kernel"].shape == (5, 2) and params["channel"]["kernel"].shape == (2, 5)
    product = params["channel_reduced"]["kernel"] @ params["channel"]["kernel"]
    full = {"channel": {**params["channel"], "kernel": product}, "spatial": params["spatial"]}
    found, expected = (PartAttention(rank=rank).apply({"params": p}, x) for rank, p in ((2, params), (0, full)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["literal", "mask"])
@pytest.mark.parametrize("parts", [(6, 3, 1), (2,), (3, 3)])
def test_cascade_is_the_formula_stripe_by_stripe(form, parts):
    x = feature_map()
    model = CascadedPartAttention(parts=parts, form=form, kernel_size=3)
    params = randomize(model.init(jax.random.key(0), x)["params"])
    # Literal gates grow doubly exponentially with the level; small inputs keep the comparison about the structure.
    x = 0.3 * x
    y, state = model.apply({"params": params}, x, mutable=["intermediates"])
    expected = np.asarray(x, np.float64)
    for level, n in enumerate(parts):
        rows = 6 // n
        for i in range(n):
            name, stripe = f"level{level}_part{i}", slice(i * rows, (i + 1) * rows)
            expected[:, stripe], channel, _ = part_attention(expected[:, stripe].copy(), params[name], form)
            np.testing.assert_allclose(state["intermediates"][name]["channel_gate"][0], channel, atol=1e-6)
            assert state["intermediates"][name]["spatial_gate"][0].shape == (2, rows, 4)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    assert len(params) == sum(parts)


def test_no_parts_is_the_identity():
    x = feature_map()
    y, variables = CascadedPartAttention(parts=()).init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)
    assert not variables


def test_bfloat16_map_keeps_dtype_with_float32_gates_and_parameters():
    x = feature_map().astype(jnp.bfloat16)
    model = CascadedPartAttention(parts=(3, 1))
    variables = model.init(jax.random.key(0), x)
    y, state = model.apply(variables, x, mutable=["intermediates"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, state))} == {jnp.dtype("float32")}
    expected = model.apply(variables, x.astype(jnp.float32))
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parts": (4, 0)}, r"parts is \(4, 0\); expected numbers from 1 on"),
        ({"parts": (1,), "form": "soft"}, "form is 'soft'; expected one of 'mask', 'literal'"),
        ({"parts": (1,), "kernel_size": 4}, "kernel_size is 4; expected an odd size"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        CascadedPartAttention(**fields).init(jax.random.key(0), feature_map())
