"""Random augmentation and normalization of images: pure JAX, inside the step.

The result for an image is a function of the image, its key and its modality; the rest of the batch plays no part.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.modalities import LUMA, MODALITIES, VISIBLE
from jax_mspac.settings import PROBABILITY, Expected, at_least, check, one_of, setting

# Statistics of the ImageNet training images, on the scale of uint8.
MEAN = 255.0 * np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 1, 1, 3)
STD = 255.0 * np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 1, 1, 3)

BORDERS = ("mean", "black")
# Rectangles drawn until one fits; of those that the public code draws, nine in ten do.
_TRIES = 16
# CAJ draws one of R, G, B and gray, and leaves half of the gray ones as they are.
_INFRARED_VIEWS = np.array([*np.eye(3).repeat(2, axis=0), LUMA], np.float32)

_AREAS = Expected("0 < smallest <= largest <= 1", lambda areas: 0 < areas[0] <= areas[1] <= 1)
_ASPECTS = Expected("0 < smallest <= largest", lambda aspects: 0 < aspects[0] <= aspects[1] < np.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Which random changes are made to the training images.

    Erasing is that of Zhong et al. (arXiv 1708.04896); channel exchange and channel augmentation are those of Ye et al.
    (CAJ, ICCV 2021), whose public code exchanges normalized channels, of infrared images too.
    """

    pad: int = setting(4, at_least(0, "0 (no random crop) or more pixels"), "of padding before a random crop")
    border: str = setting("mean", one_of(BORDERS), "of the padding: the mean color, or black as in most public code")
    flip: float = setting(0.5, PROBABILITY, "of a left-right flip")
    erasing: float = setting(0.5, PROBABILITY, "of erasing a random rectangle")
    erasing_area: tuple[float, float] = setting((0.02, 0.4), _AREAS, "of the rectangle, as fractions of the image")
    erasing_aspect: tuple[float, float] = setting((0.3, 1 / 0.3), _ASPECTS, "height / width of the rectangle")
    channel_exchange: float = setting(0.0, PROBABILITY, "visible images only: one channel shown in all three")
    exchange_normalized: bool = setting(False, None, "mix channels after normalization, so that all three are equal")
    infrared_exchange: float = setting(
        0.0, PROBABILITY, "infrared images: one normalized channel, or gray, in all three"
    )
    random_gray: float = setting(0.0, PROBABILITY, "visible images only; no effect after a channel exchange")
    channel_augmentation: bool = setting(False, None, "show each visible image twice, then with channel exchange")

    def __post_init__(self) -> None:
        check(self)


def sample_keys(seed: int | jax.Array, step: int | jax.Array, slots: jax.Array) -> jax.Array:
    """One random key per image, keys [n], a function of (seed, step, slot) alone.

    They are the seed of the run, the number of updates done, and positions in the global batch, int [n].
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, slots)


def normalize(images: jax.Array) -> jax.Array:
    """Subtracts ImageNet's channel means and divides by its standard deviations: float32 [n, H, W, 3].

    The images are uint8, or float on the same scale.
    """
    return (images.astype(jnp.float32) - MEAN) / STD


def augment(images: jax.Array, keys: jax.Array, *, modality: str, augmentation: Augmentation) -> jax.Array:
    """Random color (visible only), crop, flip and erasing, in this order, and `normalize`.

    Erased rectangles and, unless it is black, padding are 0 after normalization: the mean color, with which
    convolutions pad as well. Black puts an edge of two standard deviations into the training images that test images do
    not have.

    The images, [n, H, W, 3], and the result are as of `normalize`. Keys [n] come from `sample_keys`; images of the two
    modalities with the same key are augmented independently.
    """
    # All numbers are drawn whatever is switched on, so that one switch does not change what another one does.
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, MODALITIES.index(modality))
    draws = jax.vmap(lambda key: jax.random.uniform(key, (11,)))(keys)
    kept = jnp.ones((len(images), *images.shape[1:3], 1), bool)

    if augmentation.pad:
        images, inside = _crop(images, draws[:, 0:2], augmentation.pad)
        kept &= inside | (augmentation.border == "black")
    if augmentation.flip:
        flip = _per_image(draws[:, 2] < augmentation.flip)
        images, kept = (jnp.where(flip, x[:, :, ::-1], x) for x in (images, kept))
    if augmentation.erasing:
        erase = _per_image(draws[:, 3] < augmentation.erasing)
        tries = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (_TRIES, 2)))(keys)
        kept &= ~(erase & _rectangle(images.shape, tries, draws[:, 4:6], augmentation))
    normalized = augmentation.exchange_normalized
    images = normalize(images) if normalized else images.astype(jnp.float32)
    if modality == VISIBLE and (augmentation.channel_exchange or augmentation.random_gray):
        images = _mix_channels(images, draws[:, 8:11], augmentation)
    images = images if normalized else normalize(images)
    if modality != VISIBLE and augmentation.infrared_exchange:
        weights = jnp.asarray(_INFRARED_VIEWS)[_integers(draws[:, 10], len(_INFRARED_VIEWS))]
        images = _shown(images, draws[:, 8] < augmentation.infrared_exchange, weights)
    return jnp.where(kept, images, 0.0)


def _crop(images: jax.Array, draws: jax.Array, pad: int) -> tuple[jax.Array, jax.Array]:
    """Shifts each image by up to `pad` pixels; also says which pixels [n, H, W, 1] come from inside the image."""
    _, height, width, channels = images.shape
    offsets = _integers(draws, 2 * pad + 1)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def window(image, offset):
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    rows, columns = _grid(height, width)
    inside = _between(rows + _per_image(offsets[:, 0]), pad, pad + height)
    inside &= _between(columns + _per_image(offsets[:, 1]), pad, pad + width)
    return jax.vmap(window)(padded, offsets), inside


def _rectangle(shape: tuple[int, ...], tries: jax.Array, position: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Mask [n, H, W, 1] of a random rectangle in each image: area and aspect uniform, drawn anew until it fits.

    Args:
      shape: of the images.
      tries: uniform numbers [n, tries, 2]; if no try fits, the last one is cut to the size of the image.
      position: uniform numbers [n, 2].
      augmentation: the ranges.
    """
    _, height, width, _ = shape
    (low, high), (lowest, highest) = augmentation.erasing_area, augmentation.erasing_aspect
    area = (low + (high - low) * tries[..., 0]) * (height * width)
    aspect = lowest + (highest - lowest) * tries[..., 1]
    sizes = jnp.maximum(jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], axis=-1))).astype(jnp.int32), 1)
    limit = jnp.array([[[height, width]]])
    fits = jnp.all(sizes < limit, axis=-1).at[:, -1].set(True)
    sizes = jnp.minimum(sizes, limit)[jnp.arange(len(sizes)), jnp.argmax(fits, axis=1)]
    rectangle_height, rectangle_width = sizes[:, 0], sizes[:, 1]
    top = _integers(position[:, 0], height - rectangle_height + 1)
    left = _integers(position[:, 1], width - rectangle_width + 1)

    rows, columns = _grid(height, width)
    inside_rows = _between(rows, _per_image(top), _per_image(top + rectangle_height))
    return inside_rows & _between(columns, _per_image(left), _per_image(left + rectangle_width))


def _mix_channels(images: jax.Array, draws: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Replaces all three channels by one of them, or by the luma, or keeps them."""
    exchange = draws[:, 0] < augmentation.channel_exchange
    gray = draws[:, 1] < augmentation.random_gray
    one_channel = jax.nn.one_hot(_integers(draws[:, 2], 3), 3)
    weights = jnp.where(exchange[:, None], one_channel, jnp.array([LUMA]))
    return _shown(images, exchange | gray, weights)


def _shown(images: jax.Array, where: jax.Array, weights: jax.Array) -> jax.Array:
    """Images [n, H, W, 3] whose three channels are, `where` [n], their sum weighted by `weights` [n, 3]."""
    mixed = sum(images[..., c : c + 1] * _per_image(weights[:, c]) for c in range(3))
    return jnp.where(_per_image(where), mixed, images)


def _integers(draws: jax.Array, upper: int | jax.Array) -> jax.Array:
    """Turns uniform numbers in [0, 1) into integers in [0, upper)."""
    return jnp.floor(draws * upper).astype(jnp.int32)


def _grid(height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Row numbers [1, H, 1, 1] and column numbers [1, 1, W, 1]."""
    return jnp.arange(height).reshape(1, -1, 1, 1), jnp.arange(width).reshape(1, 1, -1, 1)


def _between(x: jax.Array, low: int | jax.Array, high: int | jax.Array) -> jax.Array:
    return (low <= x) & (x < high)


def _per_image(x: jax.Array) -> jax.Array:
    """[n] -> [n, 1, 1, 1]."""
    return x.reshape(-1, 1, 1, 1)
