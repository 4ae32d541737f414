"""Thresholds and error rates against counting, and intervals against what they promise."""

import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.metrics.verification import Pairs, curve, rates, threshold_for


def drawn(seed, people, images=3):
    """Pairs of one list of images, whose features have a part of the person."""
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(people), images)
    features = rng.standard_normal((people, 8))[persons] + rng.standard_normal((people * images, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    counted = np.triu(np.ones((len(persons),) * 2, bool), 1)
    return Pairs((features @ features.T).astype(np.float32), persons, persons, counted, people)


def listed(pairs):
    """(similarity, whether of one person) of every pair that counts, one by one."""
    rows, columns = np.nonzero(pairs.counted)
    return [
        (pairs.similarities[i, j], pairs.queries[i] == pairs.gallery[j]) for i, j in zip(rows, columns, strict=True)
    ]


@pytest.mark.parametrize("wished", [0.001, 0.01, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("whole_numbers", [False, True])
def test_the_threshold_is_the_lowest_with_so_few_false_matches(wished, whole_numbers):
    rng = np.random.default_rng(0)
    impostor = np.sort(rng.integers(0, 40, 1000) if whole_numbers else rng.standard_normal(1000)).astype(np.float32)
    threshold = threshold_for(impostor, wished)
    assert np.mean(impostor >= threshold) <= wished
    # The next lower similarity would let too many match.
    lower = impostor[impostor < threshold].max()
    assert np.mean(impostor >= lower) > wished


def test_rates_and_curves_count_pairs():
    pairs = drawn(0, people=12)
    there = listed(pairs)
    false_match, false_non_match = rates(pairs, 0.4)
    expected = np.mean([value >= 0.4 for value, same in there if not same])
    assert false_match.rate == pytest.approx(expected) and false_match.low <= expected <= false_match.high
    expected = np.mean([value < 0.4 for value, same in there if same])
    assert false_non_match.rate == pytest.approx(expected)
    points = curve(pairs.genuine(), pairs.impostor())
    for threshold, match, non_match in points[::20]:
        assert match == pytest.approx(np.mean([value >= threshold for value, same in there if not same]))
        assert non_match == pytest.approx(np.mean([value < threshold for value, same in there if same]))
    assert points[0, 1:].tolist() == [1, 0] and points[-1, 1:].tolist() == [0, 1]


def test_intervals_hold_the_rate_of_other_people_as_often_as_they_say():
    truth = [rate.rate for rate in rates(drawn(1, people=600), 0.4)]
    held = np.zeros(2)
    for seed in range(100):
        found = rates(drawn(10 + seed, people=40), 0.4)
        held += [one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]
    # 95 of 100 but for chance, and for how coarse resampling of 40 people is.
    assert (held >= 86).all(), held


def test_intervals_narrow_with_people_and_not_with_images_of_them():
    def width(pairs):
        return rates(pairs, 0.4)[1].high - rates(pairs, 0.4)[1].low

    few, more_images, more_people = (drawn(3, people, images) for people, images in ((15, 3), (15, 12), (240, 3)))
    assert width(more_people) < width(few) / 2 < width(more_images)


@pytest.mark.parametrize(
    "wished, message", [(0, "is 0; expected"), (1, "is 1; expected"), (0.0005, "1000 pairs of two")]
)
def test_rates_that_cannot_be_told_are_named(wished, message):
    with pytest.raises(UserError, match=message):
        threshold_for(np.zeros(1000, np.float32), wished)
