"""MSR: its losses against a transcription, what its own layers see, and a whole run with the metric at the end."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_runs
from helpers.shallow import TWO_STAGES
from helpers.steps import CLASSES, tiny_config

import jax_mspac
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.losses import Examples
from jax_mspac.methods.msr import Msr
from jax_mspac.models import resnet
from jax_mspac.models.backbone import passed_on
from jax_mspac.runs import results
from jax_mspac.training.loop import train

LABELS = np.array([0, 0, 1, 1, 3, 0, 1, 1, 3])  # five visible, four infrared


class OfFeatures(Msr):
    """Its views are features, as if the embedder had made them."""

    def examples(self, networks, view, key):
        features = {name: x[:, None, :] for name, x in view.items()}
        logits = self.heads.apply(networks["heads"], features["after_neck"])
        return Examples(features, logits, LABELS, 5, gather=lambda x: x), {}


def built(**changes):
    fields = {"method": "msr", "model.parts": (), **changes}
    config = methods.configured(tiny_config(**fields), chosen=set(fields))
    return methods.build(config, num_identities=CLASSES)


def test_the_loss_is_the_formula():
    made = built(**{"msr.specific_weight": 0.5, "msr.view_weight": 0.25, "loss.hetero_center.weight": 2.0})
    method = OfFeatures(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(9, 7)).astype(np.float32)
    classifier = rng.normal(size=(7, CLASSES))
    kernels = {
        name: rng.normal(size=(4, size)) for name, size in (("visible", CLASSES), ("infrared", CLASSES), ("view", 2))
    }
    biases = {name: rng.normal(size=kernel.shape[1]) for name, kernel in kernels.items()}
    heads = {name: {"kernel": kernels[name], "bias": biases[name]} for name in kernels}
    networks = {"heads": {"params": {"classifier": classifier[None]}}, "specific": {"params": heads}}
    view = {"before_neck": 100 * g, "after_neck": g, "specific": f}
    total, outcome = jax.jit(method.loss)(jax.tree.map(jnp.float32, networks), view, jax.random.key(0))

    def cross_entropy(logits, labels):
        return np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)])

    shared = cross_entropy(g @ classifier, LABELS)
    own = [f[i] @ kernels[side] + biases[side] for i, side in enumerate(["visible"] * 5 + ["infrared"] * 4)]
    specific = cross_entropy(own, LABELS)
    viewed = cross_entropy(f @ kernels["view"] + biases["view"], [0] * 5 + [1] * 4)
    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    sides = np.arange(9) < 5
    gaps = [unit[sides & (LABELS == y)].mean(0) - unit[~sides & (LABELS == y)].mean(0) for y in (0, 1, 3)]
    constraint = np.mean([gap @ gap for gap in gaps])
    expected = {
        "identity": shared,
        "specific_identity": specific,
        "hetero_center": constraint,
        "view": viewed,
        "loss": shared + 0.5 * specific + 2 * constraint + 0.25 * viewed,
    }
    assert outcome.metrics.keys() == expected.keys() and total == outcome.metrics["loss"]
    for name, value in expected.items():
        np.testing.assert_allclose(outcome.metrics[name], value, rtol=1e-5, err_msg=name)


def test_own_layers_are_pooled_before_the_shared_ones_and_see_one_modality():
    method = built(**{"model.backbone": "resnet10"})
    state = jax.jit(method.init)(jax.random.key(0, impl="rbg"))
    assert state.training["networks"].keys() == {"heads", "specific"}
    rng = np.random.default_rng(1)
    images = {name: rng.normal(size=(2, 64, 32, 3)).astype(np.float32) for name in ("visible", "infrared")}
    variables = state.variables["embedder"]
    embedded = jax.jit(functools.partial(method.embedded, train=False))
    features, _ = embedded(variables, images)
    model = method.embedder
    network = resnet.ResNet(block=resnet.BasicBlock, depths=(1, 1, 1, 1), width=model.width, kernels="native")
    own = passed_on(network, resnet.Stages)(stages=(0, 1, 2, 3))
    pooled = []
    for name, x in images.items():
        of_modality = {part: leaves["backbone"][name] for part, leaves in variables.items()}
        apply = jax.jit(functools.partial(own.apply, train=False))
        pooled.append(np.asarray(apply(of_modality, x)).mean(axis=(1, 2)))
    np.testing.assert_allclose(features["specific"][:, 0], np.concatenate(pooled), rtol=1e-4, atol=1e-5)
    alone, _ = embedded(variables, {"infrared": images["infrared"]})
    np.testing.assert_allclose(alone["specific"], features["specific"][2:], rtol=1e-5, atol=1e-6)


def test_without_own_layers_or_one_modality_it_says_so():
    for field, value in (("model.shared_from", 0), ("batch.visible", 0), ("msr.view_weight", -1.0)):
        config = methods.configured(tiny_config(method="msr"))
        config.update_from_flattened_dict({field: value})
        with pytest.raises(UserError, match="MSR has layers of each|one modality alone|0 or a positive number"):
            config_lib.validate(config)


@pytest.mark.slow
def test_a_run_moves_all_of_its_networks_and_ends_with_the_metric(tmp_path):
    folder = small_runs.draw(tmp_path)
    fields = {
        "method": "msr",
        "model.parts": (),
        "model.backbone": TWO_STAGES,
        "model.width": 4,
        "train.steps": 3,
        "checkpoint.every": 1,
        "metric.dims": 5,
    }
    config = methods.configured(small_runs.config_of(folder, **fields), chosen=fields)
    train(config, tmp_path / "run")
    rows = json.loads((tmp_path / "run" / results.JSON_FILE).read_text())["rows"]
    assert {row["feature"] for row in rows} == {"before_neck", "after_neck", "metric"}
    lines = small_runs.metrics_of(tmp_path / "run")
    assert len(lines) == 3 and all(np.isfinite(list(line.values())).all() for line in lines)
    model = jax_mspac.load(tmp_path / "run")
    assert np.any(model.variables["metric"].matrices[0] != model.variables["metric"].matrices[1])
