"""Groups of devices with a batch each: their step is the mean of the steps that the groups would do alone."""

import jax
import numpy as np
import pytest
from helpers.steps import CLASSES, Training, make_batch, run, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError

# What compares examples, or sees those of other devices: a triplet, weights over all pairs, centers, amplitudes.
SETTINGS = {
    "mspac": {"loss.batch_hard.weight": 1.0},
    "agw": {},
    "hetero_center_triplet": {},
    "mfen": {"augment.amplitude_partner": "any"},
}


def group_config(method, **overrides):
    """Of plain gradient steps, whose mean is the step of the mean gradient."""
    chosen = {
        "method": method,
        "data.height": 96,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.0,
        "optimizer.clip_norm": 0.0,
        "optimizer.warmup": 0.0,
    }
    chosen |= SETTINGS.get(method, {}) | overrides
    config = tiny_config(**chosen)
    kept = {*chosen, "batch.identities", "batch.visible", "batch.infrared", "model.parts"}
    config = methods.configured(config, chosen=kept)
    config_lib.validate(config)
    return config


def half(number):
    """The batch function of the first or second two of four devices, whose images keep their augmentation."""

    def batch(config, devices, seed):
        whole = make_batch(config, 4, seed)
        return jax.tree.map(lambda x: x[2 * number :][:devices], whole)

    return batch


@pytest.mark.parametrize(
    "method",
    ["mspac", "agw", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hetero_center_triplet", "mfen"))],
)
def test_a_step_is_the_mean_of_the_groups_steps(method):
    pair = Training(group_config(method), 2)
    grouped, (metrics,) = Training(group_config(method, **{"batch.group_devices": 2}), 4, start=pair.start).run()
    alone = [pair.run(batch=half(number)) for number in (0, 1)]
    expected = jax.tree.map(lambda *states: np.mean(states, axis=0), *(state.variables for state, _ in alone))
    for path, value in jax.tree.leaves_with_path(expected):
        found = grouped.variables
        for key in path:
            found = found[key.key]
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    for name in metrics:
        assert metrics[name] == pytest.approx(np.mean([history[0][name] for _, history in alone]), rel=1e-5), name
    # That is not what all devices together do.
    together, _ = Training(group_config(method), 4, start=pair.start).run()
    norm = grouped.variables["embedder"]["batch_stats"]
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), norm, together.variables["embedder"]["batch_stats"])
    assert max(jax.tree.leaves(differences)) > 1e-3


def test_all_devices_in_one_group_are_a_batch():
    one, _ = run(group_config("agw", **{"batch.group_devices": 4}), 4)
    all_of_them, _ = run(group_config("agw"), 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), one, all_of_them)


def test_groups_that_do_not_divide_the_devices_are_refused():
    with pytest.raises(UserError, match=r"batch.group_devices is 3, and 4 devices .*; expected a divisor of 4, or 0"):
        run(group_config("mspac", **{"batch.group_devices": 3}), 4)


def test_a_system_that_passes_images_between_all_devices_refuses_groups():
    config = tiny_config(**{"method": "aligngan", "batch.group_devices": 2})
    with pytest.raises(UserError, match="batch.group_devices is 2; expected 0, because AlignGAN"):
        methods.build(methods.configured(config, chosen={"method"}), num_identities=CLASSES)
