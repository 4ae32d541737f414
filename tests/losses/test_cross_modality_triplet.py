"""The cross-modality triplet loss against a loop over triplets, and its invariants."""

import functools

import numpy as np
import pytest
from helpers import cross_modality

from jax_mspac.losses.cross_modality_triplet import cross_modality_triplet


def transcription(visible, visible_labels, infrared, infrared_labels, margin=1.4):
    total = 0.0
    for anchors, labels, others, other_labels in (
        (visible, visible_labels, infrared, infrared_labels),
        (infrared, infrared_labels, visible, visible_labels),
    ):
        of_anchors = []
        for a, label in zip(anchors, labels, strict=True):
            positives, negatives = others[other_labels == label], others[other_labels != label]
            triplets = [
                max(margin + np.linalg.norm(a - p) - np.linalg.norm(a - n), 0.0) for p in positives for n in negatives
            ]
            of_anchors += [np.mean(triplets)] if triplets else []
        total += np.mean(of_anchors)
    return total


@pytest.mark.parametrize("margin", [0.0, 1.4, 5.0])
def test_equals_the_transcription(margin):
    batch = cross_modality.uneven_batch()
    np.testing.assert_allclose(
        cross_modality_triplet(*batch, margin=margin), transcription(*batch, margin=margin), rtol=1e-5
    )


def test_gradient_matches_central_differences():
    cross_modality.assert_gradient_matches_central_differences(cross_modality_triplet, transcription)


def test_four_devices_do_what_one_does():
    cross_modality.assert_four_devices_equal_one(functools.partial(cross_modality_triplet, margin=0.5))


def test_it_is_finite_for_any_batch():
    cross_modality.assert_finite_for_any_batch(cross_modality_triplet)


def test_without_a_triplet_it_is_0():
    x = np.ones((2, 3), np.float32)
    assert cross_modality_triplet(x, np.array([0, 0]), x, np.array([0, 0])) == 0
    assert cross_modality_triplet(x, np.array([0, 1]), x, np.array([2, 3])) == 0
