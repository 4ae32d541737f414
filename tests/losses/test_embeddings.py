"""The losses of several embeddings against loops over identities, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.losses import Examples
from jax_mspac.losses.embeddings import Alignment, PairMining, alignment, pair_mining


def example(visible_labels, infrared_labels, size=3, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    sides = [
        rng.normal(size=(len(labels), size, dim)).astype(np.float32) for labels in (visible_labels, infrared_labels)
    ]
    return sides[0], np.array(visible_labels), sides[1], np.array(infrared_labels)


def reference(visible, visible_labels, infrared, infrared_labels, margin=0.2):
    """Of the first two embeddings: the public code's terms, one identity after the other, in float64."""
    sides = {"v": (visible.astype(np.float64), visible_labels), "i": (infrared.astype(np.float64), infrared_labels)}
    everyone = sorted({*visible_labels.tolist(), *infrared_labels.tolist()})
    center = {
        (m, k, j): x[labels == j, k].mean(axis=0)
        for m, (x, labels) in sides.items()
        for k in (0, 1)
        for j in everyone
        if np.any(labels == j)
    }

    def distance(a, b):
        return np.linalg.norm(center[a] - center[b])

    total = 0.0
    for j in everyone:
        for own, other in (("v", "i"), ("i", "v")):
            if ("v", 0, j) not in center or ("i", 0, j) not in center:
                continue
            pull = distance((other, 0, j), (own, 1, j))
            total += max(pull - distance((own, 0, j), (own, 1, j)) + margin, 0) / 2
            for k in (0, 1):
                away = [distance((own, k, j), (own, k, n)) for n in everyone if n != j and (own, k, n) in center]
                total += max(pull - min(away) + margin, 0) / 4 if away else 0
    return total / len(everyone)


@pytest.mark.parametrize(
    ("visible", "infrared"),
    [([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]), ([2, 0, 0, 1], [1, 0, 2, 2, 2]), ([0, 1, 3], [0, 1]), ([4], [4, 4])],
    ids=["even", "uneven", "one without infrared", "one identity"],
)
def test_pair_mining_is_a_loop_over_identities(visible, infrared):
    sides = example(visible, infrared)
    found = pair_mining(sides[0][:, :2], sides[1], sides[2][:, :2], sides[3])
    np.testing.assert_allclose(found, reference(*sides), rtol=1e-5)
    assert found > 0
    features = np.concatenate([sides[0], sides[2]])
    labels = np.concatenate([sides[1], sides[3]])
    examples = Examples({"before_neck": features}, None, labels, len(visible), jnp.asarray)
    second = reference(sides[0][:, [0, 2]], sides[1], sides[2][:, [0, 2]], sides[3])
    np.testing.assert_allclose(PairMining()(examples, {}), reference(*sides) + second, rtol=1e-5)


def test_the_distance_between_an_image_and_its_branch_has_no_gradient():
    # One identity: only the first of the terms is there. d(i, v') pulls i and v', v only appears in the stopped one.
    visible, _, infrared, _ = example([0], [0])
    labels = np.array([0])
    of_visible, of_infrared = jax.grad(lambda v, i: pair_mining(v, labels, i, labels, margin=100.0), argnums=(0, 1))(
        visible[:, :2], infrared[:, :2]
    )
    # v and i' meet in d(v, i'), i and v' in d(i, v'), each with the weight 1/2.
    for one, other, x, y in (
        (of_visible[0, 1], of_infrared[0, 0], visible[0, 1], infrared[0, 0]),
        (of_visible[0, 0], of_infrared[0, 1], visible[0, 0], infrared[0, 1]),
    ):
        unit = (x - y) / np.linalg.norm(x - y)
        np.testing.assert_allclose(one, unit / 2, rtol=1e-4)
        np.testing.assert_allclose(other, -unit / 2, rtol=1e-4)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30, 3e38])
def test_values_and_gradients_are_finite(size):
    visible, visible_labels, infrared, infrared_labels = example([0, 0, 1], [0, 1, 1])
    signs = np.sign(np.concatenate([visible, infrared])) * np.float32(size)

    def loss(x):
        mined = pair_mining(x[:3, :2], visible_labels, x[3:, :2], infrared_labels)
        return mined + alignment(x[:, 1:])

    value, gradient = jax.jit(jax.value_and_grad(loss))(signs)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not np.isfinite(jax.jit(loss)(np.where(np.arange(5) < 3, signs, np.nan)))


def test_alignment_is_a_third_of_the_mean_inner_product():
    features = np.zeros((2, 3, 2), np.float32)
    features[0, 1], features[0, 2], features[1, 1], features[1, 2] = (1, 2), (3, 4), (5, 0), (0, 7)
    examples = Examples({"before_neck": features}, None, np.zeros(2, int), 1, jnp.asarray)
    np.testing.assert_allclose(Alignment()(examples, {}), (3 + 8 + 0) / 6)


def test_networks_of_one_embedding_are_refused_by_name():
    config = config_lib.default_config()
    config.loss.pair_mining.weight = config.loss.alignment.weight = 0.5
    with pytest.raises(UserError) as caught:
        methods.build(config, num_identities=4)
    for name in ("pair_mining", "alignment"):
        assert f"loss.{name}.weight is 0.5; expected 0, because without model.diverse_embeddings" in str(caught.value)
