"""MPANet: the copies of the modalities' classifiers follow them slowly, and nothing else moves them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import originals
from helpers.steps import CLASSES, run, tiny_config

from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods.mpanet import CLASSIFIERS, COPIES
from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES

STEPS = 7
# Norms of the copies that the public code has after its first forward pass, from generated tensors of 8 classes:
# github.com/DoubtedSteam/MPANet at f57fd5c, models/baseline.py.
MOVED = {"visible": 3.29665606, "infrared": 3.29913001}


def mpanet(**changes):
    config = tiny_config(method="mpanet", **{"train.steps": STEPS, "model.parts": (), **changes})
    return methods.configured(config, chosen={"batch.identities", "batch.visible", "batch.infrared"})


def test_copies_take_a_fifth_and_later_less():
    method = methods.build(mpanet(), num_identities=CLASSES)
    # 100 / 140 of 7 steps are 5; then the rate is that of the fifth step over the number of the step.
    for step, rate in ((0, 0.2), (4, 0.2), (5, 0.2 * 5 / 6), (6, 0.2 * 5 / 7)):
        moved = method.moved({"kernel": np.float32(3)}, {"kernel": np.float32(1)}, jnp.int32(step))
        np.testing.assert_allclose(moved["kernel"], 3 * (1 - rate) + rate, rtol=1e-5)


def test_copies_are_the_original_s_after_a_step():
    def kernels(end):
        return {name: originals.tensor(f"{name}_classifier{end}.weight", (8, 14336)) for name in MOVED}

    moved = methods.build(mpanet(), num_identities=8).moved(kernels("_"), kernels(""), jnp.int32(0))
    for name, norm in MOVED.items():
        np.testing.assert_allclose(np.linalg.norm(moved[name]), norm, rtol=1e-6)


@pytest.mark.slow
def test_a_step_moves_the_copies_by_the_classifiers_before_it(monkeypatch):
    monkeypatch.setitem(BACKBONES, "resnet18", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    config = mpanet(**{"mpanet.update_rate": 0.5})
    start = jax.device_get(methods.build(config, num_identities=CLASSES).init(jax.random.key(0, impl="rbg")))
    jax.tree.map(
        np.testing.assert_array_equal, start.training["networks"][COPIES], start.training["networks"][CLASSIFIERS]
    )
    states = [start, *(jax.device_get(run(config, 1, steps=steps)[0]) for steps in (1, 2))]
    of = [(s.training["networks"][CLASSIFIERS]["params"], s.training["networks"][COPIES]["params"]) for s in states]
    for (classifiers, copies), (after, copies_after) in zip(of, of[1:], strict=False):
        for name in ("visible", "infrared"):
            np.testing.assert_allclose(copies_after[name], (copies[name] + classifiers[name]) / 2, atol=1e-6)
            assert np.abs(after[name] - classifiers[name]).max() > 1e-5
    assert np.abs(of[2][1]["visible"] - of[2][0]["visible"]).max() > 1e-5


def test_both_modalities_are_needed():
    with pytest.raises(UserError, match=r"batch\.infrared is 0; expected 1 or more, because MPANet has a classifier"):
        methods.build(mpanet(**{"batch.infrared": 0}), num_identities=CLASSES)
