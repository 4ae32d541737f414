"""Amplitude exchange against numpy's transform, its draws, and as a switch of any system."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.steps import CLASSES, make_batch, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods.amplitude import drawn_partners, exchanged
from jax_mspac.methods.augmentation import Augmentation, exchange_amplitudes, sample_keys
from jax_mspac.runtime import parallel

SIZES = [(12, 6), (7, 5)]


def pair(height, width, count=3):
    rng = np.random.default_rng(height)
    return tuple(rng.integers(0, 256, (count, height, width, 3)).astype(np.float32) for _ in range(2))


def spectrum(x):
    return np.fft.fft2(np.asarray(x, np.float64), axes=(1, 2))


def radius(height, width):
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    return 2 * np.sqrt(down**2 + across**2)[None, ..., None]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("form", ["gaussian", "sharp"])
def test_strength_0_leaves_images_as_they_are(height, width, form):
    images, partners = pair(height, width)
    np.testing.assert_allclose(exchanged(images, partners, strength=0.0, form=form), images, atol=1e-3)
    np.testing.assert_allclose(exchanged(images, images, form=form), images, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_low_amplitudes_are_the_partner_s_and_phases_and_the_rest_its_own(height, width):
    images, partners = pair(height, width)
    made = spectrum(exchanged(images, partners, band=0.5, form="sharp"))
    own, other = spectrum(images), spectrum(partners)
    low = np.broadcast_to(radius(height, width) < 0.5, own.shape)
    assert 0.1 < low.mean() < 0.5
    np.testing.assert_allclose(np.abs(made)[low], np.abs(other)[low], rtol=1e-4)
    np.testing.assert_allclose(np.abs(made)[~low], np.abs(own)[~low], rtol=1e-4)
    np.testing.assert_allclose(made / np.abs(made), own / np.abs(own), atol=1e-3)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_formula_is_numpy_s(height, width):
    images, partners = pair(height, width)
    own, other = spectrum(images), spectrum(partners)
    share = 0.7 * np.exp(-((radius(height, width) / 0.3) ** 2) / 2)
    wanted = (1 - share) * np.abs(own) + share * np.abs(other)
    expected = np.fft.ifft2(wanted * np.exp(1j * np.angle(own)), axes=(1, 2))
    assert np.abs(expected.imag).max() < 1e-9
    np.testing.assert_allclose(exchanged(images, partners, strength=0.7, band=0.3), expected.real, atol=2e-3)


def test_a_frequency_that_is_absent_takes_phase_0():
    images = np.zeros((1, 4, 4, 3), np.float32)
    _, partners = pair(4, 4, 1)
    made = exchanged(images, partners, band=2.0, form="sharp")
    np.testing.assert_allclose(made, np.fft.ifft2(np.abs(spectrum(partners)), axes=(1, 2)).real, atol=1e-3)


def test_partners_are_of_the_same_person_and_each_is_as_likely():
    labels, others = np.array([4, 7, 4, 2]), np.array([7, 4, 4, 9, 4, 7])
    draws = (np.arange(600) + 0.5) / 600
    place, there = jax.vmap(lambda draw: drawn_partners(labels, others, jnp.full(4, draw)))(np.float32(draws))
    assert np.array_equal(np.unique(there, axis=0), [[True, True, True, False]])
    for image, own in enumerate(({1, 2, 4}, {0, 5}, {1, 2, 4})):
        found, number = np.unique(place[:, image], return_counts=True)
        assert set(found.tolist()) == own
        np.testing.assert_array_equal(number, 600 // len(own))


LABELS = {"visible": np.array([0, 0, 1, 1]), "infrared": np.array([1, 1, 0, 2])}


def batch(count=4):
    rng = np.random.default_rng(8)
    return {m: rng.integers(0, 256, (count, 8, 4, 3)).astype(np.uint8) for m in LABELS}


def keys(step=0):
    return {m: sample_keys(0, step, np.arange(4) + 4 * number) for number, m in enumerate(LABELS)}


def settings(**switch):
    return Augmentation(**{"amplitude_exchange": 1.0, "amplitude_band": 0.3, **switch})


def test_images_of_both_modalities_are_changed_and_those_without_a_partner_not():
    images = batch()
    made = exchange_amplitudes(images, LABELS, keys(), settings(), gather=lambda x: x)
    # The only infrared image of person 0 is the partner of both.
    expected = exchanged(images["visible"][:2], images["infrared"][[2, 2]], band=0.3)
    np.testing.assert_allclose(made["visible"][:2], np.clip(expected, 0, 255), atol=1e-3)
    np.testing.assert_array_equal(made["infrared"][3], images["infrared"][3])
    for modality in LABELS:
        assert made[modality].dtype == jnp.float32
        assert made[modality].min() >= 0 and made[modality].max() <= 255
    for image, person in enumerate(LABELS["infrared"][:3]):
        others = images["visible"][LABELS["visible"] == person]
        each = [np.clip(exchanged(images["infrared"][[image]], x[None], band=0.3)[0], 0, 255) for x in others]
        assert any(np.allclose(made["infrared"][image], one, atol=1e-3) for one in each)


def test_any_person_may_be_a_partner():
    seen = set()
    for step in range(12):
        images = batch()
        how = settings(amplitude_partner="any")
        made = exchange_amplitudes(images, LABELS, keys(step), how, gather=lambda x: x)["infrared"][3]
        each = np.clip(exchanged(np.tile(images["infrared"][3], (4, 1, 1, 1)), images["visible"], band=0.3), 0, 255)
        (place,) = np.flatnonzero(np.abs(each - made[None]).max(axis=(1, 2, 3)) < 1e-3)
        seen.add(int(place))
    assert len(seen) > 2


def test_changed_visible_images_may_show_one_channel():
    images = batch()
    plain, gray = (
        exchange_amplitudes(images, LABELS, keys(), settings(amplitude_channel=on), gather=lambda x: x)
        for on in (False, True)
    )
    np.testing.assert_array_equal(plain["infrared"], gray["infrared"])
    for image, shown in zip(plain["visible"], gray["visible"], strict=True):
        np.testing.assert_array_equal(np.ptp(shown, axis=-1), 0)
        assert any(np.array_equal(shown[..., 0], image[..., channel]) for channel in range(3))


def test_its_probability_is_kept():
    count = 400
    images = {m: np.tile(x[:1], (count, 1, 1, 1)) for m, x in batch().items()}
    of_one = {m: np.zeros(count, int) for m in images}
    drawn = {m: sample_keys(0, 0, np.arange(count) + count * number) for number, m in enumerate(images)}
    made = exchange_amplitudes(images, of_one, drawn, settings(amplitude_exchange=0.3), gather=lambda x: x)
    for modality, x in made.items():
        share = np.mean(np.any(x != images[modality], axis=(1, 2, 3)))
        assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / count)


@pytest.mark.parametrize("partner", ["identity", "any"])
def test_devices_do_not_matter(partner):
    config = methods.configured(
        tiny_config(**{"method": "agw", "augment.amplitude_exchange": 1.0, "augment.amplitude_partner": partner}),
        chosen={"batch.identities", "batch.visible", "batch.infrared"},
    )
    method = methods.build(config, num_identities=CLASSES)

    def view(devices):
        step = functools.partial(method.view, step=jnp.int32(3))
        seen = jax.pmap(step, axis_name=parallel.AXIS, devices=jax.local_devices()[:devices])
        images, _ = seen(make_batch(config, devices))
        return {m: np.asarray(x).reshape(-1, *x.shape[2:]) for m, x in images.items()}

    one, four = view(1), view(4)
    for modality, images in one.items():
        np.testing.assert_allclose(four[modality], images, atol=1e-4)


def test_other_augmentation_is_drawn_as_it_is_without_it():
    nothing = {"augment.amplitude_exchange": 1.0, "augment.amplitude_strength": 0.0}
    views = []
    for changes in ({}, nothing):
        config = tiny_config(**{"augment.pad": 2, **changes})
        method = methods.build(config, num_identities=CLASSES)
        one = jax.tree.map(lambda x: x[0], make_batch(config))
        views.append(jax.jit(lambda method=method, one=one: method.view(one, jnp.int32(1))[0])())
    for modality, images in views[0].items():
        np.testing.assert_allclose(views[1][modality], images, atol=1e-3)


def test_one_modality_alone_has_nothing_to_exchange():
    config = tiny_config(**{"batch.infrared": 0, "augment.amplitude_exchange": 0.5, "loss.mecen.weight": 0.0})
    with pytest.raises(
        UserError, match=r"augment\.amplitude_exchange is 0\.5; expected 0, because there are no images"
    ):
        methods.build(config, num_identities=CLASSES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amplitude_exchange", 1.5),
        ("amplitude_strength", -0.1),
        ("amplitude_band", 0.0),
        ("amplitude_filter", "square"),
        ("amplitude_partner", "self"),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    config = config_lib.default_config()
    config.augment[name] = value
    with pytest.raises(UserError, match=rf"augment\.{name} is .*; expected"):
        config_lib.validate(config)
