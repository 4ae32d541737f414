"""The training step of MSPAC-MeCen: devices, reproducibility, learning, parameter groups."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers.steps import CLASSES, DIMS, K, P, make_batch, run, tiny_config

from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.runs.checkpoints import Checkpoints
from jax_mspac.runtime import parallel

LOSSES = ("identity", "mecen", "hetero_center", "batch_hard")
# All of one program for each number of devices, so that compilations are few.
EVERYTHING = {
    "loss.mecen.weight": 0.25,
    "loss.batch_hard.weight": 2.0,
    "loss.hetero_center.weight": 0.5,
    "loss.label_smoothing": 0.1,
    # A small one: after a large step the rounding of sums decides which of two images is the harder one.
    "optimizer.learning_rate": 0.001,
}


def test_four_devices_do_what_one_does_and_hold_the_same_state():
    config = tiny_config(**EVERYTHING)
    (one, one_metrics), (four, four_metrics) = run(config, 1, steps=2), run(config, 4, steps=2)
    for first, second in zip(one_metrics, four_metrics, strict=True):
        assert first.keys() == second.keys() == {"loss", "learning_rate", *LOSSES}
        np.testing.assert_allclose(list(first.values()), list(second.values()), rtol=2e-4)
        expected = sum(weight * first[name] for weight, name in zip((1, 0.25, 0.5, 2), LOSSES, strict=True))
        np.testing.assert_allclose(first["loss"], expected, rtol=1e-5)
    # Parameters, BatchNorm statistics, heads, centers and momenta: everything.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), *map(jax.device_get, (one, four)))
    for leaf in jax.tree.leaves(four):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 4 and shards[0].shape == leaf.shape
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0])


def test_step_is_reproducible_to_the_bit():
    config = tiny_config(**EVERYTHING)
    (one, one_metrics), (two, two_metrics) = run(config, 4, steps=2), run(config, 4, steps=2)
    assert one_metrics == two_metrics
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, (one, two)))


def test_loss_falls_on_one_batch():
    config = tiny_config(**{"augment.erasing": 0.0, "optimizer.learning_rate": 0.05, "train.steps": 40})
    method = methods.build(config, num_identities=CLASSES)
    used = jax.local_devices()[:1]
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
    state = parallel.replicate(jax.jit(method.init)(jax.random.key(0, impl="rbg")), used)
    losses = []
    for _ in range(20):
        state, metrics = update(state, parallel.shard(make_batch(config), used))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert int(state.step) == 20


def abstract_step(config):
    """The method, and the shapes of its state and metrics after a step: traced, not compiled."""
    method = methods.build(config, num_identities=CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), make_batch(config))
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], jax.local_devices()[:1])
    return method, *jax.eval_shape(update, state, batch)


def test_switched_off_losses_leave_no_trace():
    _, state, metrics = abstract_step(tiny_config(**{"loss.mecen.weight": 0.0}))
    assert metrics.keys() == {"loss", "identity", "learning_rate"}
    assert set(state.training["networks"]["heads"]["params"]) == {"classifier"}


def test_part_identity_loss_embeds_stripes():
    config = tiny_config(**{"loss.identity": "part", "model.stripes": 2, "model.parts": ()})
    method, state, _ = abstract_step(config)
    assert state.training["networks"]["heads"]["params"]["classifier"].shape == (2, DIMS, CLASSES)
    images = jax.ShapeDtypeStruct((P * K, config.data.height, config.data.width, 3), np.uint8)
    features = jax.eval_shape(lambda v, x: method.embed(v, x, "visible"), state.variables, images)
    assert features["after_neck"].shape == (P * K, 2 * DIMS)


@pytest.mark.parametrize("centers", ["normalize", "project"])
def test_projected_centers_stay_unit_and_others_need_not(centers):
    method = methods.build(tiny_config(**{"loss.mecen.centers": centers}), num_identities=CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    networks = {**state.variables, **state.training["networks"]}
    params = jax.tree.map(lambda x: np.full(x.shape, 2, x.dtype), {name: networks[name]["params"] for name in networks})
    lengths = np.linalg.norm(method.constrain(params)["heads"]["mecen"]["centers"], axis=1)
    np.testing.assert_allclose(lengths, 1.0 if centers == "project" else 2 * DIMS**0.5, rtol=1e-6)


@pytest.mark.parametrize("p, kept", [(-0.4, 1.0), (1.9, 1.9), (30.0, 10.0)])
def test_a_learned_exponent_of_gem_stays_in_its_range(p, kept):
    method = methods.build(tiny_config(**{"model.pooling": "gem"}), num_identities=CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    networks = {**state.variables, **state.training["networks"]}
    params = jax.tree.map(lambda x: np.full(x.shape, p, x.dtype), {name: networks[name]["params"] for name in networks})
    after = method.constrain(params)
    np.testing.assert_allclose(after["embedder"]["pooling"]["p"], kept)
    after["embedder"]["pooling"] = params["embedder"]["pooling"]
    jax.tree.map(np.testing.assert_array_equal, after, params)


def test_identity_loss_may_sit_before_the_neck():
    # The neck then has no part in the identity loss, and its scale no gradient.
    config = tiny_config(**{"loss.identity_feature": "before_neck", "loss.mecen.weight": 0.0})
    config.optimizer.decay_norms_and_biases = False
    state, (metrics,) = run(config, 1)
    np.testing.assert_array_equal(jax.device_get(state.variables["embedder"]["params"]["neck"]["scale"]), 1.0)
    np.testing.assert_allclose(metrics["loss"], metrics["identity"])


def test_groups_have_their_own_learning_rates():
    # A factor of zero freezes its group and no other.
    method = methods.build(tiny_config(**{"optimizer.backbone_factor": 0.0}), num_identities=CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    networks = {"embedder": state.variables["embedder"], "heads": state.training["networks"]["heads"]}
    ones = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), {name: networks[name]["params"] for name in networks})
    optimizer = method.players["embedder"].optimizer
    updates, _ = jax.jit(lambda ones: optimizer.update(ones, optimizer.init(ones), ones))(ones)
    backbone = jax.tree.leaves(updates["embedder"].pop("backbone"))
    assert backbone and all((leaf == 0).all() for leaf in backbone)
    assert {"neck", "attention"} <= updates["embedder"].keys() and updates["heads"].keys() == {"classifier", "mecen"}
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(updates))


def test_partition_that_does_not_divide_is_refused_before_anything_is_built():
    with pytest.raises(UserError, match="heights that work: 64 or 96"):
        methods.build(tiny_config(**{"data.height": 80}), num_identities=CLASSES)


def test_unknown_method_is_refused_with_the_names_there_are():
    with pytest.raises(UserError, match="mspac"):
        methods.build(tiny_config(method="mspack"), num_identities=CLASSES)


def test_method_is_a_value():
    # A dataclass of plain fields: two builds of one config are equal, so nothing hides in it.
    one, two = (methods.build(tiny_config(), num_identities=CLASSES) for _ in range(2))
    assert one == two and dataclasses.replace(one, seed=1) != two


def test_checkpoint_of_four_devices_goes_on_with_another_number(tmp_path):
    config = tiny_config(**EVERYTHING)
    method = methods.build(config, num_identities=CLASSES)
    state, _ = run(config, 4)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
    losses = {}
    for devices in (4, 1):
        with Checkpoints(tmp_path) as checkpoints:
            restored = checkpoints.restore(1, jax.eval_shape(method.init, jax.random.key(0)))
        jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state))
        used = jax.local_devices()[:devices]
        update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
        _, metrics = update(restored, parallel.shard(make_batch(config, devices, seed=1), used))
        losses[devices] = float(metrics["loss"])
    np.testing.assert_allclose(losses[1], losses[4], rtol=1e-4)


@pytest.mark.parametrize("alone, other", [("visible", "infrared"), ("infrared", "visible")])
def test_one_modality_alone_leaves_the_layers_of_the_other_as_they_are(alone, other):
    config = tiny_config(
        **{f"batch.{other}": 0, "loss.mecen.weight": 0.0, "loss.batch_hard.weight": 0.0, "model.shared_from": 2}
    )
    method = methods.build(config, num_identities=CLASSES)
    batch = make_batch(config)
    batch[other] = {name: values[:, :0] for name, values in batch[other].items()}
    used = jax.local_devices()[:1]
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
    state = jax.device_get(jax.jit(method.init)(jax.random.key(0, impl="rbg")))
    after, metrics = update(state, parallel.shard(batch, used))
    assert np.isfinite(float(metrics["loss"]))
    before, after = (
        jax.tree.leaves_with_path(one.variables["embedder"]["batch_stats"]) for one in (state, jax.device_get(after))
    )
    changed = {jax.tree_util.keystr(path): (a != b).any() for (path, a), (_, b) in zip(before, after, strict=True)}
    assert any(alone in name for name in changed) and any(other in name for name in changed)
    for name, moved in changed.items():
        assert moved == (other not in name), name
