"""The hetero-center triplet loss against loops over centers."""

import numpy as np
import pytest
from helpers import cross_modality

from jax_mspac.losses.hetero_center_triplet import hetero_center_triplet


def transcription(visible, visible_labels, infrared, infrared_labels, margin=0.3):
    centers = [
        (label, features[labels == label].astype(np.float64).mean(axis=0))
        for features, labels in ((visible, visible_labels), (infrared, infrared_labels))
        for label in sorted(set(labels.tolist()))
    ]
    losses = []
    for label, center in centers:
        positive = max(np.linalg.norm(center - other) for same, other in centers if same == label)
        negative = min(np.linalg.norm(center - other) for same, other in centers if same != label)
        losses.append(max(margin + positive - negative, 0.0))
    return np.mean(losses)


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
def test_equals_the_transcription(margin):
    batch = cross_modality.uneven_batch()
    found = hetero_center_triplet(*batch, margin=margin)
    np.testing.assert_allclose(found, transcription(*batch, margin), rtol=1e-4)


def test_two_identities_by_hand():
    # Centers on a line: visible 0 and 5, infrared 2 and 9. Spread around a center is free.
    visible, visible_labels = np.array([[-1.0], [1.0], [5.0]], np.float32), np.array([0, 0, 1])
    infrared, infrared_labels = np.array([[2.0], [9.0]], np.float32), np.array([0, 1])
    # At visible 0: positive at 2, negative at 5. Visible 5: 4 and 3. Infrared 2: 2 and 3. Infrared 9: 4 and 7.
    loss = hetero_center_triplet(visible, visible_labels, infrared, infrared_labels, margin=1.5)
    np.testing.assert_allclose(loss, (0.0 + 2.5 + 0.5 + 0.0) / 4, rtol=1e-5)


def test_one_identity_costs_nothing():
    visible, _, infrared, _ = cross_modality.uneven_batch()
    labels = np.zeros(12, int)
    assert hetero_center_triplet(visible, labels, infrared, labels[:9]) == 0.0


def test_gradient_matches_central_differences():
    cross_modality.assert_gradient_matches_central_differences(hetero_center_triplet, transcription)


def test_four_devices_equal_one():
    cross_modality.assert_four_devices_equal_one(hetero_center_triplet)


def test_finite_for_any_batch():
    cross_modality.assert_finite_for_any_batch(hetero_center_triplet)
