"""Random tone curves against numpy's interpolation, and the law that they are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jax_mspac.errors import UserError
from jax_mspac.methods import tone_curves
from jax_mspac.methods.augmentation import Augmentation, augment, normalize, sample_keys

KNOTS = 5
_toned = jax.jit(tone_curves.toned, static_argnames=("knots", "regions"))


def toned(images, seed=0, **changes):
    keys = jax.random.split(jax.random.key(seed), len(images))
    options = {"probability": 1.0, "knots": KNOTS, "monotone": 0.5, "inversion": 0.5, "regions": 0, **changes}
    return np.asarray(_toned(jnp.asarray(images, jnp.float32), keys, **options))


def ramps(n, knots=KNOTS):
    """Gray images of the brightness at each knot: what comes out are the values of the curve."""
    return np.broadcast_to(np.linspace(0, 255, knots).reshape(1, 1, -1, 1), (n, 1, knots, 3))


def values_of(made):
    return made[:, 0, :, 0] / 255


@pytest.mark.parametrize("knots", [2, 3, 7])
def test_curves_are_numpy_s_interpolation(knots):
    rng = np.random.default_rng(0)
    images, values = rng.uniform(0, 255, (4, 6, 5, 3)), rng.uniform(size=(4, knots))
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    found = jax.jit(tone_curves.through)(jnp.asarray(images, jnp.float32), jnp.asarray(values, jnp.float32))
    at = np.linspace(0, 255, knots)
    wanted = np.stack([255 * np.interp(image, at, curve) for image, curve in zip(images, values, strict=True)])
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_values_at_the_knots_are_uniform_and_independent_unless_the_curve_is_monotone():
    free = values_of(toned(ramps(4000), monotone=0.0))
    assert scipy.stats.kstest(free.ravel(), "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(free.T) - np.eye(KNOTS)).max() < 4 / np.sqrt(4000)
    # Of five sorted uniform numbers the i-th has the mean i / 6.
    rising = values_of(toned(ramps(4000), monotone=1.0, inversion=0.0))
    assert (np.diff(rising, axis=1) >= 0).all()
    np.testing.assert_allclose(rising.mean(axis=0), np.arange(1, 6) / 6, atol=4 * 0.18 / np.sqrt(4000))
    np.testing.assert_allclose(values_of(toned(ramps(4000), monotone=1.0, inversion=1.0)), rising[:, ::-1], atol=1e-6)


def test_shares_of_images_and_of_kinds_of_curves():
    n = 4000
    values = values_of(toned(ramps(n), probability=0.7, monotone=0.6, inversion=0.25))
    same = np.abs(values - np.linspace(0, 1, KNOTS)).max(axis=1) < 1e-6
    steps = np.diff(values[~same], axis=1)
    # Of free curves one in 5! rises by chance, and as many fall.
    by_chance = 0.4 / 120
    for hits, share in (
        (~same, 0.7),
        ((steps >= 0).all(axis=1), 0.6 * 0.75 + by_chance),
        ((steps <= 0).all(axis=1), 0.6 * 0.25 + by_chance),
    ):
        assert abs(hits.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(hits))


def test_regions_have_curves_of_their_own_within_rectangles_of_erasing_s_size():
    images = np.full((500, 32, 16, 3), 255.0 / 4)  # the second knot
    one, several = toned(images), toned(images, regions=3)
    assert (np.ptp(one, axis=(1, 2, 3)) < 1e-3).all()
    numbers = [len(np.unique(image.round(2))) for image in several]
    assert max(numbers) == 4 and np.mean(numbers) > 2.5
    single = toned(images, regions=1)
    areas = [np.unique(image.round(2), return_counts=True)[1] for image in single[..., 0]]
    small = np.array([counts.min() / counts.sum() for counts in areas if len(counts) == 2])
    assert 0.015 < small.min() and small.max() < 0.42 and len(small) > 480
    rows = [image.round(2) for image in single[..., 0]]
    for image in rows[:20]:
        values, counts = np.unique(image, return_counts=True)
        where = np.argwhere(image == values[counts.argmin()])
        assert np.prod(np.ptp(where, axis=0) + 1) == counts.min()


@pytest.mark.parametrize("regions", [0, 2])
def test_gray_stays_gray_and_channels_share_a_curve(regions):
    rng = np.random.default_rng(1)
    gray = np.repeat(rng.uniform(0, 255, (6, 16, 8, 1)), 3, axis=-1)
    made = toned(gray, regions=regions)
    np.testing.assert_array_equal(made, np.repeat(made[..., :1], 3, axis=-1))
    assert 0 <= made.min() and made.max() <= 255
    turned = toned(gray[:, ::-1][..., ::-1], regions=0)
    np.testing.assert_allclose(turned[:, ::-1], toned(gray), atol=1e-3)


def test_an_image_depends_on_its_key_alone():
    images = np.random.default_rng(2).uniform(0, 255, (8, 12, 6, 3))
    keys = sample_keys(0, 3, jnp.arange(8))
    options = {"probability": 0.5, "knots": KNOTS, "monotone": 0.5, "inversion": 0.5, "regions": 2}
    whole = _toned(images, keys, **options)
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_allclose(_toned(images[order], keys[order], **options), whole[order], atol=1e-3)
    assert len({np.asarray(x).tobytes() for x in toned(np.repeat(images[:1], 8, axis=0))}) == 8


@pytest.mark.parametrize("chosen", ["both", "visible", "infrared"])
@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_the_switch_changes_the_chosen_modality_and_no_other_draw(chosen, modality):
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 6, 3), dtype=np.uint8)
    keys = sample_keys(0, 0, jnp.arange(4))

    def made(**switches):
        how = Augmentation(**{"pad": 2, "flip": 0.5, "erasing": 0.5, "border": "mean", **switches})
        return np.asarray(augment(images, keys, modality=modality, augmentation=how))

    plain = made()
    curved = made(tone_curves=1.0, tone_modality=chosen, tone_monotone=0.0)
    assert (np.abs(curved - plain).max() < 1e-4) == (chosen not in ("both", modality))
    # Padding and erased rectangles are the mean color whatever the curve is.
    np.testing.assert_array_equal(curved[(plain == 0).all(axis=-1)], 0.0)
    assert np.abs(made(tone_curves=0.0, tone_knots=2, tone_regions=4) - plain).max() == 0


def test_two_monotone_knots_are_another_black_and_white():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 4, 3), dtype=np.uint8)
    how = Augmentation(pad=0, flip=0.0, erasing=0.0, tone_curves=1.0, tone_knots=2, tone_monotone=1.0)
    made = augment(images, sample_keys(1, 0, jnp.arange(3)), modality="infrared", augmentation=how)
    for image, plain in zip(np.asarray(made)[..., 0], np.asarray(normalize(images))[..., 0], strict=True):
        assert abs(abs(np.corrcoef(image.ravel(), plain.ravel())[0, 1]) - 1) < 1e-5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tone_curves": 1.5}, "tone_curves is 1.5; expected a probability"),
        ({"tone_modality": "thermal"}, "'thermal'; expected one of 'both', 'visible', 'infrared'"),
        ({"tone_knots": 1}, "tone_knots is 1; expected 2 or more"),
        ({"tone_monotone": -0.1}, "tone_monotone is -0.1"),
        ({"tone_inversion": 2}, "tone_inversion is 2"),
        ({"tone_regions": -1}, "tone_regions is -1"),
    ],
)
def test_settings_out_of_range_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**fields)
