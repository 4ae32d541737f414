"""What of the two modalities' images reaches a network's first convolution."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jax_mspac.modalities import LUMA, VISIBLE

INPUT_FORMS = ("rgb", "zero_padding", "four_channels", "local_normalization", "gradient_orientation")
# Side of the square that is local, in pixels, and the share of the whole image in what is divided by: where an image is
# flat there is noise alone.
_WINDOW = 9
_SHARE = 0.1
# So small that it matters in images without any contrast alone.
_TINY = 1e-8


def formed(images: jax.Array, form: str, *, modality: str) -> jax.Array:
    """Normalized float images of one modality, [n, H, W, 3], in a form of `INPUT_FORMS`."""
    match form:
        case "zero_padding":
            return zero_padded(images, modality=modality)
        case "four_channels":
            return completed(images, modality=modality)
        case "local_normalization":
            return locally_normalized(images)
        case "gradient_orientation":
            return gradient_orientation(images)
    return images


def zero_padded(images: jax.Array, *, modality: str) -> jax.Array:
    """Deep zero-padding (Wu et al., ICCV 2017): visible images become [gray, 0], infrared ones [0, gray].

    Normalized float images [n, H, W, 3] of one modality become [n, H, W, 2] of the same dtype.
    Gray is the luma of the normalized channels. That is an affine function of R, G and B as well, whose mean is zero
    again, and so the mean color, which fills padding and erased rectangles, stays zero in both channels.
    """
    luma = gray(images)
    zero = jnp.zeros_like(luma)
    return jnp.stack([luma, zero] if modality == VISIBLE else [zero, luma], axis=-1)


def four_channels(visible: jax.Array, infrared: jax.Array) -> jax.Array:
    """A visible image and an infrared one of the same scene as one of four channels: R, G, B and infrared.

    D2RL (Wang et al., CVPR 2019) makes one of the two from the other. Normalized float images [n, H, W, 3] each become
    [n, H, W, 4]; the fourth is the gray of `zero_padded`.
    """
    return jnp.concatenate([visible, gray(infrared)[..., None]], axis=-1)


def completed(images: jax.Array, *, modality: str) -> jax.Array:
    """Images of one modality as `four_channels`: those of three channels get zeros, the mean color, for the other's."""
    if images.shape[-1] == 4:
        return images
    zero = jnp.zeros_like(images)
    return four_channels(images, zero) if modality == VISIBLE else four_channels(zero, images)


def locally_normalized(images: jax.Array) -> jax.Array:
    """Gray minus its local mean, over its local deviation, three times: what no lamp and no rising line changes.

    With y the gray of `zero_padded` and M the mean of the 9 x 9 pixels around, at borders of those that the image has,
    it is (y - M y) / sqrt(v + m / 10), where v = M y^2 - (M y)^2 and m is the mean of v over the image. Every rising
    affine map of gray values leaves it as it is, a falling one turns its sign.

    Normalized float images [n, H, W, 3] become as many numbers of the same dtype; 0 is a flat image.
    """
    # The mean of all is taken off first: in float32, little is left of the difference of two large squares.
    luma = gray(images)
    luma = luma - jnp.mean(luma, axis=(1, 2), keepdims=True)
    mean = _local_mean(luma)
    variance = jnp.maximum(_local_mean(jnp.square(luma)) - jnp.square(mean), 0.0)
    normalized = (luma - mean) * jax.lax.rsqrt(_floored(variance))
    return jnp.repeat(normalized[..., None], 3, axis=-1)


def gradient_orientation(images: jax.Array) -> jax.Array:
    """Where edges are and along which line they lie, not which side is the brighter one: neither does inversion matter.

    Derivatives are Sobel's, their products are summed over the three channels (Di Zenzo, "A note on the gradient of a
    multi-image", 1986), so that an edge between two colors counts as well:

        xx = sum gx gx, yy = sum gy gy, xy = sum gx gy; E = xx + yy; N = M E + m / 10
        (xx - yy, 2 xy, E) / sqrt(E (E + N))

    M is the mean of the 9 x 9 pixels around, as in `locally_normalized`, and m the mean of M E over the image. For a
    gray image that is (cos 2t, sin 2t, 1) r of the direction t and the strength r of the gradient, 0 to 1, relative to
    what is around. No affine map of gray values changes it, rising or falling.

    Normalized float images [n, H, W, 3] become [n, H, W, 3] of the same dtype; 0 is a flat image.
    """
    across, down = _sobel(images, axis=2), _sobel(images, axis=1)
    xx, yy, xy = (jnp.sum(product, axis=-1) for product in (across * across, down * down, across * down))
    energy = xx + yy
    around = _floored(_local_mean(energy))
    # A share of what is around keeps the derivative finite where the energy is 0.
    scale = jax.lax.rsqrt(energy + 1e-6 * around) * jax.lax.rsqrt(energy + around)
    return jnp.stack([xx - yy, 2 * xy, energy], axis=-1) * scale[..., None]


def _floored(local: jax.Array) -> jax.Array:
    """A local mean [n, H, W] plus a share of its mean over the image."""
    return local + _SHARE * jnp.mean(local, axis=(1, 2), keepdims=True) + _TINY


def _local_mean(x: jax.Array) -> jax.Array:
    """The mean of the square around each pixel of [n, H, W], of the pixels that there are."""
    return _box(x) / _box(jnp.ones((1, *x.shape[1:]), x.dtype))


def _box(x: jax.Array) -> jax.Array:
    """The sum of the square around each pixel of [n, H, W]; outside there is nothing."""
    reach = _WINDOW // 2
    for axis in (1, 2):
        padding = [(0, 0)] * 3
        padding[axis] = (reach, reach)
        x = _weighted(jnp.pad(x, padding), (1.0,) * _WINDOW, axis=axis)
    return x


def _sobel(x: jax.Array, *, axis: int) -> jax.Array:
    """The derivative along an axis of [n, H, W, C], smoothed along the other one; at borders pixels are repeated."""
    for along, weights in ((3 - axis, (1.0, 2.0, 1.0)), (axis, (-1.0, 0.0, 1.0))):
        # Slices, not `jnp.pad`, whose form for this has reshapes that the converter to ONNX gets wrong.
        first, last = jax.lax.slice_in_dim(x, 0, 1, axis=along), jax.lax.slice_in_dim(x, -1, None, axis=along)
        x = _weighted(jnp.concatenate([first, x, last], axis=along), weights, axis=along)
    return x


def _weighted(padded: jax.Array, weights: Sequence[float], *, axis: int) -> jax.Array:
    """The sum of neighbors along an axis, by weights; it becomes shorter by their number less one."""
    length = padded.shape[axis] - len(weights) + 1
    windows = (w * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i, w in enumerate(weights) if w)
    return functools.reduce(jnp.add, windows)


def gray(images: jax.Array) -> jax.Array:
    """The luma of the channels, whatever their scale: [..., 3] to [...]."""
    red, green, blue = (weight * images[..., c] for c, weight in enumerate(LUMA))
    return red + green + blue
