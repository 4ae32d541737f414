"""TONE's contrastive loss against loops over pairs."""

import functools

import numpy as np
import pytest
from helpers import cross_modality

from jax_mspac.losses.contrastive import contrastive


def transcription(visible, visible_labels, infrared, infrared_labels, margin=0.5):
    together, apart = [], []
    for v, label in zip(cross_modality.unit(visible), visible_labels, strict=True):
        for t, other in zip(cross_modality.unit(infrared), infrared_labels, strict=True):
            d = np.linalg.norm(v - t)
            if label == other:
                together.append(d**2 / 2)
            else:
                apart.append(max(margin - d, 0.0) ** 2 / 2)
    return (np.mean(together) + np.mean(apart)) / 2


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.9])
def test_equals_the_transcription(margin):
    batch = cross_modality.uneven_batch()
    np.testing.assert_allclose(contrastive(*batch, margin=margin), transcription(*batch, margin), rtol=1e-5)


def test_a_pair_of_each_kind_by_hand():
    # Unit vectors at 60 degrees are at distance 1: the pair costs 1 / 2, the other one at 90 degrees 0.
    x, y, z = [1.0, 0.0], [0.5, np.sqrt(0.75)], [0.0, 1.0]
    left, right = np.array([x], np.float32), np.array([y, z], np.float32)
    np.testing.assert_allclose(contrastive(left, np.array([7]), right, np.array([7, 8]), margin=0.5), 0.25, rtol=1e-6)
    # Two identities at distance 1 with margin 1.5 cost 0.5^2 / 2, the pair at distance sqrt(2) costs 2 / 2.
    swapped = contrastive(left, np.array([7]), right, np.array([8, 7]), margin=1.5)
    np.testing.assert_allclose(swapped, (1.0 + 0.125) / 2, rtol=1e-6)


def test_only_pairs_between_modalities_count():
    # Visible examples may be anywhere relative to each other: only their distance to infrared ones matters.
    x = np.eye(3, dtype=np.float32)
    assert float(contrastive(x[[0, 1]], np.array([0, 1]), x[[0, 1]], np.array([0, 1]))) < 1e-7
    assert float(contrastive(x[[0, 0]], np.array([0, 1]), x[[2]], np.array([2]))) == 0.0


def test_gradient_matches_central_differences():
    loss = functools.partial(contrastive, margin=1.2)
    cross_modality.assert_gradient_matches_central_differences(loss, functools.partial(transcription, margin=1.2))


def test_four_devices_equal_one():
    cross_modality.assert_four_devices_equal_one(contrastive)


def test_finite_for_any_batch():
    cross_modality.assert_finite_for_any_batch(contrastive)
