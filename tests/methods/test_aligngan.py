"""AlignGAN: settings that do not fit are named, devices choose alike, and visible images pass the generator."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.steps import make_batch, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods import augmentation
from jax_mspac.modalities import MODALITIES
from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runtime import parallel

CLASSES = 6


def game_config(**changes):
    fields = {
        "method": "aligngan",
        "data.height": 32,
        "data.width": 16,
        "augment.erasing": 0.0,
        "batch.identities": 4,
        "batch.visible": 2,
        "batch.infrared": 2,
        "aligngan.blocks": 1,
        "aligngan.layers": 3,
        **changes,
    }
    return methods.configured(tiny_config(**fields), chosen=set(fields))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch.identities": 3}, r"batch\.identities is 3; expected 4 or more, .* \(aligngan\.identities\)"),
        ({"batch.visible": 0, "batch.infrared": 4}, r"batch\.visible is 0; expected 1 or more, because AlignGAN"),
        ({"batch.infrared": 0}, r"batch\.infrared is 0; expected 1 or more, because AlignGAN"),
        ({"batch.infrared": 3}, r"batch\.infrared is 3; expected 2, as batch\.visible"),
        ({"data.height": 34}, r"data\.height is 34; expected a multiple of 4"),
        ({"data.width": 18}, r"data\.width is 18; expected a multiple of 4"),
        ({"aligngan.layers": 5}, r"aligngan\.layers is 5; expected fewer, as images of 32x16 pixels"),
        ({"aligngan.pixel_warmup": 0.9}, r"aligngan\.pixel_warmup is 0\.9; expected less than 1 together"),
        ({"augment.channel_augmentation": True}, r"augment\.channel_augmentation is True; expected False"),
        ({"model.shared_from": 1}, r"model\.shared_from is 1; expected 0"),
        ({"loss.mecen.weight": 1.0}, r"loss\.mecen\.weight is 1\.0; expected 0, because AlignGAN has losses"),
        ({"loss.classifier_hidden": 0}, r"loss\.classifier_hidden is 0; expected 1 or more"),
        ({"eval.feature": "after_neck"}, r"eval\.feature is 'after_neck'; expected a feature of aligngan: before_neck"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, expected):
    with pytest.raises(UserError, match=expected):
        config_lib.validate(game_config(**changes))


def test_devices_choose_the_same_identities_and_others_in_turn():
    method = methods.build(game_config(**{"batch.identities": 4, "aligngan.identities": 2}), num_identities=CLASSES)

    def chosen(batch):
        _, part = method.parts(batch, jnp.int32(0))
        labels = part.labels["infrared"]
        return {"own": labels, "others": method.of_others(labels[:, None])[:, 0]}

    told = []
    for devices in (1, 2):
        config = game_config()
        batch = make_batch(config, devices)
        run = jax.pmap(chosen, axis_name=parallel.AXIS, devices=jax.local_devices()[:devices])
        told.append({name: np.asarray(of).ravel().tolist() for name, of in run(batch).items()})
    assert told[0] == told[1] == {"own": [0, 0, 2, 2], "others": [2, 2, 0, 0]}
    with pytest.raises(UserError, match=r"aligngan\.identities is 2, which 4 devices cannot share equally"):
        jax.pmap(chosen, axis_name=parallel.AXIS)(make_batch(game_config(), 4))


def test_phases_are_parts_of_the_run_and_each_player_has_its_own():
    method = methods.build(game_config(**{"train.steps": 251, "recipe": "own"}), num_identities=CLASSES)
    spans = {name: player.spans for name, player in method.players.items()}
    assert spans == {
        "encoder": ((1, 50), (151, 251)),
        "generators": ((51, 251),),
        "warmup": ((51, 150),),
        "discriminators": ((151, 251),),
    }
    whole = {name for player in method.players.values() for name in player.networks}
    state = jax.eval_shape(method.init, jax.random.key(0))
    assert whole == {*state.variables, *state.training["networks"]}


def test_generators_and_discriminators_have_widths_of_their_own():
    def first_channels(**changes):
        method = methods.build(game_config(**changes), num_identities=CLASSES)
        state = jax.eval_shape(method.init, jax.random.key(0))
        networks = {**state.variables, **state.training["networks"]}
        names = "embedder", "to_infrared", "to_visible", "discriminator_visible", "discriminator_infrared_warmup"
        # Of images, that is of three channels, there is a single kernel in each.
        return [
            next(leaf.shape[-1] for leaf in jax.tree.leaves(networks[name]["params"]) if leaf.shape[-2:-1] == (3,))
            for name in names
        ]

    assert first_channels(**{"model.width": 4}) == [4, 4, 4, 4, 4]
    widths = {"aligngan.generator_width": 5, "aligngan.discriminator_width": 6}
    assert first_channels(**{"model.width": 4, **widths}) == [4, 5, 5, 6, 6]


@pytest.fixture(scope="module")
def made():
    """A method with a small network, and its variables, running statistics moved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet18", resnet.backbone(resnet.BasicBlock, (1, 0, 0, 0)))
        method = methods.build(game_config(), num_identities=CLASSES)
        yield method, jax.jit(method.init)(jax.random.key(0, impl="rbg")).variables


def test_visible_images_pass_the_generator_and_infrared_ones_do_not(made):
    method, variables = made
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 16, 3)).astype(np.uint8)
    made_infrared = method.translate(variables, images, "visible")
    assert made_infrared.dtype == jnp.uint8 and made_infrared.shape == images.shape
    visible, again, plain = (
        method.embed(variables, of, modality)["before_neck"]
        for of, modality in ((images, "visible"), (made_infrared, "infrared"), (images, "infrared"))
    )
    # But for the rounding of pixels.
    np.testing.assert_allclose(visible, again, atol=0.05 * np.abs(visible).max())
    seen = method.embedder.apply(variables["embedder"], {"infrared": augmentation.normalize(images)}, train=False)
    np.testing.assert_allclose(plain, seen["before_neck"][:, 0], rtol=1e-4, atol=1e-4)
    assert np.abs(visible - plain).max() > 0.1 * np.abs(plain).max()


def test_the_encoder_sees_its_own_size(made):
    method, variables = made
    larger = dataclasses.replace(method, alignment=dataclasses.replace(method.alignment, height=64, width=48))
    images = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (1, 32, 16, 3)), jnp.float32)
    assert larger.resized(images).shape == (1, 64, 48, 3)
    assert set(method.embed(variables, np.zeros((1, 32, 16, 3), np.uint8), MODALITIES[0])) == {"before_neck"}
