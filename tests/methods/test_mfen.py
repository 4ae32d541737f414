"""MFEN: its parts are switches, a run resumes to the bit, and its transforms are float32 in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from helpers import small_runs
from helpers.shallow import TWO_STAGES
from helpers.steps import CLASSES, DIMS, make_batch, run, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.losses import Examples
from jax_mspac.methods import optimizers
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runtime import parallel
from jax_mspac.training.loop import train

OFF = {
    "augment.amplitude_exchange": 0.0,
    "model.frequency_bands": 0,
    "model.frequency_statistics": False,
    "loss.identity_parts": "apart",
    "loss.divergence.weight": 0.0,
}


def mfen(**changes):
    fields = {"method": "mfen", "model.parts": (), "model.frequency_channels": 4, **changes}
    chosen = {"batch.identities", "batch.visible", "batch.infrared", *fields}
    config = methods.configured(tiny_config(**fields), chosen=chosen)
    config_lib.validate(config)
    return config


def shapes(config):
    state = jax.eval_shape(methods.build(config, num_identities=CLASSES).init, jax.random.key(0))
    return traverse_util.flatten_dict({**state.variables, **state.training["networks"]}, sep="/")


def test_without_its_parts_it_is_an_ordinary_network_and_each_adds_its_own():
    plain, whole = shapes(mfen(**OFF)), shapes(mfen())
    assert not any("frequency" in name for name in plain)
    assert plain["embedder/params/neck/scale"].shape == (DIMS,)
    assert plain["heads/params/classifier"].shape[:2] == (1, DIMS)
    assert whole["embedder/params/neck/scale"].shape == (2 * DIMS,)
    assert whole["heads/params/classifier"].shape[:2] == (2, DIMS)
    experts = {name for name in whole if "frequency" in name}
    assert {name.split("/")[4] for name in experts} == {"frequency2", "frequency3"} and len(experts) == 2 * 17


def test_the_loss_is_the_sum_of_its_formulas():
    config = mfen()
    method = methods.build(config, num_identities=CLASSES)
    rng, labels = np.random.default_rng(0), np.array([0, 0, 1, 1, 0, 1, 1])
    features = rng.normal(size=(7, 2, 4)).astype(np.float32)
    logits = rng.normal(size=(7, 2, CLASSES)).astype(np.float32)
    examples = Examples({"before_neck": features, "after_neck": features}, logits, labels, 4, lambda x: x)
    total, terms = method.weighted(examples, {})

    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    identity = -np.mean(np.log(p[np.arange(7), :, labels].mean(axis=1)))
    pairs = [(i, j) for i in range(4) for j in range(4, 7) if labels[i] == labels[j]]
    divergence = np.mean([np.sum((p[i] - p[j]) * np.log(p[i] / p[j]), axis=1) / 2 for i, j in pairs])
    hinges = []
    for part in (0, 1):
        d = np.linalg.norm(features[:, None, part] - features[None, :, part], axis=2)
        same = labels[:, None] == labels[None, :]
        hinges.append(np.maximum(0.6 + np.where(same, d, 0).max(1) - np.where(same, np.inf, d).min(1), 0).mean())
    expected = {"identity": identity, "divergence": divergence, "batch_hard": np.mean(hinges)}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-5)


def test_its_schedule_is_a_warm_up_and_a_cosine():
    config = config_lib.default_config()
    config.method = "mfen"
    recipe = optimizers.Recipe(**dict(methods.configured(config).optimizer))
    rate = optimizers.learning_rate(recipe, 1000)
    np.testing.assert_allclose([rate(82), rate(83), rate(83 + 917 // 2)], [0.02, 0.02, 0.01], rtol=2e-3)
    assert rate(41) < 0.0102 and rate(999) < 1e-6


@pytest.mark.slow
def test_in_bfloat16_transforms_are_float32_and_losses_differ_by_rounding():
    found = {dtype: run(mfen(**{"model.dtype": dtype}), 2, steps=2)[1] for dtype in ("float32", "bfloat16")}
    for low, high in zip(found["bfloat16"], found["float32"], strict=True):
        for name, value in high.items():
            assert low[name] == pytest.approx(value, rel=0.05, abs=0.02), name
    config = mfen(**{"model.dtype": "bfloat16", "augment.amplitude_exchange": 0.0})
    method = methods.build(config, num_identities=CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], jax.local_devices()[:1])
    text = update.lower(state, make_batch(config)).as_text()
    transforms = [line for line in text.splitlines() if "stablehlo.fft" in line]
    assert transforms and all("f32" in line and "bf16" not in line for line in transforms)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit(tmp_path):
    folder = small_runs.draw(tmp_path)
    fields = {
        "method": "mfen",
        "model.parts": (),
        "model.backbone": TWO_STAGES,
        "model.width": 4,
        "model.frequency_channels": 4,
        "batch.identities": 4,
        "train.steps": 3,
        "checkpoint.every": 1,
        "checkpoint.keep": 3,
        "eval.every": 0,
    }
    config = methods.configured(small_runs.config_of(folder, **fields), chosen=fields)
    assert config.augment.amplitude_exchange == 0.5 and config.model.frequency_statistics
    whole = train(config, tmp_path / "whole")
    small_runs.killed_after(tmp_path / "whole", 1, tmp_path / "again")
    assert train(config, tmp_path / "again")["rows"] == whole["rows"]
    assert small_runs.metrics_of(tmp_path / "again") == small_runs.metrics_of(tmp_path / "whole")
    method = methods.build(config, num_identities=5)

    def last(run):
        with Checkpoints(tmp_path / run / FOLDER, read_only=True) as checkpoints:
            return checkpoints.restore(3, jax.eval_shape(method.init, jax.random.key(0)))

    one, again = last("whole"), last("again")
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert np.abs(one.variables["embedder"]["params"]["backbone"]["shared"]["frequency2"]["bn"]["scale"]).max() > 0


def test_both_parts_of_an_embedding_count_alike():
    config = mfen()
    method = methods.build(config, num_identities=CLASSES)
    variables = jax.jit(method.init)(jax.random.key(0)).variables
    images = make_batch(config)["visible"]["image"][0]
    found = jax.jit(lambda: method.embed(variables, jnp.asarray(images), "visible"))()
    for features in found.values():
        np.testing.assert_allclose(np.linalg.norm(features.reshape(len(images), 2, -1), axis=2), 1, rtol=1e-5)
