"""The batch plan: a function of (seed, step), balanced, and without repeats that it can avoid."""

import collections

import numpy as np
import pytest

from jax_mspac.data import image_set
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.errors import UserError


def make_set(visible=(5, 3, 4, 6, 2, 7, 4), infrared=(4, 4, 1, 5, 3, 6, 2)):
    """Identity i has visible[i] and infrared[i] images."""
    examples = [
        {"image": b"", "identity": f"{i:02}", "camera": 1 + m, "modality": m, "path": f"{i:02}/{m}/{n}"}
        for m, counts in enumerate((visible, infrared))
        for i, count in enumerate(counts)
        for n in range(count)
    ]
    return image_set.from_examples(examples)


def make_sampler(images=(3, 2), identities=3, seed=0, **counts):
    return IdentitySampler(make_set(**counts), seed=seed, identities=identities, images=images)


def test_batch_holds_p_identities_with_k_images_of_each_modality():
    sampler = make_sampler()
    for visible, infrared in sampler.batches(0, 20):
        assert visible.shape == (3, 3) and infrared.shape == (3, 2)
        ids = sampler.image_set.identities[visible]
        assert (ids == ids[:, :1]).all() and len(set(ids[:, 0])) == 3
        np.testing.assert_array_equal(sampler.image_set.identities[infrared], ids[:, :2])
        assert (sampler.image_set.modalities[visible] == 0).all()
        assert (sampler.image_set.modalities[infrared] == 1).all()


def test_resuming_is_slicing():
    sampler = make_sampler()
    whole = list(sampler.batches(0, 11))
    for start in range(11):
        for expected, batch in zip(whole[start:], make_sampler().batches(start, 11), strict=True):
            np.testing.assert_array_equal(np.hstack(expected), np.hstack(batch))


def test_seed_changes_the_plan():
    one, two = (np.concatenate([np.hstack(b) for b in make_sampler(seed=s).batches(0, 6)]) for s in (0, 1))
    assert not np.array_equal(one, two)


def test_images_repeat_only_where_an_identity_has_too_few():
    sampler = make_sampler()
    for visible, infrared in sampler.batches(0, 20):
        for rows in (*visible, *infrared):
            identity = sampler.image_set.identities[rows[0]]
            modality = sampler.image_set.modalities[rows[0]]
            mask = (sampler.image_set.identities == identity) & (sampler.image_set.modalities == modality)
            assert len(set(rows)) == min(len(rows), mask.sum())


def test_identities_take_turns():
    sampler = make_sampler(identities=2)  # 7 identities: 3 batches a pass
    for number in range(5):
        seen = [sampler.image_set.identities[v[:, 0]] for v, _ in sampler.batches(3 * number, 3 * number + 3)]
        assert max(collections.Counter(np.concatenate(seen)).values()) == 1


def test_every_image_gets_its_turn():
    sampler = make_sampler()
    drawn = np.concatenate([np.hstack(batch).ravel() for batch in sampler.batches(0, 200)])
    assert set(drawn) == set(range(len(sampler.image_set)))


def test_identities_of_one_modality_are_left_out():
    sampler = make_sampler(identities=2, visible=(2, 2, 0, 2), infrared=(2, 0, 2, 2))
    drawn = np.concatenate([visible.ravel() for visible, _ in sampler.batches(0, 10)])
    assert set(sampler.image_set.identities[drawn]) == {0, 3}


@pytest.mark.parametrize("images, eligible", [((3, 0), {0, 1, 3}), ((0, 3), {0, 2, 3})])
def test_batches_may_be_of_one_modality_alone(images, eligible):
    sampler = make_sampler(images=images, identities=2, visible=(2, 2, 0, 2), infrared=(2, 0, 2, 2))
    drawn = []
    for batch in sampler.batches(0, 10):
        assert [positions.shape for positions in batch] == [(2, count) for count in images]
        drawn.append(np.concatenate([positions.ravel() for positions in batch]))
    assert set(sampler.image_set.identities[np.concatenate(drawn)]) == eligible
    with pytest.raises(UserError, match=f"only 3 of the 4 .* {'visible' if images[0] else 'infrared'} images"):
        make_sampler(images=images, identities=4, visible=(2, 2, 0, 2), infrared=(2, 0, 2, 2))


def test_too_few_identities_is_an_error_that_counts_them():
    with pytest.raises(UserError, match=r"config\.batch\.identities is 8, but only 7 of the 7"):
        make_sampler(identities=8)


def test_ten_thousand_identities_of_which_some_have_one_image():
    counts = np.random.default_rng(0).integers(1, 4, size=(2, 10_000))
    sampler = make_sampler(images=(4, 4), identities=64, visible=counts[0], infrared=counts[1])
    seen = set()
    for number, (visible, infrared) in enumerate(sampler.batches(0, 156)):  # a pass, but for 16 identities
        ids = sampler.image_set.identities[visible]
        np.testing.assert_array_equal(sampler.image_set.identities[infrared], ids)
        assert seen.isdisjoint(ids[:, 0]), number
        seen |= set(ids[:, 0])
        # K is larger than what some have: every image of theirs is there, as often as the others or once more.
        for rows in visible:
            repeats = np.unique(rows, return_counts=True)[1]
            assert repeats.max() - repeats.min() <= 1
    assert len(seen) == 156 * 64


def test_identities_that_lack_a_drawn_modality_are_named_and_never_drawn():
    counts = {"visible": (5, 0, 4, 6, 2), "infrared": (4, 4, 0, 5, 3)}
    for images, missing in (((3, 2), ["01", "02"]), ((3, 0), ["01"]), ((0, 2), ["02"])):
        sampler = make_sampler(images=images, **counts)
        drawn = np.concatenate([np.hstack([part.ravel() for part in batch]) for batch in sampler.batches(0, 50)])
        names = sampler.image_set.identity_names
        assert sampler.never_drawn == missing
        assert {names[rank] for rank in sampler.image_set.identities[drawn]} == {*names} - {*missing}
