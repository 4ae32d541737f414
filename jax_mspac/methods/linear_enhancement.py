"""Random linear enhancement of RLE (NeurIPS 2024; its law is that of the public code, github.com/stone96123/RLE).

Where a surface reflects each band of light in proportion, an infrared value is the visible one times a factor of that
surface. Moderate enhancement mixes the bands by one set of random weights for the whole image. Radical enhancement
gives regions and channels factors of their own, and with them false colors to infrared images.
"""

import jax
import jax.numpy as jnp

from jax_mspac.methods import rectangles

_AREAS, _ASPECTS = (0.02, 0.4), (0.3, 1 / 0.3)
# Rectangles tried, of which nine in ten fit. The public code tries 100; in 40,000 images it stopped after 2 in the
# median, after 8 in 99.9 % and after 11 at the latest.
_RECTANGLES = 12
# Of Jöhnk's pairs half (shape 1) to all (shape 0) are accepted.
_PAIRS = 12


def moderate(images: jax.Array, keys: jax.Array, *, probability: float, beta: float) -> jax.Array:
    """Some images in gray, by random weights of the channels: b_c / (b_1 + b_2 + b_3), each b_c from Beta(beta, beta).

    Args:
      images: float32 [n, H, W, 3]. One whose channels are equal stays as it is.
      keys: one per image, [n].
      probability: of an image to be changed.
      beta: in (0, 1]; the smaller, the more often one channel or two have all the weight.

    Returns:
      The images, of the same shape and scale.
    """

    def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chance, weights = jax.random.split(key)
        return jax.random.uniform(chance), jax.nn.softmax(log_beta(weights, beta, (3,)))

    chance, weights = jax.vmap(drawn)(keys)
    mixed = sum(images[..., c : c + 1] * rectangles.per_image(weights[:, c]) for c in range(3))
    return jnp.where(rectangles.per_image(chance < probability), mixed, images)


def radical(images: jax.Array, keys: jax.Array, *, probability: float, beta: float, darkest: float) -> jax.Array:
    """Some images with random rectangles, each channel of which is scaled to a random maximum a_c ~ Beta(beta, beta).

    Rectangles accumulate until a pixel of a channel has `darkest` of its value or less. The public code divides by the
    maximum of a channel in a rectangle even where that is 0; here such a channel stays black.

    Args:
      images: float32 [n, H, W, 3] in [0, 255].
      keys: one per image, [n].
      probability: of an image to be changed.
      beta: in (0, 1].
      darkest: in (0, 1).

    Returns:
      The images, of the same shape, in [0, 255].
    """
    _, height, width, _ = images.shape

    def drawn(key: jax.Array) -> tuple[jax.Array, ...]:
        chance, places, maxima = jax.random.split(key, 3)
        maxima = jnp.exp(log_beta(maxima, beta, (_RECTANGLES, 3)))
        return jax.random.uniform(chance), jax.random.uniform(places, (_RECTANGLES, 4)), maxima

    chance, places, maxima = jax.vmap(drawn)(keys)
    sizes, fits = rectangles.sizes(places[..., :2], height, width, areas=_AREAS, aspects=_ASPECTS)

    def scaled(i: int, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        planes, factors, unfinished = carry
        inside = rectangles.placed(sizes[:, i], places[:, i, 2:], height, width)[..., 0][:, None]
        inside &= rectangles.per_image(unfinished & fits[:, i])
        brightest = jnp.max(planes, axis=(2, 3), where=inside, initial=0.0)
        lit = brightest > jnp.finfo(jnp.float32).tiny
        factor = jnp.where(lit, maxima[:, i] / jnp.where(lit, brightest, 1.0), 1.0)
        factor = jnp.where(inside, factor[..., None, None], 1.0)
        factors = factors * factor
        return planes * factor, factors, unfinished & (jnp.min(factors, axis=(1, 2, 3)) >= darkest)

    # [n, 3, H, W] is the faster order for maxima of rectangles.
    planes = images.transpose(0, 3, 1, 2) / 255
    start = planes, jnp.ones_like(planes), chance < probability
    planes, _, _ = jax.lax.fori_loop(0, _RECTANGLES, scaled, start)
    changed = rectangles.per_image(chance < probability)
    return jnp.where(changed, 255 * planes.transpose(0, 2, 3, 1), images)


def log_beta(key: jax.Array, shape: float, size: tuple[int, ...]) -> jax.Array:
    """Logarithms of numbers from Beta(shape, shape), 0 < shape <= 1, by the method of Jöhnk (Metrika 8, 1964).

    Of uniform U and V, X / (X + Y) with X = U^(1/shape) and Y = V^(1/shape), where X + Y <= 1. A fixed number of pairs
    is tried, all at once; in logarithms, since X and Y leave float32's range.
    """
    smallest = jnp.finfo(jnp.float32).tiny
    logs = jnp.log(jax.random.uniform(key, (*size, _PAIRS, 2), minval=smallest)) / shape
    accepted = (jnp.logaddexp(logs[..., 0], logs[..., 1]) <= 0).at[..., -1].set(True)
    first = jnp.argmax(accepted, axis=-1, keepdims=True)
    log_odds = jnp.take_along_axis(logs[..., 0] - logs[..., 1], first, axis=-1)[..., 0]
    return jax.nn.log_sigmoid(log_odds)
