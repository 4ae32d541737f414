"""The top-ranking losses of BDTR and eBDTR against loops over anchors."""

import functools

import numpy as np
import pytest
from helpers import cross_modality

from jax_mspac.losses import ranking

DUAL = {"margin": 0.5, "intra_margin": 0.1, "intra_weight": 0.1}


def dual_transcription(visible, visible_labels, infrared, infrared_labels, margin, intra_margin, intra_weight):
    v, t = cross_modality.unit(visible), cross_modality.unit(infrared)
    total = 0.0
    for anchors, labels, others, other_labels in (
        (v, visible_labels, t, infrared_labels),
        (t, infrared_labels, v, visible_labels),
    ):
        losses = []
        for a, label in zip(anchors, labels, strict=True):
            positives, negatives = others[other_labels == label], others[other_labels != label]
            if not len(positives) or not len(negatives):
                losses.append(0.0)
                continue
            p = max(positives, key=lambda x: np.linalg.norm(a - x))
            n = min(negatives, key=lambda x: np.linalg.norm(a - x))
            inter = max(margin + np.linalg.norm(a - p) - np.linalg.norm(a - n), 0.0)
            losses.append(inter + intra_weight * max(intra_margin - np.linalg.norm(p - n), 0.0))
        total += np.mean(losses)
    return total


def center_transcription(visible, visible_labels, infrared, infrared_labels, margin=0.5):
    v, t = cross_modality.unit(visible), cross_modality.unit(infrared)
    both, both_labels = np.concatenate([v, t]), np.concatenate([visible_labels, infrared_labels])
    total = 0.0
    for anchors, labels, others, other_labels in (
        (v, visible_labels, t, infrared_labels),
        (t, infrared_labels, v, visible_labels),
    ):
        losses = []
        for a, label in zip(anchors, labels, strict=True):
            positives, negatives = others[other_labels == label], others[other_labels != label]
            if not len(positives) or not len(negatives):
                losses.append(0.0)
                continue
            center = both[both_labels == label].mean(axis=0)
            farthest = np.linalg.norm(a - positives, axis=1).max()
            losses.append(max(margin + farthest - np.linalg.norm(center - negatives, axis=1).min(), 0.0))
        total += np.mean(losses)
    return total


@pytest.mark.parametrize(
    "settings", [DUAL, {"margin": 0.1, "intra_margin": 1.5, "intra_weight": 2.0}, {**DUAL, "intra_weight": 0.0}]
)
def test_dual_constrained_equals_the_transcription(settings):
    batch = cross_modality.uneven_batch()
    expected = dual_transcription(*batch, **settings)
    np.testing.assert_allclose(ranking.dual_constrained(*batch, **settings), expected, rtol=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.3])
def test_center_constrained_equals_the_transcription(margin):
    batch = cross_modality.uneven_batch()
    expected = center_transcription(*batch, margin)
    np.testing.assert_allclose(ranking.center_constrained(*batch, margin=margin), expected, rtol=1e-5)


def test_the_published_settings_are_the_defaults():
    batch = cross_modality.uneven_batch()
    np.testing.assert_allclose(ranking.dual_constrained(*batch), dual_transcription(*batch, **DUAL), rtol=1e-5)


def corner(*degrees):
    """Unit vectors in the plane."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def chord(degrees):
    """Distance of two unit vectors at an angle."""
    return 2 * np.sin(np.radians(degrees) / 2)


def test_two_identities_by_hand():
    visible, infrared, labels = corner(0, 90), corner(20, 50), np.array([0, 1])
    # Visible 0: positive at 20, negative at 50 degrees. Visible 90: positive at 40, negative at 70. Infrared 20:
    # positive at 20, negative at 70, which is far enough. Infrared 50: positive at 40, negative at 50.
    cross = [0.5 + chord(20) - chord(50), 0.5 + chord(40) - chord(70), 0.0, 0.5 + chord(40) - chord(50)]
    # Positive and negative of the visible anchors are 30 degrees apart, those of the infrared ones 90: free at 0.6.
    intra = 0.6 - chord(30)
    expected = np.mean(cross[:2]) + np.mean(cross[2:]) + 0.3 * intra
    found = ranking.dual_constrained(visible, labels, infrared, labels, intra_margin=0.6, intra_weight=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_center_is_the_midpoint_of_a_pair_by_hand():
    visible, infrared, labels = corner(0, 180), corner(60, 180), np.array([0, 1])
    # The midpoint of 0 and 60 degrees has length cos(30). Identity 1 lies at 180 degrees in both modalities.
    to_negative = np.linalg.norm(np.mean(corner(0, 60), axis=0) - corner(180)[0])
    first = 2.0 + chord(60) - to_negative  # the same for both anchors of identity 0
    second = [2.0 - chord(120), 2.0 - chord(180)]  # to infrared 60 and visible 0
    expected = (first + second[0]) / 2 + (first + second[1]) / 2
    found = ranking.center_constrained(visible, labels, infrared, labels, margin=2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [ranking.dual_constrained, ranking.center_constrained])
def test_modalities_are_interchangeable_and_lengths_do_not_matter(loss):
    visible, visible_labels, infrared, infrared_labels = cross_modality.uneven_batch()
    value = loss(visible, visible_labels, infrared, infrared_labels)
    np.testing.assert_allclose(loss(infrared, infrared_labels, visible, visible_labels), value, rtol=1e-5)
    np.testing.assert_allclose(loss(3 * visible, visible_labels, 0.1 * infrared, infrared_labels), value, rtol=1e-5)


@pytest.mark.parametrize("loss", [ranking.dual_constrained, ranking.center_constrained])
def test_separated_identities_cost_nothing(loss):
    x = np.eye(4, dtype=np.float32)
    assert loss(x, np.arange(4), x, np.arange(4)) == 0.0


def test_gradients_match_central_differences():
    settings = {"margin": 0.4, "intra_margin": 1.5, "intra_weight": 0.7}
    cross_modality.assert_gradient_matches_central_differences(
        functools.partial(ranking.dual_constrained, **settings), functools.partial(dual_transcription, **settings)
    )
    cross_modality.assert_gradient_matches_central_differences(ranking.center_constrained, center_transcription)


@pytest.mark.parametrize("loss", [ranking.dual_constrained, ranking.center_constrained])
def test_four_devices_equal_one(loss):
    cross_modality.assert_four_devices_equal_one(loss)


@pytest.mark.parametrize("loss", [ranking.dual_constrained, ranking.center_constrained])
def test_finite_for_any_batch(loss):
    cross_modality.assert_finite_for_any_batch(loss)
