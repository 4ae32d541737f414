"""Every learned system: what sets it apart, that devices do not matter to it, and that it learns."""

import jax
import numpy as np
import pytest
from helpers.shallow import TWO_STAGES
from helpers.steps import CLASSES, Training, drawn_batch, make_batch, tiny_config

from configs import (
    sysu,
    sysu_aligngan,
    sysu_caj_plus,
    sysu_d2rl,
    sysu_deen,
    sysu_mfen,
    sysu_mpanet,
    sysu_pmt,
    sysu_rle,
    sysu_slides,
    sysu_strong,
)
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods import augmentation
from jax_mspac.models import vit
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.studies import TABLES

# The losses of each system beside the identity loss.
LOSSES = {
    "tone_hcml": {"contrastive"},
    "tone": {"contrastive"},
    "one_stream": set(),
    "two_stream": set(),
    "zero_padding": set(),
    "bdtr": {"dual_constrained"},
    "cmgan": {"cross_modality_triplet"},
    "d2rl": {"batch_hard"},
    "ebdtr": {"center_constrained"},
    "msr": {"hetero_center"},
    "aligngan": set(),
    "hetero_center": {"hetero_center"},
    "hetero_center_triplet": {"hetero_center_triplet"},
    "agw": {"weighted_regularized"},
    "caj": {"weighted_regularized"},
    "caj_plus": {"weighted_regularized", "view_consistency"},
    "mpanet": {"center_cluster", "separation"},
    "rle": {"batch_hard"},
    "deen": {"batch_hard", "pair_mining", "alignment"},
    "pmt": {"intra_modality", "batch_hard", "modality_shared", "discriminative_center"},
    "mfen": {"batch_hard", "divergence"},
    "mspac": {"mecen"},
}
# What it tells beside its losses.
FURTHER = {
    "cmgan": {"modality", "discriminator_accuracy"},
    "d2rl": {
        *("adversarial", "reconstruction", "kl", "cycle", "cycle_kl", "translation"),
        *("discriminators", "discriminator_accuracy"),
    },
    "mpanet": {"modality_identity", "mutual"},
    "msr": {"specific_identity", "view"},
    "aligngan": {
        *("triplet", "fooling_features", "fooling_visible", "fooling_infrared", "cycle", "mapping"),
        *("generators", "pixel_triplet", "pixel_identity"),
        *("discriminator_visible", "accuracy_visible", "discriminator_joint", "accuracy_joint"),
    },
}
# Of a system in phases the one in which all play; small networks.
SMALL = {
    "aligngan": {
        "aligngan.feature_warmup": 0.0,
        "aligngan.pixel_warmup": 0.0,
        "aligngan.blocks": 1,
        "aligngan.layers": 3,
        "data.height": 32,
        "data.width": 16,
    },
    # Adam makes a whole step of a gradient that is 0 but for rounding, such as that of a bias before instance
    # normalization: with this rate it is within the tolerance.
    "d2rl": {
        "d2rl.width": 2,
        "d2rl.blocks": 1,
        "d2rl.critic_width": 2,
        "d2rl.critic_layers": 2,
        "d2rl.learning_rate": 1e-6,
        # With some seeds rounding turns the sign of a pixel's difference, which is the gradient of an L1 loss.
        "seed": 1,
        "data.height": 32,
        "data.width": 16,
    },
}
SIZES = ("width", "height", "blocks", "layers")
STEPS = 20  # of a whole schedule
NO_LOSSES = {"loss", "identity", "learning_rate"}


@pytest.fixture(autouse=True)
def programs():
    """Those of each system are dropped after it: all together would take more maps of memory than a process may."""
    yield
    jax.clear_caches()


def system_config(name, **overrides):
    """Small images, whose map has as many rows as the systems have stripes; a narrow network, narrow features."""
    small = {"method": name, "data.height": 96, "data.width": 32, "model.parts": (), "train.steps": STEPS}
    small |= SMALL.get(name, {})
    config = tiny_config(**small | overrides)
    chosen = {"batch.identities", "batch.visible", "batch.infrared", "model.parts", *SMALL.get(name, {}), *overrides}
    if methods.METHODS[name].settings.get("model.embedding_dim"):
        config.model.embedding_dim = 8
        chosen.add("model.embedding_dim")
    config = methods.configured(config, chosen=chosen)
    config_lib.validate(config)
    return config


CONFIGS = [
    sysu,
    sysu_aligngan,
    sysu_caj_plus,
    sysu_d2rl,
    sysu_deen,
    sysu_mfen,
    sysu_mpanet,
    sysu_pmt,
    sysu_rle,
    sysu_slides,
    sysu_strong,
]
# A longer run of theirs is in `test_configs_train_without_a_number_that_is_not_finite`.
WITH_CONFIG = {"aligngan", "caj_plus", "d2rl", "deen", "mfen", "mpanet", "pmt", "rle"}
LEARNED = [name for name, system in methods.METHODS.items() if "descriptor.name" not in system.settings]


def test_every_system_is_here_and_in_the_table():
    assert set(LOSSES) == set(LEARNED)
    settings = [row.settings for row in TABLES["comparison"].rows]
    assert [row["method"] for row in settings] == list(methods.METHODS)
    # Beside the method, only where a system's own backbone cannot start from the weights of the others.
    assert [row for row in settings if len(row) > 1] == [{"method": "pmt", "model.pretrained": "none"}]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"mspac", "tone_hcml"}))
def test_four_devices_do_what_one_does_and_the_losses_are_the_system_s(name, monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit_b16", vit.backbone(depth=2, heads=8))
    config = system_config(name)
    training = Training(config, 1)
    (one, one_metrics), (four, four_metrics) = training.run(), Training(config, 4, start=training.start).run()
    for first, second in zip(one_metrics, four_metrics, strict=True):
        assert first.keys() == second.keys() == LOSSES[name] | NO_LOSSES | FURTHER.get(name, set())
        np.testing.assert_allclose(list(first.values()), list(second.values()), rtol=5e-4, atol=1e-6)
        weights = {loss: config.loss[loss].weight for loss in LOSSES[name]}
        total = config.loss.identity_weight * first["identity"]
        total += sum(weight * first[loss] for loss, weight in weights.items())
        total -= config.cmgan.weight * first.get("modality", 0.0)
        total += first.get("specific_identity", 0.0) + first.get("view", 0.0)
        total += first.get("triplet", 0.0) + 0.1 * first.get("fooling_features", 0.0)
        total += config.mpanet.identity_weight * first.get("modality_identity", 0.0)
        total += config.mpanet.weight * first.get("mutual", 0.0)
        np.testing.assert_allclose(first["loss"], total, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), *map(jax.device_get, (one, four)))
    if name not in WITH_CONFIG:
        assert_trains(training)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_configs_train_without_a_number_that_is_not_finite(config, monkeypatch):
    monkeypatch.setitem(BACKBONES, "resnet50", BACKBONES[TWO_STAGES])
    monkeypatch.setitem(BACKBONES, "vit_b16", vit.backbone(depth=2, heads=8))
    config = config.get_config()
    config = methods.configured(config, chosen=config_lib.chosen(config))
    config.data.height, config.data.width, config.model.width = 96, 32, 4
    config.aligngan.height = config.aligngan.width = 0
    config.batch.identities = min(config.batch.identities, CLASSES)
    config.train.steps = STEPS
    # The sizes alone: schedules and rates are what is tried.
    small = SMALL.get(config.method, {})
    config.update_from_flattened_dict({field: small[field] for field in small if field.endswith(SIZES)})
    assert_trains(Training(config, 1))


def assert_trains(training):
    state, metrics = training.run(steps=STEPS, batch=drawn_batch)
    assert np.isfinite([value for step in metrics for value in step.values()]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))


def test_channel_augmentation_is_a_gray_copy_of_each_visible_image_with_its_label():
    config = system_config("caj", **{"augment.erasing": 0.0, "augment.pad": 0, "augment.flip": 0.0})
    method = methods.build(config, num_identities=CLASSES)
    batch = jax.tree.map(lambda x: x[0], make_batch(config))
    images, labels = method.view(batch, jax.numpy.int32(3))
    count = len(batch["visible"]["label"])
    assert len(images["visible"]) == 2 * count and len(images["infrared"]) == count
    np.testing.assert_array_equal(labels[:count], labels[count : 2 * count])
    first, second = np.split(np.asarray(images["visible"]), 2)
    np.testing.assert_allclose(first, augmentation.normalize(batch["visible"]["image"]), atol=1e-4)
    for image, copy in zip(first, second, strict=True):
        matches = [np.allclose(copy, image[..., channel : channel + 1], atol=1e-4) for channel in range(3)]
        assert sum(matches) == 1


def test_settings_of_a_system_give_way_to_the_user_s():
    config = config_lib.default_config()
    config.method, config.loss.dual_constrained.margin = "bdtr", 0.7
    config.loss.dual_constrained.weight = 3.0
    configured = methods.configured(config, chosen={"loss.dual_constrained.weight"})
    assert configured.loss.dual_constrained.weight == 3.0 and configured.loss.dual_constrained.margin == 0.7
    assert configured.model.shared_from == 5 and configured.model.parts == () and configured.loss.mecen.weight == 0
    assert config.model.shared_from == 1  # the original is as it was


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_recipe_takes_back_nothing_that_makes_its_system(name):
    system = methods.METHODS[name]
    both = system.settings.keys() & system.recipe.keys()
    assert {field: system.settings[field] for field in both} == {field: system.recipe[field] for field in both}


def test_batches_keep_their_size_and_recipes_their_own():
    config = config_lib.default_config()
    config.method, config.recipe = "tone", "config"
    assert config.batch.identities * (config.batch.visible + config.batch.infrared) == 64
    configured = methods.configured(config)
    assert (configured.batch.identities, configured.batch.visible, configured.batch.infrared) == (32, 1, 1)
    assert configured.optimizer == config.optimizer
    config.recipe = "own"
    configured = methods.configured(config)
    assert (configured.batch.identities, configured.optimizer.learning_rate) == (64, 0.001)
    assert configured.optimizer.schedule == "constant" and configured.optimizer.weight_decay == 0


def test_the_method_of_the_slides_is_what_the_config_says():
    config = config_lib.default_config()
    assert methods.configured(config).to_json() == config.to_json()


@pytest.mark.parametrize("name", LEARNED)
def test_every_system_fits_the_default_config(name):
    config = config_lib.default_config()
    config.method = name
    configured = methods.configured(config)
    config_lib.validate(configured)
    state = jax.eval_shape(methods.build(configured, num_identities=CLASSES).init, jax.random.key(0))
    assert state.training["networks"]["heads"]["params"]["classifier"].shape[-1] == CLASSES


def test_a_method_that_does_not_exist_is_named():
    config = config_lib.default_config()
    config.method = "resnet"
    with pytest.raises(UserError, match="config.method is 'resnet'; there are hog_kissme, .*, tone, .*, mspac"):
        methods.configured(config)
