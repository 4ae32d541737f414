"""Brightness, contrast and blur of images, as PMT distorts infrared ones (github.com/hulu88/PMT)."""

import jax
import jax.numpy as jnp

from jax_mspac.methods import rectangles
from jax_mspac.modalities import LUMA

# Taps of the Gaussian, 21 in the public code, on each side of the middle.
_REACH = 10


def distorted(
    images: jax.Array, keys: jax.Array, *, probability: float, strength: float, blur: tuple[float, float]
) -> jax.Array:
    """Some images with other brightness and contrast, and as many blurred.

    Half of the changed images get both jitters of torchvision's `ColorJitter(strength, strength)`, in either order:
    all values times a number, and their distance from the mean gray value of the image times another, both from
    U(1 - strength, 1 + strength). The other half get its `GaussianBlur(21, blur)`, whose deviation is uniform in its
    range.

    Args:
      images: float32 [n, H, W, 3] in [0, 255].
      keys: one per image, [n].
      probability: of an image to be changed.
      strength: 0 to 1.
      blur: smallest and largest deviation of the Gaussian, in pixels.

    Returns:
      The images, of the same shape, in [0, 255]. Values are not rounded, as the public code's are after each change.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (6,)))(keys)
    brightness, contrast = (1 + strength * (2 * draws[:, i] - 1) for i in (2, 3))
    bright, other = _brightened(images, brightness), _contrasted(images, contrast)
    first = rectangles.per_image(draws[:, 4] < 0.5)
    jittered = jnp.where(first, _contrasted(bright, contrast), _brightened(other, brightness))
    blurred = _blurred(images, blur[0] + (blur[1] - blur[0]) * draws[:, 5])
    made = jnp.where(rectangles.per_image(draws[:, 1] < 0.5), jittered, blurred)
    return jnp.where(rectangles.per_image(draws[:, 0] < probability), made, images)


def _brightened(images: jax.Array, factors: jax.Array) -> jax.Array:
    return jnp.clip(images * rectangles.per_image(factors), 0.0, 255.0)


def _contrasted(images: jax.Array, factors: jax.Array) -> jax.Array:
    gray = sum(images[..., channel] * weight for channel, weight in enumerate(LUMA))
    mean = rectangles.per_image(jnp.mean(gray, axis=(1, 2)))
    return jnp.clip(mean + (images - mean) * rectangles.per_image(factors), 0.0, 255.0)


def _blurred(images: jax.Array, deviations: jax.Array) -> jax.Array:
    """Gaussian blur in both directions; at borders the image is mirrored."""
    taps = jnp.arange(-_REACH, _REACH + 1)[None]
    weights = jax.nn.softmax(-jnp.square(taps / deviations[:, None]) / 2, axis=1)
    for axis in (1, 2):
        padding = [(0, 0)] * 4
        padding[axis] = (_REACH, _REACH)
        padded, length = jnp.pad(images, padding, mode="reflect"), images.shape[axis]
        images = jnp.zeros_like(images)
        for i in range(2 * _REACH + 1):
            window = jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
            images += window * rectangles.per_image(weights[:, i])
    return images
