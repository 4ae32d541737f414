"""What of the two modalities' images reaches a network's first convolution."""

import jax
import jax.numpy as jnp

from jax_mspac.modalities import LUMA, VISIBLE

INPUT_FORMS = ("rgb", "zero_padding")


def zero_padded(images: jax.Array, *, modality: str) -> jax.Array:
    """Deep zero-padding (Wu et al., ICCV 2017): visible images become [gray, 0], infrared ones [0, gray].

    Normalized float images [n, H, W, 3] of one modality become [n, H, W, 2] of the same dtype.
    Gray is the luma of the normalized channels. That is an affine function of R, G and B as well, whose mean is zero
    again, and so the mean color, which fills padding and erased rectangles, stays zero in both channels.
    """
    gray = sum(weight * images[..., c] for c, weight in enumerate(LUMA))
    zero = jnp.zeros_like(gray)
    return jnp.stack([gray, zero] if modality == VISIBLE else [zero, gray], axis=-1)
