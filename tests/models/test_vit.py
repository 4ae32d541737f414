"""The vision transformer against torch's own layers, and what it does besides: positions, dropping, checkpointing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError
from jax_mspac.models import pretrained, vit
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.settings import SettingsError

HEADS, WIDTH, DEPTH = 4, 8, 2
CHANNELS = HEADS * WIDTH
SETTINGS = {"backbone": "tiny", "width": WIDTH, "parts": (), "shared_from": 0}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", vit.backbone(DEPTH, HEADS))


def images(n=2, height=40, width=28):
    rng = np.random.default_rng(1)
    return {m: rng.normal(size=(n, height, width, 3)).astype(np.float32) for m in ("visible", "infrared")}


def tensors(grid=(3, 2), depth=DEPTH):
    """Weights by timm's names, none of them as they start."""
    rng = np.random.default_rng(2)
    shapes = {
        "cls_token": (1, 1, CHANNELS),
        "pos_embed": (1, 1 + grid[0] * grid[1], CHANNELS),
        "patch_embed.proj.weight": (CHANNELS, 3, 16, 16),
        "patch_embed.proj.bias": (CHANNELS,),
        "norm.weight": (CHANNELS,),
        "norm.bias": (CHANNELS,),
    }
    for block in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * CHANNELS, CHANNELS),
            ("attn.proj", CHANNELS, CHANNELS),
            ("mlp.fc1", 4 * CHANNELS, CHANNELS),
            ("mlp.fc2", CHANNELS, 4 * CHANNELS),
        ):
            shapes |= {f"blocks.{block}.{name}.weight": (rows, columns), f"blocks.{block}.{name}.bias": (rows,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{block}.{norm}.{leaf}": (CHANNELS,) for leaf in ("weight", "bias")}
    made = {name: (0.2 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    return {name: 1 + value if "norm" in name and name.endswith("weight") else value for name, value in made.items()}


def loaded(given, **fields):
    model = Embedder(**{**SETTINGS, "patch_stride": 12, **fields})
    shapes = jax.eval_shape(lambda key: model.init(key, images(), train=False), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    return model, pretrained.load_into(variables, given, vit.TORCH_NAMES, source="w.pth")


def torch_network(given, torch, stride=12):
    """Pixels [n, 3, H, W] -> normalized tokens, of torch's own encoder layers."""
    functional, of = torch.nn.functional, {name: torch.from_numpy(x).requires_grad_() for name, x in given.items()}
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight",
        "self_attn.in_proj_bias": "attn.qkv.bias",
        **{f"self_attn.out_proj.{leaf}": f"attn.proj.{leaf}" for leaf in ("weight", "bias")},
        **{f"linear{i}.{leaf}": f"mlp.fc{i}.{leaf}" for i in (1, 2) for leaf in ("weight", "bias")},
        **{f"norm{i}.{leaf}": f"norm{i}.{leaf}" for i in (1, 2) for leaf in ("weight", "bias")},
    }
    layer = torch.nn.TransformerEncoderLayer(
        CHANNELS, HEADS, 4 * CHANNELS, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )

    def network(pixels):
        x = functional.conv2d(pixels, of["patch_embed.proj.weight"], of["patch_embed.proj.bias"], stride)
        x = torch.cat([of["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], dim=1) + of["pos_embed"]
        for block in range(DEPTH):
            own = {ours: of[f"blocks.{block}.{theirs}"] for ours, theirs in names.items()}
            x = torch.func.functional_call(layer, own, (x,))
        return functional.layer_norm(x, (CHANNELS,), of["norm.weight"], of["norm.bias"], 1e-6)

    return network, of


@pytest.mark.parametrize("tokens", ["class", "patches"])
def test_features_and_gradients_are_torch_s(tokens):
    torch = pytest.importorskip("torch")
    given = tensors()
    network, of = torch_network(given, torch)
    model, variables = loaded({**given, "head.weight": np.ones((5, CHANNELS), np.float32)}, tokens=tokens)
    x, weights = images(), np.random.default_rng(3).normal(size=(4, CHANNELS)).astype(np.float32)

    def features(params):
        return model.apply({**variables, "params": params}, x, train=False)["before_neck"][:, 0]

    def weighted(params):
        found = features(params)
        return (found * weights).sum(), found

    gradients, found = jax.jit(jax.grad(weighted, has_aux=True))(variables["params"])
    made = network(torch.from_numpy(np.concatenate([x["visible"], x["infrared"]])).permute(0, 3, 1, 2))
    wanted = made[:, 0] if tokens == "class" else made[:, 1:].mean(dim=1)
    np.testing.assert_allclose(found, wanted.detach(), atol=1e-5)
    (wanted * torch.from_numpy(weights)).sum().backward()
    gradients = pretrained.tensors_of({"params": gradients}, vit.TORCH_NAMES, source="gradients")
    assert gradients.keys() == of.keys()
    for name, value in gradients.items():
        scale = abs(of[name].grad).max()
        np.testing.assert_allclose(value, of[name].grad, atol=1e-4 * scale, err_msg=name)


def test_positions_are_resized_as_torch_does_and_come_back_as_they_are():
    torch = pytest.importorskip("torch")
    given = tensors(grid=(7, 7))
    _, variables = loaded(given)
    found = variables["params"]["backbone"]["shared"]["position_3x2"]
    square = torch.from_numpy(given["pos_embed"][:, 1:]).reshape(1, 7, 7, CHANNELS).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(square, (3, 2), mode="bilinear").flatten(2).mT
    np.testing.assert_allclose(found[:, 1:], wanted, atol=1e-6)
    np.testing.assert_array_equal(found[:, :1], given["pos_embed"][:, :1])
    back = pretrained.tensors_of(variables, vit.TORCH_NAMES, source="run")
    np.testing.assert_array_equal(back["pos_embed"], found)
    again = pretrained.load_into(variables, back, vit.TORCH_NAMES, source="run")
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_all_misfits_are_named_at_once():
    given = tensors(grid=(5, 3), depth=DEPTH + 1)  # the positions of 15 patches are of no square image
    del given["cls_token"]
    given["blocks.0.mlp.fc2.bias"] = given["blocks.0.mlp.fc2.bias"][:3]
    given["norm.weight"][0] = np.nan
    with pytest.raises(UserError) as error:
        loaded(given)
    _, *lines = str(error.value).splitlines()
    extra = [line for line in lines if "blocks.2." in line]
    assert len(extra) == 12 and all(line.endswith(": unexpected") for line in extra)
    assert sorted(line.strip() for line in lines if line not in extra) == [
        "blocks.0.mlp.fc2.bias: shape (3,), the backbone needs (32,)",
        "cls_token: missing",
        "norm.weight: not finite floating point numbers",
        "pos_embed: shape (1, 16, 32), the backbone needs (1, 7, 32)",
    ]


@pytest.mark.parametrize(
    ("shared_from", "own"),
    [(1, {"patches", "class_token", "position_3x2"}), (3, {"patches", "class_token", "position_3x2", "block_0"})],
)
def test_a_modality_has_patches_or_also_quarters_of_the_blocks_of_its_own(shared_from, own):
    model = Embedder(**{**SETTINGS, "patch_stride": 12, "shared_from": shared_from})
    shapes = jax.eval_shape(lambda key: model.init(key, images(), train=False), jax.random.key(0))
    backbone = shapes["params"]["backbone"]
    assert backbone["visible"].keys() == backbone["infrared"].keys() == own
    everything = {"patches", "class_token", "position_3x2", "block_0", "block_1", "norm"}
    assert backbone["shared"].keys() == everything - own


def test_checkpointed_blocks_give_the_same_gradients_and_keep_little_for_them():
    x = images(4)
    given, sizes, gradients = tensors(), [], []
    weights = np.random.default_rng(4).normal(size=(8, CHANNELS)).astype(np.float32)
    for remat in (False, True):
        model, variables = loaded(given, remat=remat, drop_path=0.3)

        def loss(params, model=model, variables=variables):
            features, _ = model.apply(
                {**variables, "params": params},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return (features["before_neck"][:, 0] * weights).sum()

        kept = jax.eval_shape(lambda params, loss=loss: jax.vjp(loss, params)[1], variables["params"])
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(kept)))
        gradients.append(jax.jit(jax.grad(loss))(variables["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradients)
    assert max(abs(leaf).max() for leaf in jax.tree.leaves(gradients[0])) > 1
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sizes[1] - parameters < 0.3 * (sizes[0] - parameters)


def test_products_are_bfloat16_and_parameters_and_features_float32():
    given, x = tensors(), images()
    model, variables = loaded(given, tokens="class", dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    lowered = jax.jit(lambda v: model.apply(v, x, train=False)).lower(variables)
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) == 6 * DEPTH and all("bf16" in line for line in products)
    found = lowered.compile()(variables)["before_neck"]
    wanted = jax.jit(lambda v: loaded(given, tokens="class")[0].apply(v, x, train=False))(variables)["before_neck"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=0.1)
    assert np.any(found != wanted)


def test_whole_images_or_single_numbers_are_dropped_each_by_its_key_and_the_mean_stays():
    keys, x = jax.random.split(jax.random.key(0), 2000), jnp.ones((2000, 2, 3))
    whole = vit.dropped(x, keys, 0.25, 0, whole=True).reshape(2000, -1)
    assert set(np.unique(whole)) == {np.float32(0), np.float32(4 / 3)}
    assert bool((whole == whole[:, :1]).all()) and abs(float((whole == 0).mean()) - 0.25) < 0.03
    single = vit.dropped(x, keys, 0.25, 0)
    assert abs(float((single == 0).mean()) - 0.25) < 0.015 and abs(float(single.mean()) - 1) < 0.02
    np.testing.assert_array_equal(vit.dropped(x, keys[::-1], 0.25, 0), single[::-1])
    assert bool((vit.dropped(x, keys, 0.25, 1) != single).any())
    assert vit.dropped(x, None, 0.25, 0) is x


def test_nothing_is_dropped_in_inference_and_without_a_key():
    x, given = images(), tensors()
    model, variables = loaded(given, tokens="class", drop_path=0.9, dropout=0.5)
    apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
    still = apply(variables, x, train=False)["before_neck"]
    kept, _ = apply(variables, x, train=True, mutable=("batch_stats",))
    np.testing.assert_allclose(kept["before_neck"], still, atol=1e-6)
    moving, _ = apply(variables, x, train=True, mutable=("batch_stats",), rngs={"dropout": jax.random.key(0)})
    assert abs(moving["before_neck"] - still).max() > 0.01


def test_settings_that_do_not_fit_are_named():
    (problem,) = Embedder(**SETTINGS | {"parts": (6, 3), "tokens": "class"}).misfits(96)
    assert (problem.field, problem.value) == ("parts", (6, 3)) and "model.tokens is 'class'" in problem.expected
    (problem,) = Embedder(**SETTINGS | {"parts": (4,), "patch_stride": 12}).misfits(96)
    assert "7 rows" in problem.expected and problem.expected.endswith("work: 52 or 100")
    (problem,) = Embedder(**SETTINGS).misfits(12)
    assert problem.field == "backbone" and "12" in problem.expected
    with pytest.raises(UserError, match="40x12 pixels: a ViT needs 16x16 or more"):
        Embedder(**SETTINGS).init(jax.random.key(0), images(width=12), train=False)
    with pytest.raises(SettingsError) as error:
        Embedder(**SETTINGS | {"nonlocal_blocks": True, "patch_stride": 17, "tokens": "all", "drop_path": 1.0})
    assert {problem.field: problem.expected for problem in error.value.problems} == {
        "nonlocal_blocks": "False, because tiny has no such setting",
        "patch_stride": "1 to 16",
        "tokens": "one of 'patches', 'class'",
        "drop_path": "a fraction from 0 to below 1",
    }
    with pytest.raises(SettingsError, match="tokens is 'class'; expected 'patches', because resnet18 has no such"):
        Embedder(tokens="class")


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("mspac", None),
        ("hetero_center", None),
        ("msr", None),
        ("bdtr", None),
        ("agw", "nonlocal_blocks is True; expected False, because vit_b16"),
        ("deen", "multi_scale is True; expected False, because vit_b16"),
    ],
)
def test_other_systems_work_on_a_map_of_patches_or_say_what_they_need(method, told):
    from jax_mspac import methods

    config = config_lib.default_config()
    config.method, config.model.backbone, config.model.width = method, "vit_b16", 4
    config = methods.configured(config)
    if told:
        with pytest.raises(UserError, match=told):
            config_lib.validate(config)
        return
    config_lib.validate(config)
    jax.eval_shape(methods.build(config, num_identities=4).init, jax.random.key(0))
