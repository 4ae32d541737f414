"""What of the two modalities' images reaches a network's first convolution."""

import jax
import jax.numpy as jnp

from jax_mspac.modalities import LUMA, VISIBLE

INPUT_FORMS = ("rgb", "zero_padding", "four_channels")


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


def gray(images: jax.Array) -> jax.Array:
    """The luma of the channels, whatever their scale: [..., 3] to [...]."""
    red, green, blue = (weight * images[..., c] for c, weight in enumerate(LUMA))
    return red + green + blue
