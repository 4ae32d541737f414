"""Local maximal occurrence, LOMO (Liao, Hu, Zhu and Li, CVPR 2015): what each horizontal stripe holds at most.

Blocks of 10 x 10 pixels slide over the image in steps of 5. A block is described by a joint histogram of hue,
saturation and value (8 x 8 x 8 bins) and by two histograms of scale-invariant local ternary patterns, SILTP (Liao et
al., CVPR 2010). Of all blocks at one height only the maximum of each bin is kept, which makes the descriptor blind to
where in its stripe a pattern occurs. The same at a half and a quarter of the size, then log(1 + x) and unit length for
each kind.

The original first evens out colors by Retinex. That step is left out: it makes colors comparable between cameras, and
between a photograph and an infrared image, whose three channels are equal, there are none to compare.
"""

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.modalities import LUMA

STEP = 5  # A block is 2 x 2 cells of STEP x STEP pixels, so that sliding blocks share the cells' histograms.
SCALES = 3
HSV_BINS = 8
SILTP_TOLERANCE = 0.3
SILTP_RADII = (3, 5)
COLORS = HSV_BINS**3
PATTERNS = 3**4
BATCH = 64  # images at once: bounds the memory for the cells' histograms


def extract(images: np.ndarray) -> np.ndarray:
    """The descriptor of the paper, which is for 128 x 48 pixels; other sizes give other lengths.

    Args:
      images: uint8 [n, H, W, 3] with H and W at least 40.

    Returns:
      float32 [n, D]: D = 26,960 at 128 x 48. Three parts of length 1: colors, patterns of radius 3, of radius 5; each
      by scale, then from top to bottom, then by bin.

    Raises:
      UserError: the images are smaller.
    """
    features = np.empty((len(images), dim(*images.shape[1:3])), np.float32)
    for start in range(0, len(images), BATCH):
        features[start : start + BATCH] = _describe(images[start : start + BATCH])
    return features


def dim(height: int, width: int) -> int:
    """D for images of this size."""
    rows = [(height >> scale) // STEP - 1 for scale in range(SCALES)]
    columns = [(width >> scale) // STEP - 1 for scale in range(SCALES)]
    if min(rows + columns) < 1:
        least = 2 * STEP << (SCALES - 1)
        raise UserError(
            f"LOMO needs images of at least {least} x {least} pixels, these are {height} x {width} (height x width): "
            "choose a larger input size, 128 x 48 is the original's"
        )
    return sum(rows) * (COLORS + PATTERNS * len(SILTP_RADII))


def color_codes(image: np.ndarray) -> np.ndarray:
    """Bin of each pixel in the joint histogram of hue, saturation and value: float [n, h, w, 3] in [0, 1] -> int64."""
    # Here, so that training a network does not wait for it.
    from skimage.color import rgb2hsv

    hue, saturation, value = np.moveaxis(np.minimum((rgb2hsv(image) * HSV_BINS).astype(np.int64), HSV_BINS - 1), -1, 0)
    return (value * HSV_BINS + saturation) * HSV_BINS + hue


def siltp_codes(gray: np.ndarray, radius: int) -> np.ndarray:
    """Scale-invariant local ternary pattern of each pixel: float [n, h, w] -> int64 [n, h, w] below 81.

    One base-3 digit for each of the neighbors at the right, above, at the left and below: 1 if it is more than 30 %
    brighter than the pixel, 2 if it is more than 30 % darker, else 0. The border is repeated outwards.
    """
    _, height, width = gray.shape
    padded = np.pad(gray, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    low, high = (1 - SILTP_TOLERANCE) * gray, (1 + SILTP_TOLERANCE) * gray
    codes = np.zeros(gray.shape, np.int64)
    for down, right in ((1, 2), (0, 1), (1, 0), (2, 1)):
        neighbor = padded[:, down * radius :, right * radius :][:, :height, :width]
        codes = 3 * codes + (neighbor > high) + 2 * (neighbor < low)
    return codes


def row_maxima(codes: np.ndarray, bins: int) -> np.ndarray:
    """Maximum, over the blocks at one height, of how often each code occurs in a block.

    Codes int [n, h, w] in [0, bins) give uint8 [n, rows, bins], rows = h // 5 - 1.
    """
    count, rows, columns = len(codes), codes.shape[1] // STEP, codes.shape[2] // STEP
    cells = np.arange(count * rows * columns).reshape(count, rows, columns)
    cells = cells.repeat(STEP, axis=1).repeat(STEP, axis=2)
    places = cells * bins + codes[:, : rows * STEP, : columns * STEP]
    flat = np.bincount(places.ravel(), minlength=count * rows * columns * bins).astype(np.uint8)
    counts = flat.reshape(count, rows, columns, bins)
    stripes = counts[:, :-1] + counts[:, 1:]
    return (stripes[:, :, :-1] + stripes[:, :, 1:]).max(axis=2)


def _describe(images: np.ndarray) -> np.ndarray:
    """LOMO of one batch: uint8 [n, H, W, 3] -> float32 [n, D]."""
    image = images.astype(np.float32) / 255
    kinds: list[list[np.ndarray]] = [[] for _ in range(1 + len(SILTP_RADII))]
    for scale in range(SCALES):
        image = _halve(image) if scale else image
        gray = np.asarray(sum(weight * image[..., channel] for channel, weight in enumerate(LUMA)))
        histograms = [row_maxima(color_codes(image), COLORS)]
        histograms += [row_maxima(siltp_codes(gray, radius), PATTERNS) for radius in SILTP_RADII]
        for kind, histogram in zip(kinds, histograms, strict=True):
            kind.append(histogram.reshape(len(images), -1))
    parts = [np.log1p(np.concatenate(kind, axis=1), dtype=np.float32) for kind in kinds]
    return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1)


def _halve(image: np.ndarray) -> np.ndarray:
    """Mean of each 2 x 2 pixels; an odd last row or column is dropped."""
    even = image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2]
    return (even[:, ::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, ::2] + even[:, 1::2, 1::2]) / 4
