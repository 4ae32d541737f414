"""PMT: its stages, its rates, and a transformer that drops the same on any number of devices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from helpers import originals
from helpers.steps import CLASSES, make_batch, run, tiny_config

import jax_mspac
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods import augmentation, optimizers
from jax_mspac.models import layouts, vit
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runs import conversion

STEPS, GRAY = 6, 2


@pytest.fixture
def config(monkeypatch):
    """Two blocks of 32 channels; two steps of six are gray, and much is dropped."""
    monkeypatch.setitem(BACKBONES, "vit_b16", vit.backbone(depth=2, heads=4))
    config = tiny_config(**{"method": "pmt", "model.width": 8, "train.steps": STEPS, "pmt.gray": GRAY / STEPS})
    config = methods.configured(config, chosen={"batch.identities", "batch.visible", "batch.infrared"})
    config.model.drop_path, config.model.dropout = 0.5, 0.1
    config_lib.validate(config)
    return config


def test_stages_have_their_losses_and_four_devices_do_what_one_does(config):
    # AdamW would make steps of gradients that are rounding alone, as those of the last normalization's bias.
    config.optimizer.name, config.optimizer.learning_rate = "sgd", 0.01
    (one, history), (four, of_four) = run(config, 1, steps=4), run(config, 4, steps=4)
    for step, (metrics, other) in enumerate(zip(history, of_four, strict=True)):
        first = step < GRAY
        assert (metrics["intra_modality"] > 0) == first
        for name in ("batch_hard", "modality_shared", "discriminative_center"):
            assert (metrics[name] > 0) == (not first), (step, name)
        weights = {name: config.loss[name].weight for name in ("batch_hard", "modality_shared", "intra_modality")}
        total = sum(weight * metrics[name] for name, weight in weights.items())
        total += 2 * metrics["identity"] + 0.5 * metrics["discriminative_center"]
        np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
        np.testing.assert_allclose(list(metrics.values()), list(other.values()), rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.variables, four.variables)


def test_visible_images_are_gray_in_the_first_stage_alone(config):
    for name in ("pad", "flip", "erasing"):
        config.augment[name] = 0
    method = methods.build(config, num_identities=CLASSES)
    batch = jax.tree.map(lambda x: x[0], make_batch(config))
    batch["visible"]["image"][..., 0] //= 2
    view = jax.jit(lambda step: method.view(batch, step)[0])
    given = batch["visible"]["image"].astype(np.float32)
    gray = (given @ np.float32([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=-1)
    for step in (0, GRAY - 1, GRAY, STEPS):
        wanted = augmentation.normalize(jnp.asarray(gray if step < GRAY else given))
        np.testing.assert_allclose(view(step)["visible"], wanted, atol=1e-4)


def test_patches_and_blocks_learn_at_half_the_rate_and_all_else_at_the_whole(config):
    method = methods.build(config, num_identities=CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    params = {"embedder": state.variables["embedder"]["params"], "heads": state.training["networks"]["heads"]["params"]}
    groups = {"/".join(path): method.group("/".join(path)) for path in traverse_util.flatten_dict(params)}
    slow = {name for name, group in groups.items() if group == "backbone"}
    shared = "embedder/backbone/shared/"
    assert slow == {name for name in groups if name.startswith((f"{shared}patches/", f"{shared}block_"))}
    assert {group for name, group in groups.items() if name not in slow} == {"heads"}
    assert {f"{shared}class_token", f"{shared}norm/bias", f"{shared}position_5x2"} <= groups.keys() - slow


def test_rates_at_the_ends_of_epochs_are_the_public_code_s():
    config = config_lib.default_config()
    config.method, epochs, length = "pmt", 24, 50
    recipe = optimizers.Recipe(**dict(methods.configured(config).optimizer))
    rate = optimizers.learning_rate(recipe, epochs * length)
    # Its scheduler is asked at the start of epoch 1, 2, ...: three epochs up from 1 %, and a cosine from epoch 0 on.
    for epoch in range(1, epochs):
        cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * epoch / epochs)) / 2
        wanted = 0.01 + 0.99 * epoch / 3 if epoch < 3 else cosine
        np.testing.assert_allclose(rate(epoch * length), 3e-4 * wanted, rtol=1e-5)
    np.testing.assert_allclose(rate(0), 3e-6, rtol=1e-5)


def test_the_share_of_gray_steps_is_checked():
    config = config_lib.default_config()
    config.method, config.pmt.gray = "pmt", 1.5
    with pytest.raises(UserError, match=r"config\.pmt\.gray is 1\.5; expected 0 to 1"):
        config_lib.validate(methods.configured(config))


def public_tensors(depth=12, channels=48, positions=1 + 5 * 2):
    """What the public code saves, of a narrow network."""
    shapes = {
        "base.cls_token": (1, 1, channels),
        "base.pos_embed": (1, positions, channels),
        "base.patch_embed.proj.weight": (channels, 3, 16, 16),
        "base.patch_embed.proj.bias": (channels,),
        "base.norm.weight": (channels,),
        "base.norm.bias": (channels,),
        "classifier.weight": (5, channels),
        **{f"bottleneck.{name}": (channels,) for name in ("weight", "bias", "running_mean", "running_var")},
        "bottleneck.num_batches_tracked": (),
    }
    layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    for block in range(depth):
        for name, (rows, columns) in layers.items():
            shapes[f"base.blocks.{block}.{name}.weight"] = (rows * channels, columns * channels)
            shapes[f"base.blocks.{block}.{name}.bias"] = (rows * channels,)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"base.blocks.{block}.{name}"] = (channels,)
    tensors = {name: originals.tensor(name, shape) for name, shape in shapes.items() if shape}
    tensors["bottleneck.bias"][:] = 0
    return {**tensors, "bottleneck.num_batches_tracked": np.array(0, np.int64)}


def public_features(tensors, pixels, torch):
    """Unit features after the neck, of torch's own layers, depth 12 and 12 heads."""
    functional, of = torch.nn.functional, {name: torch.from_numpy(value) for name, value in tensors.items()}
    x = functional.conv2d(pixels, of["base.patch_embed.proj.weight"], of["base.patch_embed.proj.bias"], 12)
    x = torch.cat([of["base.cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], dim=1) + of["base.pos_embed"]
    norm = functools.partial(functional.layer_norm, normalized_shape=x.shape[-1:], eps=1e-5)
    for block in range(12):
        own = {name: of[f"base.blocks.{block}.{name}"] for name in _leaves(tensors, f"base.blocks.{block}.")}
        y = norm(x, weight=own["norm1.weight"], bias=own["norm1.bias"])
        qkv = functional.linear(y, own["attn.qkv.weight"], own["attn.qkv.bias"]).unflatten(2, (3, 12, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + functional.linear(y, own["attn.proj.weight"], own["attn.proj.bias"])
        y = norm(x, weight=own["norm2.weight"], bias=own["norm2.bias"])
        y = functional.gelu(functional.linear(y, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        x = x + functional.linear(y, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
    x = norm(x, weight=of["base.norm.weight"], bias=of["base.norm.bias"])[:, 0]
    neck = [of[f"bottleneck.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    return functional.normalize(functional.batch_norm(x, *neck, training=False))


def _leaves(tensors, prefix):
    return [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]


@pytest.mark.slow
def test_a_public_checkpoint_embeds_as_it_did_and_goes_back(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = public_tensors()
    torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, tmp_path / "SYSU_best.pth")
    config = config_lib.default_config("sysu_mm01")
    config.method, config.data.height, config.data.width = "pmt", 64, 32
    conversion.from_torch(tmp_path / "SYSU_best.pth", tmp_path / "run", config)
    model = jax_mspac.load(tmp_path / "run")
    pixels = np.random.default_rng(3).normal(size=(2, 64, 32, 3)).astype(np.float32)
    wanted = public_features(tensors, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), torch)
    for modality in ("visible", "infrared"):
        np.testing.assert_allclose(model.embed_normalized(pixels, modality), wanted, atol=1e-5)
    conversion.to_torch(tmp_path / "run", "latest", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["net"]
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)


def test_a_file_says_which_network_and_which_images_it_is_of():
    tensors = public_tensors(positions=211)
    layout = methods.named("pmt").layout
    assert layout.lacks(tensors) == [] and layout.classes(tensors) == 5
    held = {"model.backbone": "vit_b16", "model.width": 4, "data.height": 256, "data.width": 128}
    assert layout.settings(tensors) == held
    config = config_lib.default_config()
    config.method = "pmt"
    config = methods.configured(config)
    config.update_from_flattened_dict(held)
    shapes = jax.eval_shape(methods.build(config, num_identities=5).init, jax.random.key(0))
    zeros = {**shapes.variables, **shapes.training["networks"]}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), zeros)
    loaded = layouts.load(zeros, tensors, layout, vit.TORCH_NAMES, source="w")
    assert all(np.any(leaf) for leaf in jax.tree.leaves(loaded))
    assert layouts.tensors_of(loaded, layout, vit.TORCH_NAMES, source="run").keys() == tensors.keys()
