"""Random augmentation and normalization of images: pure JAX, inside the step.

The result for an image is a function of the image, its key and its modality. The rest of the batch plays no part but in
`exchange_amplitudes`, which comes first.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.methods import amplitude, distortion, linear_enhancement, rectangles, tone_curves
from jax_mspac.modalities import LUMA, MODALITIES, VISIBLE
from jax_mspac.settings import FRACTION, PROBABILITY, Expected, at_least, check, one_of, setting, within

# Statistics of the ImageNet training images, on the scale of uint8.
MEAN = 255.0 * np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 1, 1, 3)
STD = 255.0 * np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 1, 1, 3)

# What is around an image. The mean color is that of 0 after normalization.
_FILLS = {"mean": 0, "black": 0, "gray": 127}
BORDERS = tuple(_FILLS)
# Whose amplitudes an image is given: of the same person, or of anyone.
PARTNERS = ("identity", "any")
# Rectangles drawn until one fits; of those that the public code draws, nine in ten do.
_TRIES = 16
# CAJ draws one of R, G, B and gray, a quarter each, and leaves a part of the gray ones as they are.
_INFRARED_VIEWS = np.array([*np.eye(3), LUMA], np.float32)

_AREAS = Expected("0 < smallest <= largest <= 1", lambda areas: 0 < areas[0] <= areas[1] <= 1)
_ASPECTS = Expected("0 < smallest <= largest", lambda aspects: 0 < aspects[0] <= aspects[1] < np.inf)

_SHAPE = Expected("above 0, and 1 or less", lambda value: 0 < value <= 1)
_BAND = Expected("above 0, and 2 or less", lambda value: 0 < value <= 2)
_DARKEST = Expected("between 0 and 1", lambda value: 0 < value < 1)
# What is folded into the keys of a modality's images for each part that draws for itself.
_ERASING, _MODERATE, _RADICAL, _DISTORTION, _AMPLITUDE, _TONE = range(1, 7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Which random changes are made to the training images.

    Erasing is that of Zhong et al. (arXiv 1708.04896); channel exchange and channel augmentation are those of Ye et al.
    (CAJ, ICCV 2021), whose public code exchanges normalized channels, of infrared images too.
    """

    pad: int = setting(4, at_least(0, "0 (no random crop) or more pixels"), "of padding before a random crop")
    border: str = setting(
        "mean", one_of(BORDERS), "of the padding: the mean color, black as in most public code, or 127"
    )
    flip: float = setting(0.5, PROBABILITY, "of a left-right flip")
    erasing: float = setting(0.5, PROBABILITY, "of erasing a random rectangle")
    erasing_area: tuple[float, float] = setting((0.02, 0.4), _AREAS, "of the rectangle, as fractions of the image")
    erasing_aspect: tuple[float, float] = setting((0.3, 1 / 0.3), _ASPECTS, "height / width of the rectangle")
    infrared_erasing_factor: float = setting(1.0, PROBABILITY, "times `erasing`: its probability for infrared images")
    channel_exchange: float = setting(0.0, PROBABILITY, "visible images only: one channel shown in all three")
    exchange_normalized: bool = setting(False, None, "exchange after normalization, so that all channels are equal")
    infrared_exchange: float = setting(
        0.0, PROBABILITY, "infrared images: one normalized channel in all three, up to 1/4 each, or gray, the rest"
    )
    random_gray: float = setting(0.0, PROBABILITY, "visible images only; no effect after a channel exchange")
    channel_augmentation: bool = setting(False, None, "show each visible image twice, then with channel exchange")
    moderate_enhancement: float = setting(0.0, PROBABILITY, "RLE's, both modalities: gray of random weights")
    moderate_beta: float = setting(0.3, _SHAPE, "the weights are from Beta(b, b)")
    radical_enhancement: float = setting(0.0, PROBABILITY, "RLE's, both modalities: rectangles of other brightness")
    radical_beta: float = setting(0.4, _SHAPE, "the maxima of their channels are from Beta(b, b)")
    radical_darkest: float = setting(0.1, _DARKEST, "rectangles are added until one darkens by this factor")
    infrared_distortion: float = setting(0.0, PROBABILITY, "PMT's: infrared images jittered or blurred, half of each")
    infrared_jitter: float = setting(0.3, FRACTION, "how far the factors of brightness and contrast are from 1")
    infrared_blur: tuple[float, float] = setting((0.1, 3.0), _ASPECTS, "deviation of the Gaussian, pixels")
    tone_curves: float = setting(0.0, PROBABILITY, "of an image to be seen as by another camera: a random curve")
    tone_modality: str = setting("both", one_of(("both", *MODALITIES)), "whose images these are")
    tone_knots: int = setting(5, at_least(2), "of a curve, which is straight between them")
    tone_monotone: float = setting(0.5, PROBABILITY, "of a curve to keep or to turn around the order of brightness")
    tone_inversion: float = setting(0.5, PROBABILITY, "of such a curve to turn it around: bright is dark")
    tone_regions: int = setting(0, at_least(0), "rectangles of an image with curves of their own")
    amplitude_exchange: float = setting(0.0, PROBABILITY, "MFEN's: low amplitudes of an image of the other modality")
    amplitude_strength: float = setting(1.0, within(0, 1), "1: they replace the image's own; less: a mixture")
    amplitude_band: float = setting(0.1, _BAND, "what is low, of the frequency whose period is two pixels")
    amplitude_filter: str = setting("gaussian", one_of(amplitude.FILTERS), "the band is its deviation; sharp: its edge")
    amplitude_partner: str = setting("identity", one_of(PARTNERS), "an image of the same person, or of any")
    amplitude_channel: bool = setting(False, None, "visible images so changed show one of their channels in all three")

    def __post_init__(self) -> None:
        check(self)


def sample_keys(seed: int | jax.Array, step: int | jax.Array, slots: jax.Array) -> jax.Array:
    """One random key per image, keys [n], a function of (seed, step, slot) alone.

    They are the seed of the run, the number of updates done, and positions in the global batch, int [n].
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, slots)


def folded(keys: jax.Array, number: int) -> jax.Array:
    """Keys [n] with a number folded into each."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def normalize(images: jax.Array) -> jax.Array:
    """Subtracts ImageNet's channel means and divides by its standard deviations: float32 [n, H, W, 3].

    The images are uint8, or float on the same scale.
    """
    return (images.astype(jnp.float32) - MEAN) / STD


def augment(images: jax.Array, keys: jax.Array, *, modality: str, augmentation: Augmentation) -> jax.Array:
    """Random color (visible only), linear enhancement, tone curves, crop, flip and erasing, and `normalize`.

    Erased rectangles and, unless it is black, padding are 0 after normalization: the mean color, with which
    convolutions pad as well. Black puts an edge of two standard deviations into the training images that test images do
    not have.

    The images, [n, H, W, 3], and the result are as of `normalize`. Keys [n] come from `sample_keys`; images of the two
    modalities with the same key are augmented independently.
    """
    # All numbers are drawn whatever is switched on, so that one switch does not change what another one does.
    keys = folded(keys, MODALITIES.index(modality))
    draws = jax.vmap(lambda key: jax.random.uniform(key, (11,)))(keys)
    height, width = images.shape[1:3]
    kept = jnp.ones((len(images), height, width, 1), bool)

    if augmentation.pad:
        images, inside = _crop(images, draws[:, 0:2], augmentation.pad, _FILLS[augmentation.border])
        kept &= inside | (augmentation.border != "mean")
    if augmentation.flip:
        flip = rectangles.per_image(draws[:, 2] < augmentation.flip)
        images, kept = (jnp.where(flip, x[:, :, ::-1], x) for x in (images, kept))
    if augmentation.erasing:
        factor = 1.0 if modality == VISIBLE else augmentation.infrared_erasing_factor
        erase = rectangles.per_image(draws[:, 3] < augmentation.erasing * factor)
        tries = jax.vmap(lambda key: jax.random.uniform(key, (_TRIES, 2)))(folded(keys, _ERASING))
        ranges = {"areas": augmentation.erasing_area, "aspects": augmentation.erasing_aspect}
        size = rectangles.first_that_fits(tries, height, width, **ranges)
        kept &= ~(erase & rectangles.placed(size, draws[:, 4:6], height, width))
    images = images.astype(jnp.float32)
    exchange = draws[:, 8] < (augmentation.channel_exchange if modality == VISIBLE else 0.0)
    one_channel = jax.nn.one_hot(rectangles.integers(draws[:, 10], 3), 3)
    exchanges = modality == VISIBLE and augmentation.channel_exchange > 0
    if modality == VISIBLE and augmentation.random_gray:
        gray = (draws[:, 9] < augmentation.random_gray) & ~exchange
        images = _shown(images, gray, jnp.array([LUMA]))
    if exchanges and not augmentation.exchange_normalized:
        images = _shown(images, exchange, one_channel)
    images = _enhanced(images, keys, augmentation)
    if modality != VISIBLE and augmentation.infrared_distortion:
        images = distortion.distorted(
            images,
            folded(keys, _DISTORTION),
            probability=augmentation.infrared_distortion,
            strength=augmentation.infrared_jitter,
            blur=augmentation.infrared_blur,
        )
    if augmentation.tone_curves and augmentation.tone_modality in ("both", modality):
        images = tone_curves.toned(
            images,
            folded(keys, _TONE),
            probability=augmentation.tone_curves,
            knots=augmentation.tone_knots,
            monotone=augmentation.tone_monotone,
            inversion=augmentation.tone_inversion,
            regions=augmentation.tone_regions,
        )
    images = normalize(images)
    if exchanges and augmentation.exchange_normalized:
        images = _shown(images, exchange, one_channel)
    if modality != VISIBLE and augmentation.infrared_exchange:
        images = _infrared_view(images, draws[:, 8], draws[:, 10], augmentation.infrared_exchange)
    return jnp.where(kept, images, 0.0)


def exchange_amplitudes(
    images: Mapping[str, jax.Array],
    labels: Mapping[str, jax.Array],
    keys: Mapping[str, jax.Array],
    augmentation: Augmentation,
    *,
    gather: Callable[[jax.Array], jax.Array],
) -> dict[str, jax.Array]:
    """Some images with low amplitudes of an image of the other modality: float32 [n, H, W, 3], in [0, 255].

    One without such a partner stays as it is.

    Args:
      images: of both modalities, uint8 or float on the same scale, [n, H, W, 3] each.
      labels: of the modality's images, int [n].
      keys: of these, as of `augment`.
      augmentation: its `amplitude_` settings.
      gather: what a device has -> what all have, for partners of any identity; those of an identity are on one device.
    """
    made = {}
    for modality, own in images.items():
        (other,) = images.keys() - {modality}
        own_keys = folded(folded(keys[modality], MODALITIES.index(modality)), _AMPLITUDE)
        draws = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(own_keys)
        found, persons, own_persons = jnp.asarray(images[other]), labels[other], labels[modality]
        if augmentation.amplitude_partner == "any":
            found = gather(found)
            persons, own_persons = jnp.zeros(len(found), jnp.int32), jnp.zeros(len(own), jnp.int32)
        partner, there = amplitude.drawn_partners(own_persons, persons, draws[:, 1])
        own = own.astype(jnp.float32)
        changed = amplitude.exchanged(
            own,
            found[partner].astype(jnp.float32),
            strength=augmentation.amplitude_strength,
            band=augmentation.amplitude_band,
            form=augmentation.amplitude_filter,
        )
        if modality == VISIBLE and augmentation.amplitude_channel:
            one_channel = jax.nn.one_hot(rectangles.integers(draws[:, 2], 3), 3)
            changed = _shown(changed, jnp.ones(len(own), bool), one_channel)
        exchange = there & (draws[:, 0] < augmentation.amplitude_exchange)
        made[modality] = jnp.where(rectangles.per_image(exchange), jnp.clip(changed, 0.0, 255.0), own)
    return made


def _crop(images: jax.Array, draws: jax.Array, pad: int, fill: int) -> tuple[jax.Array, jax.Array]:
    """Shifts each image by up to `pad` pixels; also says which pixels [n, H, W, 1] come from inside the image."""
    _, height, width, channels = images.shape
    offsets = rectangles.integers(draws, 2 * pad + 1)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)

    def window(image, offset):
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    rows, columns = rectangles.grid(height, width)
    inside = rectangles.between(rows + rectangles.per_image(offsets[:, 0]), pad, pad + height)
    inside &= rectangles.between(columns + rectangles.per_image(offsets[:, 1]), pad, pad + width)
    return jax.vmap(window)(padded, offsets), inside


def _enhanced(images: jax.Array, keys: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Float images in [0, 255] after moderate and radical linear enhancement."""
    moderate, radical = (folded(keys, number) for number in (_MODERATE, _RADICAL))
    if augmentation.moderate_enhancement:
        images = linear_enhancement.moderate(
            images, moderate, probability=augmentation.moderate_enhancement, beta=augmentation.moderate_beta
        )
    if augmentation.radical_enhancement:
        images = linear_enhancement.radical(
            images,
            radical,
            probability=augmentation.radical_enhancement,
            beta=augmentation.radical_beta,
            darkest=augmentation.radical_darkest,
        )
    return images


def _infrared_view(images: jax.Array, chance: jax.Array, draws: jax.Array, probability: float) -> jax.Array:
    """Some normalized images with one of their channels, or their luma, in all three: see `_INFRARED_VIEWS`."""
    of_each_channel = min(1 / 4, probability / 3)
    view = jnp.floor(draws * (probability / of_each_channel)).astype(jnp.int32)
    weights = jnp.asarray(_INFRARED_VIEWS)[jnp.minimum(view, 3 if probability > 3 / 4 else 2)]
    return _shown(images, chance < probability, weights)


def _shown(images: jax.Array, where: jax.Array, weights: jax.Array) -> jax.Array:
    """Images [n, H, W, 3] whose three channels are, `where` [n], their sum weighted by `weights`, [n or 1, 3]."""
    mixed = sum(images[..., c : c + 1] * rectangles.per_image(weights[:, c]) for c in range(3))
    return jnp.where(rectangles.per_image(where), mixed, images)
