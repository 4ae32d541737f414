"""A backbone that is no ResNet, as the documentation adds it: one file and a row of `BACKBONES`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import pages
from helpers.steps import make_batch, run, tiny_config

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError
from jax_mspac.models import pretrained
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.pretrained import TorchNames
from jax_mspac.settings import SettingsError

PATCHES = pages.module_of("extend.md", "A backbone").PATCHES


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(BACKBONES, "patches", PATCHES)
    # The normalization and the convolution are Flax's, which rely on it.
    with jax.numpy_rank_promotion("allow"):
        yield


def images(n=3):
    rng = np.random.default_rng(1)
    return {m: jnp.asarray(rng.normal(size=(n, 48, 24, 3)), jnp.float32) for m in ("visible", "infrared")}


def test_it_embeds_both_modalities_with_patches_of_their_own():
    model = Embedder(backbone="patches", width=16, parts=(3, 1), stripes=2)
    variables = model.init(jax.random.key(0), images(), train=False)
    backbone = variables["params"]["backbone"]
    assert backbone["visible"].keys() == backbone["infrared"].keys() == {"patches"}
    assert backbone["shared"].keys() == {"norm_0", "dense_0", "norm_1", "dense_1"}
    both = model.apply(variables, images(), train=False)["after_neck"]
    assert both.shape == (6, 2, 16)
    alone = model.apply(variables, {"infrared": images()["infrared"]}, train=False)["after_neck"]
    np.testing.assert_allclose(alone, both[3:], atol=1e-5)


def test_its_stride_and_its_settings_are_checked():
    (problem,) = Embedder(backbone="patches", parts=(4,)).misfits(48)
    assert "6 rows" in problem.expected and "work: 32 or 64" in problem.expected.replace("heights that ", "")
    with pytest.raises(SettingsError) as error:
        Embedder(backbone="patches", nonlocal_blocks=True, last_stride=2, width=0, shared_from=4)
    assert {problem.field: problem.expected for problem in error.value.problems} == {
        "nonlocal_blocks": "False, because patches has no such setting",
        "last_stride": "1, because patches has no such setting",
        "width": "1 or more",
        "shared_from": "0 to 3",
    }


def test_a_config_names_it_and_training_lowers_its_loss(monkeypatch):
    config = tiny_config(**{"model.backbone": "patches", "model.width": 16, "optimizer.warmup": 0.0})
    config_lib.validate(config)
    batch = make_batch(config)
    monkeypatch.setattr("helpers.steps.make_batch", lambda *args, **options: batch)
    _, history = run(config, devices=1, steps=8)
    losses = [metrics["loss"] for metrics in history]
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
    config.model.nonlocal_blocks = True
    with pytest.raises(UserError, match="config.model.nonlocal_blocks is True; expected False, because patches"):
        config_lib.validate(config)


def torch_network(width):
    """The same network in torch, with a classifier that has no place in an embedder."""
    torch = pytest.importorskip("torch")

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = torch.nn.LayerNorm(width), torch.nn.Linear(width, width)

        def forward(self, x):
            return x + torch.nn.functional.gelu(self.fc(self.norm(x)), approximate="tanh")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Module()
            self.embed.proj = torch.nn.Conv2d(3, width, 8, 8, bias=False)
            self.blocks = torch.nn.ModuleList([Block(), Block()])
            self.head = torch.nn.Linear(width, 5)

        def forward(self, x):
            return self.blocks[1](self.blocks[0](self.embed.proj(x).permute(0, 2, 3, 1)))

    torch.manual_seed(0)
    network = Network()
    for parameter in network.parameters():  # none of them as it starts
        parameter.data += 0.1 * torch.randn_like(parameter)
    return torch, network


def loaded(tensors, **fields):
    model = Embedder(backbone="patches", width=16, parts=(), **fields)
    variables = model.init(jax.random.key(1), images(), train=False)
    return model, pretrained.load_into(variables, tensors, PATCHES.torch_names, source="w.pth")


@pytest.mark.parametrize("shared_from", [0, 1, 3])
def test_torch_s_weights_give_torch_s_features_and_come_back(shared_from):
    torch, network = torch_network(16)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    model, variables = loaded(tensors, shared_from=shared_from)
    x = images()
    with torch.no_grad():
        maps = network(torch.from_numpy(np.concatenate([x["visible"], x["infrared"]])).permute(0, 3, 1, 2))
    features = model.apply(variables, x, train=False)["before_neck"][:, 0]
    np.testing.assert_allclose(features, maps.mean(dim=(1, 2)), atol=1e-5)
    back = pretrained.tensors_of(variables, PATCHES.torch_names, source="run")
    assert {name.removeprefix("visible/").removeprefix("infrared/") for name in back} == {
        name for name in tensors if not name.startswith("head.")
    }
    for name, value in back.items():
        np.testing.assert_array_equal(value, tensors[name.removeprefix("visible/").removeprefix("infrared/")])


def test_all_misfits_are_named_at_once():
    _, network = torch_network(16)
    tensors = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    del tensors["blocks.0.norm.bias"]
    tensors["blocks.1.fc.weight"] = tensors["blocks.1.fc.weight"][:3]
    tensors["blocks.1.fc.bias"][2] = np.nan
    tensors["blocks.2.fc.bias"] = np.ones(16, np.float32)
    with pytest.raises(UserError) as error:
        loaded(tensors)
    head, *lines = str(error.value).splitlines()
    assert head.startswith("w.pth: ")
    assert sorted(line.strip() for line in lines) == [
        "blocks.0.norm.bias: missing",
        "blocks.1.fc.bias: not finite floating point numbers",
        "blocks.1.fc.weight: shape (3, 16), the backbone needs (16, 16)",
        "blocks.2.fc.bias: unexpected",
    ]


def test_gray_channels_get_the_sum_of_the_colors():
    _, network = torch_network(16)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    _, variables = loaded(tensors, shared_from=0, input_form="zero_padding")
    kernel = variables["params"]["backbone"]["shared"]["patches"]["kernel"]
    np.testing.assert_allclose(kernel[1, 2, 0], tensors["embed.proj.weight"][:, :, 1, 2].sum(axis=1), atol=1e-6)
    np.testing.assert_array_equal(kernel[:, :, 0], kernel[:, :, 1])


def test_a_leaf_without_a_row_is_an_error_of_the_backbone():
    names = TorchNames(rows=PATCHES.torch_names.rows[1:])
    variables = Embedder(backbone="patches", width=4, parts=()).init(jax.random.key(0), images(), train=False)
    with pytest.raises(ValueError, match=r"patches/kernel: no row"):
        pretrained.load_into(variables, {}, names, source="w.pth")
