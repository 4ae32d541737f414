"""Random tone curves: how bright a camera shows what is dark, gray or light, for cameras that nobody has seen.

Near infrared, long-wave infrared and their electronics each map brightness in a way of their own, not always one that
keeps its order. The idea to train on random maps of gray values is that of Bézier curves in Models Genesis (Zhou et
al., MICCAI 2019, arXiv 1908.06912), which are monotone; random curves that are not, and regions with curves of their
own, are ours. Training on random looks so that an unknown one is among them is domain randomization (Tobin et al., IROS
2017, arXiv 1703.06907).
"""

import jax
import jax.numpy as jnp

from jax_mspac.methods import rectangles

_AREAS, _ASPECTS = (0.02, 0.4), (0.3, 1 / 0.3)


def toned(
    images: jax.Array,
    keys: jax.Array,
    *,
    probability: float,
    knots: int,
    monotone: float,
    inversion: float,
    regions: int = 0,
) -> jax.Array:
    """Some images seen through a random curve, which is the same for all channels: gray images stay gray.

    A curve is straight between `knots` values at equal distances from black to white, each from U(0, 1). Of a monotone
    one they are sorted.

    Args:
      images: float32 [n, H, W, 3] in [0, 255].
      keys: one per image, [n].
      probability: of an image to be changed.
      knots: 2 or more.
      monotone: the share of curves that are monotone.
      inversion: the share of these that fall, so that bright is dark.
      regions: rectangles in each changed image that have curves of their own; a later one covers earlier ones. Areas
        and aspects are those of random erasing.

    Returns:
      The images, of the same shape, in [0, 255].
    """
    _, height, width, _ = images.shape

    def drawn(key: jax.Array) -> tuple[jax.Array, ...]:
        chance, of_values, of_kinds, places = jax.random.split(key, 4)
        values = curves(of_values, of_kinds, 1 + regions, knots=knots, monotone=monotone, inversion=inversion)
        return jax.random.uniform(chance), values, jax.random.uniform(places, (regions, 4))

    chance, values, places = jax.vmap(drawn)(keys)
    made = through(images, values[:, 0])
    sizes, _ = rectangles.sizes(places[..., :2], height, width, areas=_AREAS, aspects=_ASPECTS)
    for i in range(regions):
        inside = rectangles.placed(sizes[:, i], places[:, i, 2:], height, width)
        made = jnp.where(inside, through(images, values[:, 1 + i]), made)
    return jnp.where(rectangles.per_image(chance < probability), made, images)


def curves(
    of_values: jax.Array, of_kinds: jax.Array, count: int, *, knots: int, monotone: float, inversion: float
) -> jax.Array:
    """Values of random curves at their knots, float32 [count, knots] in [0, 1]; see `toned`. Two keys are needed."""
    values = jax.random.uniform(of_values, (count, knots))
    kinds = jax.random.uniform(of_kinds, (2, count, 1))
    rising = jnp.sort(values, axis=1)
    ordered = jnp.where(kinds[1] < inversion, rising[:, ::-1], rising)
    return jnp.where(kinds[0] < monotone, ordered, values)


def through(images: jax.Array, values: jax.Array) -> jax.Array:
    """Images [n, H, W, C] in [0, 255] through the curves of values [n, knots] in [0, 1], to the same scale."""
    last = values.shape[1] - 1
    place = images * (last / 255.0)
    # Each value counts in a triangle that ends at its neighbors; without a gather, for accelerators.
    parts = (rectangles.per_image(values[:, i]) * jnp.maximum(0.0, 1 - jnp.abs(place - i)) for i in range(last + 1))
    return 255.0 * sum(parts, jnp.zeros_like(place))
