"""The Fourier transform of maps, in both of its forms, against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.kernels import fourier

SIZES = [(1, 1), (2, 3), (6, 4), (5, 7), (24, 12)]


def drawn(height, width):
    return np.random.default_rng(height).normal(size=(2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_spectra_are_numpy_s_and_lead_back(height, width, kernels):
    x = drawn(height, width)

    @jax.jit
    def both(x):
        spectrum = fourier.forward(x, kernels=kernels)
        return spectrum, fourier.inverse(spectrum, width, kernels=kernels)

    (real, imaginary), back = both(x)
    expected = np.fft.rfft2(x, axes=(1, 2))
    np.testing.assert_allclose(real, expected.real, atol=2e-5)
    np.testing.assert_allclose(imaginary, expected.imag, atol=2e-5)
    np.testing.assert_allclose(back, x, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_forms_agree_on_spectra_that_are_changed(height, width):
    # What an imaginary part does where that of a real map is 0 is nothing.
    x, y = drawn(height, width), drawn(height, width)[::-1]
    changed = (fourier.forward(x)[0], fourier.forward(y)[1] + 1)
    native, plain = (fourier.inverse(changed, width, kernels=kernels) for kernels in ("native", "plain"))
    np.testing.assert_allclose(plain, native, atol=1e-5)


def test_bfloat16_is_transformed_in_float32():
    x = jnp.asarray(drawn(6, 4), jnp.bfloat16)
    for kernels in ("auto", "plain"):
        found = fourier.forward(x, kernels=kernels)
        assert {part.dtype for part in found} == {np.dtype(np.float32)}
        np.testing.assert_allclose(found[0], np.fft.rfft2(np.float32(x), axes=(1, 2)).real, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_counts_and_radii_are_those_of_all_frequencies(height, width):
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    every = np.sort(2 * np.sqrt(down**2 + across**2).ravel())
    counts = np.broadcast_to(fourier.counts(width).astype(int), (height, width // 2 + 1))
    np.testing.assert_allclose(np.sort(np.repeat(fourier.radii(height, width).ravel(), counts.ravel())), every)


def test_parseval_s_sum_needs_the_counts():
    x = drawn(5, 6)
    real, imaginary = fourier.forward(x)
    power = np.sum((real**2 + imaginary**2) * fourier.counts(6)[None, None, :, None], axis=(1, 2)) / 30
    np.testing.assert_allclose(power, np.sum(x**2, axis=(1, 2)), rtol=1e-5)
