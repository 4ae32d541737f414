"""cmGAN: its losses are those of the public code, each player minimizes its own, and the game is played."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import originals
from helpers.steps import CLASSES, DIMS, drawn_batch, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.losses import Examples
from jax_mspac.methods.cmgan import CmGan
from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.modality_discriminator import ModalityDiscriminator
from jax_mspac.runtime import parallel

# Of two sets of features: L_G - 0.05 L_D, the two terms that have networks of their own, how often the discriminator is
# right, and the norms of the gradients: L_G - 0.05 L_D by the features, and its first three numbers in row 32; the
# identity loss by the layers of the head, L_D by those of the discriminator, weights before biases.
NUMBERS = {
    ("random", 103, 8): {
        "loss": 5.4854153,
        "identity": 4.4592298,
        "modality": 1.4463384,
        "discriminator_accuracy": 0.453125,
        "features": (0.4153757, [-2.41381e-05, -0.000723014, -0.00430789]),
        "id_classifier": [1.993723, 0.2760934, 1.900571, 0.1861843],
        "mode_classifier": [0.5066857, 0.0974639, 0.8008581, 0.107606, 0.7083632, 0.1305944],
    },
    ("mixed", 132, 2): {
        "loss": 6.937578,
        "identity": 4.1907674,
        "modality": 1.3843404,
        "discriminator_accuracy": 0.625,
        "features": (0.3863149, [0.000476498, -0.00272697, -0.00240308]),
        "id_classifier": [0.3336179, 0.1501566, 0.2919606, 0.05976245],
        "mode_classifier": [0.1157034, 0.07056454, 0.1752278, 0.06334787, 0.1265307, 0.0422822],
    },
}


class OfFeatures(CmGan):
    """Its views are features float32 [64, 512], the first half visible, as if the embedder had made them."""

    def examples(self, networks, view, key):
        features = {"before_neck": view[:, None, :]}
        logits = self.heads.apply(networks["heads"], features["before_neck"])
        return Examples(features, logits, np.tile(originals.IDENTITIES, 2), 32, gather=lambda x: x), {}


def layer(key):
    """Kernel and bias of a linear layer of the public code."""
    sizes = {
        "id_classifier": (512, 512, 8),
        "mode_classifier": (512, 1000, 500, 2),
    }[key.partition(".")[0]]
    number = int(key[-1])
    weight = originals.tensor(f"{key}.weight", (sizes[number], sizes[number - 1]))
    return weight.T, originals.tensor(f"{key}.bias", (sizes[number],))


def game_config(**changes):
    fields = {
        "method": "cmgan",
        "recipe": "config",
        "data.height": 32,
        "data.width": 16,
        "augment.erasing": 0.0,
        "batch.visible": 4,
        "batch.infrared": 4,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 2e-3,
        "optimizer.schedule": "constant",
        "optimizer.warmup": 0.0,
        **changes,
    }
    return methods.configured(tiny_config(**fields), chosen=set(fields))


@pytest.mark.parametrize("features", NUMBERS, ids=lambda features: features[0])
def test_losses_and_gradients_are_the_public_code_s(features):
    kernels = {key: layer(key) for key in ("id_classifier.fc1", "id_classifier.fc2")}
    kernels |= {key: layer(key) for key in ("mode_classifier.fc1", "mode_classifier.fc2", "mode_classifier.fc3")}

    def linear(key):
        return dict(zip(("kernel", "bias"), kernels[key], strict=True))

    (classifier, bias), hidden = kernels["id_classifier.fc2"], linear("id_classifier.fc1")
    heads = {"classifier_hidden_0": hidden, "classifier": classifier[None], "classifier_bias": bias[None]}
    names = ("hidden_0", "hidden_1", "logits")
    discriminator = {name: linear(f"mode_classifier.fc{number}") for number, name in enumerate(names, start=1)}
    made = methods.build(game_config(), num_identities=8)
    method = OfFeatures(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})
    expected, x = NUMBERS[features], originals.features(*features, 64)

    def embedder(x, heads):
        networks = {"heads": {"params": heads}, "discriminator": {"params": discriminator}}
        return method.loss(networks, x, jax.random.key(0))

    def told(discriminator):
        networks = {"heads": {"params": heads}, "discriminator": {"params": discriminator}}
        return method.tell_apart(networks, x, jax.random.key(0))[0]

    with jax.default_matmul_precision("highest"):
        of_both = jax.jit(jax.value_and_grad(embedder, argnums=(0, 1), has_aux=True))
        (total, outcome), (gradient, of_heads) = of_both(x, heads)
        loss, of_discriminator = jax.jit(jax.value_and_grad(told))(discriminator)
    found = {**outcome.metrics, "identity": 2 * outcome.metrics["identity"]}
    for name in ("loss", "identity", "modality", "discriminator_accuracy"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose([total, loss], [found["loss"], found["modality"]], rtol=1e-6)
    norm, first = expected["features"]
    np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=1e-4)
    np.testing.assert_allclose(gradient[32, :3], first, rtol=0, atol=1e-4 * np.abs(gradient[32]).max())
    hidden = of_heads["classifier_hidden_0"]
    of_heads = [hidden["kernel"], hidden["bias"], of_heads["classifier"], of_heads["classifier_bias"]]
    np.testing.assert_allclose(list(map(np.linalg.norm, of_heads)), expected["id_classifier"], rtol=1e-4)
    norms = [np.linalg.norm(of_discriminator[name][leaf]) for name in names for leaf in ("kernel", "bias")]
    np.testing.assert_allclose(norms, expected["mode_classifier"], rtol=1e-4)


def test_the_discriminator_s_schedule_is_of_the_steps_that_it_moves_in():
    config = game_config(**{"train.steps": 10, "optimizer.schedule": "cosine", "optimizer.weight_decay": 0.0})
    method = methods.build(config, num_identities=CLASSES)
    player = method.players["discriminator"]
    assert player.every == 5
    params = {"discriminator": {"params": np.ones(3, np.float32)}}
    state, sizes = player.optimizer.init(params), []
    for _ in range(3):
        updates, state = player.optimizer.update(params, state, params)
        sizes.append(float(np.abs(updates["discriminator"]["params"]).max()))
    # A cosine over two moves: whole, half, nothing.
    np.testing.assert_allclose(np.array(sizes) / 2e-3, [1, 0.5, 0], atol=1e-3)


@pytest.mark.parametrize("bad", ["visible", "infrared"])
def test_a_modality_that_is_missing_is_named(bad):
    config = game_config(**{f"batch.{bad}": 0})
    with pytest.raises(UserError, match=rf"config\.batch\.{bad} is 0; expected 1 or more, because cmGAN's"):
        config_lib.validate(config)


@pytest.fixture
def small(monkeypatch):
    """Accuracies of a small discriminator in each step of a small network on drawn people."""
    monkeypatch.setitem(BACKBONES, "resnet10", resnet.backbone(resnet.BasicBlock, (1, 0, 0, 0)))

    def accuracies(steps, **changes):
        config = game_config(**{"model.width": 8, "cmgan.every": 1, "cmgan.rate_factor": 2.0, **changes})
        made = methods.build(config, num_identities=CLASSES)
        method = dataclasses.replace(made, discriminator=ModalityDiscriminator(hidden=(64, 32)))
        device = jax.local_devices()[:1]
        update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], device)
        # As a step leaves it, or the second one would be compiled again.
        state = parallel.replicate(jax.jit(method.init)(jax.random.key(0, impl="rbg")), device)
        batches = [parallel.shard(drawn_batch(config, seed=seed), device) for seed in range(10)]
        told = []
        for step in range(steps):
            state, metrics = update(state, batches[step % 10])
            told.append(float(metrics["discriminator_accuracy"]))
        return np.array(told)

    return accuracies


@pytest.mark.slow
def test_the_embedder_hides_the_modality_where_it_plays_and_not_where_it_does_not(small):
    alone, played = (small(70, **{"cmgan.weight": weight}) for weight in (0.0, 1.0))
    # Both start alike, with a discriminator that knows nothing.
    assert alone[0] == played[0]
    assert alone[-20:].mean() > 0.9 and played[-20:].mean() < 0.75


def test_linear_layers_start_as_torch_s():
    method = methods.build(game_config(), num_identities=CLASSES)
    networks = jax.jit(method.init)(jax.random.key(0, impl="rbg")).training["networks"]
    heads, discriminator = networks["heads"]["params"], networks["discriminator"]["params"]
    layers = {512: [heads["classifier"]]}  # inputs -> what starts within 1 / sqrt(inputs) of 0
    layers |= {DIMS: [*heads["classifier_hidden_0"].values(), *discriminator["hidden_0"].values()]}
    layers |= {1000: [*discriminator["hidden_1"].values()], 500: [discriminator["logits"]["kernel"]]}
    for inputs, leaves in layers.items():
        for leaf in leaves:
            assert 0.9 * inputs**-0.5 < np.abs(leaf).max() <= inputs**-0.5
            np.testing.assert_allclose(np.std(leaf), (3 * inputs) ** -0.5, rtol=0.1)
