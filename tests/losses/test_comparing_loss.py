"""The page's loss that compares examples, and the page's own test of it, which a reader starts from."""

import sys
import types

import jax
import jax.numpy as jnp
import pytest
from helpers import pages
from helpers.steps import run, tiny_config

from jax_mspac.losses import LOSSES

HEADING = "A loss that compares examples"


@pytest.fixture(scope="module")
def ratio():
    loss, test = pages.blocks_of("extend.md", HEADING)
    module = types.ModuleType("jax_mspac.losses.ratio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        exec(loss, module.__dict__)
        names: dict = {}
        exec(test, names)
        yield module.Ratio, names["test_ratio_by_hand"]


def test_its_own_test_passes_and_fails_with_another_power(ratio, monkeypatch):
    loss, by_hand = ratio
    by_hand()
    monkeypatch.setattr(loss.__init__, "__kwdefaults__", {**loss.__init__.__kwdefaults__, "power": 1.0})
    with pytest.raises(AssertionError):
        by_hand()


@pytest.mark.slow
def test_devices_share_it(ratio, monkeypatch):
    monkeypatch.setitem(LOSSES, "ratio", ratio[0])
    config = tiny_config(**{"loss.ratio.weight": 1.0, "loss.mecen.weight": 0.0, "model.parts": ()})
    first, second = (run(config, devices)[1][0] for devices in (1, 4))
    assert jnp.allclose(first["ratio"], second["ratio"], rtol=1e-4), jax.tree.map(float, (first, second))
