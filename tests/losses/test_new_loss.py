"""A loss with trainable parameters is one class and one line in a registry: here the page's proxy for each identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import pages
from helpers.steps import CLASSES, DIMS, make_batch, run, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.losses import LOSSES
from jax_mspac.runs.checkpoints import Checkpoints
from jax_mspac.runtime import parallel

Proxy = pages.module_of("extend.md", "A loss").Proxy


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(LOSSES, "proxy", Proxy)


def proxy_config(**changes):
    return tiny_config(**{"loss.proxy.weight": 1.0, "loss.mecen.weight": 0.0, "model.parts": (), **changes})


def proxies_of(state):
    return jax.device_get(state.training["networks"]["heads"]["params"]["proxy"]["proxies"])


def test_the_config_has_its_section_and_checks_it():
    config = config_lib.default_config()
    assert config.loss.proxy.to_dict() == {"weight": 0.0, "feature": "before_neck", "temperature": 0.1}
    config.loss.proxy.temperature, config.loss.proxy.feature = 0.0, "pixels"
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    for line in (
        "loss.proxy.temperature is 0.0; expected a positive",
        "loss.proxy.feature is 'pixels'; expected one of",
    ):
        assert line in str(error.value)


def test_it_is_learned_with_its_parameters_and_keeps_them_where_they_belong():
    config = proxy_config(**{"augment.erasing": 0.0, "optimizer.learning_rate": 0.05, "train.steps": 30})
    method = methods.build(config, num_identities=CLASSES)
    used = jax.local_devices()[:1]
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
    state = jax.device_get(jax.jit(method.init)(jax.random.key(0, impl="rbg")))
    start, losses = proxies_of(state), []
    state = parallel.replicate(state, used)
    for _ in range(30):
        state, metrics = update(state, parallel.shard(make_batch(config), used))
        losses.append(float(metrics["proxy"]))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:2])
    assert start.shape == (CLASSES, DIMS) and np.abs(proxies_of(state) - start).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(proxies_of(state), axis=1), 1.0, rtol=1e-5)


def test_devices_share_it_and_checkpoints_keep_it(tmp_path):
    (one, (first,)), (four, (second,)) = (run(proxy_config(), devices) for devices in (1, 4))
    np.testing.assert_allclose(first["proxy"], second["proxy"], rtol=1e-4)
    np.testing.assert_allclose(proxies_of(one), proxies_of(four), atol=1e-4)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(one)
        method = methods.build(proxy_config(), num_identities=CLASSES)
        restored = checkpoints.restore(1, jax.eval_shape(method.init, jax.random.key(0)))
    np.testing.assert_array_equal(proxies_of(restored), proxies_of(one))


def test_left_out_it_leaves_no_trace():
    state, (metrics,) = run(proxy_config(**{"loss.proxy.weight": 0.0}), 1)
    assert "proxy" not in metrics and "proxy" not in state.training["networks"]["heads"]["params"]
    assert jnp.isfinite(metrics["loss"])
