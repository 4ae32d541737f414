"""The loss between the views of an image against the public code of CAJ+, and on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import originals

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.losses import LOSSES, Examples
from jax_mspac.losses.views import view_consistency

# Distance between two rows -> the value and the norm of the gradient by the first view, in float64, of `CoRefineLoss`:
# github.com/mangye16/Cross-Modal-Re-ID-baseline at e817a26, PAMI23_Supervised/loss.py. Eight classes, 32 images.
ORIGINAL = {
    1.0: (2.0798820805, 0.00257315398943),
    20.0: (2.26791399267, 0.0549996196630),
    400.0: (22.1121808134, 0.231374563498),
}


@pytest.mark.parametrize("distance", ORIGINAL)
def test_value_and_gradient_are_the_original_s(distance):
    first, second = np.split(originals.features("mixed", 5, distance, 64)[:, :8], 2)
    value, gradient = jax.value_and_grad(view_consistency)(first, second)
    np.testing.assert_allclose((value, np.linalg.norm(gradient)), ORIGINAL[distance], rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(view_consistency, argnums=1)(first, second), 0)


def examples(logits, num_visible):
    return Examples({}, logits, jnp.zeros(len(logits), int), num_visible, lambda x: x)


def test_infrared_images_have_no_part_in_it_and_parts_count_by_their_mean():
    logits = np.random.default_rng(0).normal(size=(10, 2, 5)).astype(np.float32)
    term = LOSSES["view_consistency"]()
    by_hand = np.mean([view_consistency(logits[:4, part], logits[4:8, part]) for part in range(2)])
    np.testing.assert_allclose(term(examples(logits, 8), {}), by_hand, rtol=1e-6)
    # A device has the first views of its images, then their second ones.
    shares = [np.concatenate([logits[i : i + 2], logits[i + 4 : i + 6]]) for i in (0, 2)]
    np.testing.assert_allclose(np.mean([term(examples(share, 4), {}) for share in shares]), by_hand, rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30, 3e38])
def test_values_and_gradients_are_finite(size):
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(2, 6, 4)).astype(np.float32)
    value, gradient = jax.jit(jax.value_and_grad(view_consistency))(*(signs * np.float32(size)))
    assert np.isfinite(value) and value >= 0 and np.isfinite(gradient).all()
    assert not np.isfinite(view_consistency(signs[0] * np.nan, signs[1]))


def test_it_needs_the_second_view():
    config = config_lib.default_config()
    config.loss.view_consistency.weight = 0.5
    with pytest.raises(UserError, match=r"view_consistency\.weight is 0\.5; .* because without augment\.channel_aug"):
        methods.build(config, num_identities=4)
