"""Random rectangles in images, as random erasing draws them (Zhong et al., arXiv 1708.04896)."""

import jax
import jax.numpy as jnp

Range = tuple[float, float]


def sizes(draws: jax.Array, height: int, width: int, *, areas: Range, aspects: Range) -> tuple[jax.Array, jax.Array]:
    """Sizes of rectangles whose area and aspect are uniform in their ranges.

    Args:
      draws: uniform numbers [..., 2] in [0, 1).
      height, width: of the images, in pixels.
      areas: as fractions of the image.
      aspects: height / width.

    Returns:
      (height, width) in pixels, int32 [..., 2], no larger than the image; and bool [...], whether they fitted before
      they were cut, with a pixel to spare in both directions.
    """
    area = (areas[0] + (areas[1] - areas[0]) * draws[..., 0]) * (height * width)
    aspect = aspects[0] + (aspects[1] - aspects[0]) * draws[..., 1]
    drawn = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], axis=-1))).astype(jnp.int32)
    limit = jnp.array([height, width]).reshape((1,) * (drawn.ndim - 1) + (2,))
    return jnp.clip(drawn, 1, limit), jnp.all(drawn < limit, axis=-1)


def first_that_fits(tries: jax.Array, height: int, width: int, *, areas: Range, aspects: Range) -> jax.Array:
    """The first of several sizes that fits: int32 [n, 2]. If none does, it is the last one, cut to the image.

    Of uniform numbers [n, tries, 2]; the other arguments are those of `sizes`.
    """
    drawn, fits = sizes(tries, height, width, areas=areas, aspects=aspects)
    return drawn[jnp.arange(len(drawn)), jnp.argmax(fits.at[:, -1].set(True), axis=1)]


def placed(size: jax.Array, position: jax.Array, height: int, width: int) -> jax.Array:
    """Mask [n, height, width, 1] of a rectangle in each image.

    Sizes are int [n, 2]; the position, uniform numbers [n, 2] in [0, 1), makes every place as likely.
    """
    inside = []
    for axis, (length, pixels) in enumerate(zip((height, width), grid(height, width), strict=True)):
        start = integers(position[:, axis], length - size[:, axis] + 1)
        inside.append(between(pixels, per_image(start), per_image(start + size[:, axis])))
    return inside[0] & inside[1]


def integers(draws: jax.Array, upper: int | jax.Array) -> jax.Array:
    """Turns uniform numbers in [0, 1) into integers in [0, upper)."""
    return jnp.floor(draws * upper).astype(jnp.int32)


def grid(height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Row numbers [1, H, 1, 1] and column numbers [1, 1, W, 1]."""
    return jnp.arange(height).reshape(1, -1, 1, 1), jnp.arange(width).reshape(1, 1, -1, 1)


def between(x: jax.Array, low: int | jax.Array, high: int | jax.Array) -> jax.Array:
    """Whether low <= x < high."""
    return (low <= x) & (x < high)


def per_image(x: jax.Array) -> jax.Array:
    """[n] -> [n, 1, 1, 1]."""
    return x.reshape(-1, 1, 1, 1)
