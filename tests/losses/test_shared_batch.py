"""Losses as terms of a step: the mean over 4 and 8 devices of their parts is the loss of the batch on one device."""

import functools
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses import LOSSES, Examples
from jax_mspac.losses.base import alone
from jax_mspac.losses.mecen import Mecen

DEVICES, IDENTITIES, VISIBLE, INFRARED = 4, 8, 3, 2
TERMS = {
    # The views of an image lie half a device's share apart: see test_views.py.
    **{name: kind(weight=1.0) for name, kind in LOSSES.items() if name != "view_consistency"},
    "mecen, sum": Mecen(reduction="sum", use_exp=False),
    "mecen, exponential of the sum": Mecen(reduction="sum", margin=2.5),
    "mecen, mean": Mecen(reduction="mean"),
    "squared": LOSSES["weighted_regularized"](squared=True),
    "stripes": LOSSES["hetero_center_triplet"](stripes=1.0),
}


def batch():
    """Inputs [identities, images, 6] of each modality; every device gets whole identities."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(IDENTITIES, 1, 6))
    sides = [centers + 0.8 * rng.normal(size=(IDENTITIES, count, 6)) for count in (VISIBLE, INFRARED)]
    return tuple(side.astype(np.float32) for side in sides)


def loss_of(term, weights, visible, infrared, labels, gather):
    """Of identities [n, images, 6]; the network is a layer with two parts, or four embeddings."""
    inputs = jnp.concatenate([side.reshape(-1, 6) for side in (visible, infrared)])
    features = jnp.tanh(inputs @ weights).reshape(len(inputs), 4 if term.needs == "model.diverse_embeddings" else 2, -1)
    labels = jnp.concatenate([jnp.repeat(labels, side.shape[1]) for side in (visible, infrared)])
    both = dict.fromkeys(("before_neck", "after_neck"), features) | {"masks": features}
    params = {"centers": jnp.sin(jnp.arange(IDENTITIES * 8.0)).reshape(IDENTITIES, 8)}
    return term(Examples(both, features, labels, visible.shape[0] * visible.shape[1], gather), params)


def compare(devices):
    """Name -> value and gradient on one device, and on several."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(6, 8)).astype(np.float32)
    sides, labels = batch(), rng.permutation(IDENTITIES)
    found = {}
    for name, term in TERMS.items():

        def whole(weights, term=term):
            return loss_of(term, weights, *sides, labels, alone)

        def step(weights, visible, infrared, labels, term=term):
            gather = functools.partial(jax.lax.all_gather, axis_name="devices", tiled=True)
            local = functools.partial(loss_of, term, gather=gather)
            return jax.lax.pmean(jax.value_and_grad(local)(weights, visible, infrared, labels), "devices")

        shares = [x.reshape(devices, -1, *x.shape[1:]) for x in (*sides, labels)]
        shared = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0, 0), out_axes=None)(weights, *shares)
        found[name] = jax.device_get((jax.jit(jax.value_and_grad(whole))(weights), shared))
    return found


def assert_equal(found):
    for name, ((value, gradient), (shared_value, shared_gradient)) in found.items():
        assert abs(value) > 0.01 and np.abs(gradient).max() > 1e-3, name
        np.testing.assert_allclose(shared_value, value, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(shared_gradient, gradient, rtol=1e-3, atol=1e-5, err_msg=name)


def test_four_devices_have_the_value_and_the_gradient_of_one():
    assert_equal(compare(DEVICES))


@pytest.mark.slow
def test_eight_devices_have_the_value_and_the_gradient_of_one():
    tests = pathlib.Path(__file__).parents[1]
    program = f"""
import importlib.util, json, jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
spec = importlib.util.spec_from_file_location("shared", {str(pathlib.Path(__file__))!r})
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
shared.assert_equal(shared.compare(8))
print(json.dumps(jax.device_count()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tests.parent, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 8


@pytest.mark.parametrize("name", ["mecen", "hetero_center"])
def test_losses_of_one_identity_at_a_time_send_no_features(name):
    def step(weights, visible, infrared, labels):
        gather = functools.partial(jax.lax.all_gather, axis_name="devices", tiled=True)
        return jax.grad(lambda w: loss_of(TERMS[name], w, visible, infrared, labels, gather))(weights)

    sides, labels = batch(), np.arange(IDENTITIES)
    shares = [x.reshape(DEVICES, -1, *x.shape[1:]) for x in (*sides, labels)]
    step = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0, 0))
    text = step.lower(np.ones((6, 8), np.float32), *shares).as_text()
    sent = [line.rpartition("->")[2].strip() for line in text.splitlines() if "all_gather" in line]
    # A number of each device, or nothing.
    assert all(f"<{DEVICES}xf32>" in line or f"<2x{DEVICES}xf32>" in line for line in sent), sent


@pytest.mark.parametrize("name", ["contrastive", "dual_constrained", "center_constrained", "hetero_center_triplet"])
def test_pairs_of_a_device_are_its_own_examples_and_all(name):
    def step(weights, visible, infrared, labels):
        gather = functools.partial(jax.lax.all_gather, axis_name="devices", tiled=True)
        return loss_of(TERMS[name], weights, visible, infrared, labels, gather)

    sides, labels = batch(), np.arange(IDENTITIES)
    shares = [x.reshape(DEVICES, -1, *x.shape[1:]) for x in (*sides, labels)]
    step = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0, 0))
    text = step.lower(np.ones((6, 8), np.float32), *shares).as_text()
    whole = {"contrastive": (24, 16)}.get(name, (40, 40))
    own = whole[0] // DEVICES
    assert f"tensor<{own}x{whole[1]}xf32>" in text
    assert f"tensor<{whole[0]}x{whole[1]}xf32>" not in text
