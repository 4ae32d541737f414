"""PMT's losses against loops in numpy, also where identities have different numbers of images."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.losses import LOSSES, Examples
from jax_mspac.losses.base import alone
from jax_mspac.losses.discriminative_center import discriminative_center
from jax_mspac.losses.modality_shared import modality_shared
from jax_mspac.losses.triplet import batch_hard

LABELS = {"visible": np.array([0, 0, 0, 1, 1, 2]), "infrared": np.array([1, 1, 1, 0, 0])}


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    return {m: rng.normal(size=(len(labels), 3)).astype(np.float32) for m, labels in LABELS.items()}


def in_order(sides):
    return itertools.chain(*((sides[m], LABELS[m]) for m in ("visible", "infrared")))


def test_an_image_is_to_be_as_far_from_the_other_modality_as_from_its_own():
    sides, expected = drawn(), 0.0
    for own, other in (("visible", "infrared"), ("infrared", "visible")):
        squares = []
        for i, label in enumerate(LABELS[own]):
            across = [np.linalg.norm(sides[own][i] - x) for x in sides[other][LABELS[other] == label]]
            peers = [j for j, peer in enumerate(LABELS[own]) if peer == label and j != i]
            if across and peers:  # identity 2 has no infrared images
                within = [np.linalg.norm(sides[own][i] - sides[own][j]) for j in peers]
                squares.append((np.mean(across) - np.mean(within)) ** 2)
        expected += np.mean(squares) / 2
    np.testing.assert_allclose(modality_shared(*in_order(sides)), expected, rtol=1e-5)


def test_on_a_line_by_hand():
    # Visible at 0 and 2, infrared at 5 and 6: within 2 and 1; across 5.5 and 3.5, 4 and 5.
    visible, infrared, labels = np.float32([[0], [2]]), np.float32([[5], [6]]), np.zeros(2, int)
    expected = ((3.5**2 + 1.5**2) / 2 + (3.0**2 + 4.0**2) / 2) / 2
    np.testing.assert_allclose(modality_shared(visible, labels, infrared, labels), expected, rtol=1e-6)


def test_a_person_with_one_image_does_not_count():
    one = np.float32([[1.0]]), np.zeros(1, int)
    assert modality_shared(*one, *one) == 0


def test_images_near_their_center_and_near_negatives_away():
    sides = drawn(1)
    features, labels = (np.concatenate([x[m] for m in ("visible", "infrared")]) for x in (sides, LABELS))
    centers = {label: features[labels == label].mean(axis=0) for label in set(labels.tolist())}
    pulled = np.mean([np.linalg.norm(x - centers[label]) for x, label in zip(features, labels.tolist(), strict=True)])
    pushed = []
    for label, center in centers.items():
        negatives = np.linalg.norm(features[labels != label] - center, axis=1)
        pushed.append(negatives[negatives < negatives.mean()].mean())
    np.testing.assert_allclose(discriminative_center(features, labels), pulled / np.mean(pushed), rtol=1e-5)


def test_without_another_identity_there_is_no_center_to_keep_away_from():
    assert discriminative_center(np.ones((4, 2), np.float32), np.zeros(4, int)) == 0


@pytest.mark.parametrize("number", [1, 2])
def test_images_of_the_other_modality_play_no_part_in_the_first_stage_s_triplet(number):
    sides, labels = drawn(2), np.concatenate([LABELS["visible"], LABELS["infrared"]])
    features = {m: np.stack([x] * number, axis=1) for m, x in sides.items()}  # parts count as one feature
    joined = {"before_neck": jnp.concatenate([features["visible"], features["infrared"]])}
    found = LOSSES["intra_modality"](margin=0.5)(Examples(joined, None, labels, 6, alone), {})
    expected = sum(batch_hard(x * number**0.5, LABELS[m], margin=0.5) for m, x in sides.items())
    np.testing.assert_allclose(found, expected, rtol=1e-5)
