"""Features before and after the neck, joined: against cosines by numpy, and with flips."""

import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import EvaluationSettings, compiled_embed
from jax_mspac.evaluation.joined import JOINED, join
from jax_mspac.metrics.distances import cosine_distances


def cosines(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def pair(images=6):
    rng = np.random.default_rng(0)
    return {
        "before_neck": (5 + 3 * rng.normal(size=(images, 4))).astype(np.float32),
        "after_neck": rng.normal(size=(images, 4)).astype(np.float32),
    }


def test_the_sum_is_of_both_cosines_and_the_concatenation_is_one():
    features = pair()
    before, after = features.values()
    made = join(features, ("sum", "concatenation"))
    assert list(made) == ["before_neck", "after_neck", "sum", "concatenation"]
    expected = {"sum": (cosines(before) + cosines(after)) / 2, "concatenation": cosines(np.hstack([before, after]))}
    everything = np.arange(6)
    for name, wanted in expected.items():
        distances = cosine_distances(np.asarray(made[name]))(everything, everything)
        np.testing.assert_allclose(1 - distances, wanted, atol=1e-5)
    assert np.abs(expected["sum"] - expected["concatenation"]).max() > 0.1


class Colors:
    """Features of the first and of the last pixel's color."""

    features = ("before_neck", "after_neck")

    def embed(self, variables, images, modality):
        return {"before_neck": images[:, 0, 0], "after_neck": images[:, 0, -1] * np.float32([[1, 2, 3]])}


def test_flips_are_averaged_before_features_are_joined():
    images = np.random.default_rng(1).uniform(1, 9, size=(3, 1, 2, 3)).astype(np.float32)
    embed = compiled_embed(Colors(), flip=True, joined=("sum",))
    made = embed({}, images, "visible")
    mean = images.mean(axis=(1, 2))
    for half, of in zip(np.split(np.asarray(made["sum"]), 2, axis=1), (mean, mean * [[1, 2, 3]]), strict=True):
        np.testing.assert_allclose(half, of / np.linalg.norm(of, axis=1, keepdims=True), rtol=1e-5)
    assert "concatenation" not in made


def test_the_primary_feature_is_joined_without_being_named():
    assert EvaluationSettings().joins == ()
    assert EvaluationSettings(feature="sum").joins == ("sum",)
    assert EvaluationSettings(joined=("concatenation",), feature="sum").joins == tuple(JOINED)
    with pytest.raises(UserError, match=r"joined is \('product',\); expected names among sum, concatenation"):
        EvaluationSettings(joined=("product",))


def test_methods_with_one_feature_have_nothing_to_join():
    features = {"after_neck": np.ones((2, 3), np.float32)}
    assert join(features, ()) == features
    with pytest.raises(UserError, match="sum join before_neck and after_neck; this method has no before_neck"):
        join(features, ("sum",))
