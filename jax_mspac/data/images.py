"""Image files to RGB arrays and to bytes that every decoder understands."""

import functools
import io
import math
import os
import pathlib

import numpy as np
import scipy.sparse
from PIL import Image, ImageOps

from jax_mspac.errors import UserError

MAX_PIXELS = 178_000_000  # just under what TensorFlow refuses to decode
# PIL would warn of decompression bombs at half of this.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# (lowest, highest) 16-bit sample.
Range = tuple[int, int]
# Of an image's samples, where no range is given.
PERCENTILES = (0.1, 99.9)

_PLAIN_PNG = (b"\x08\x00", b"\x08\x02")  # bit depth and color type of the header: 8-bit gray, 8-bit RGB
_PNG_END = b"IEND\xaeB`\x82"
_MEND = "copy it again from where it came from, or remove it"


def read_rgb(source: str | os.PathLike | bytes | Image.Image, range_16_bit: Range | None = None) -> np.ndarray:
    """Reads an image of any format and mode that PIL knows.

    An EXIF rotation is applied. Transparent pixels show white, as in an image viewer: what a file keeps under them
    is arbitrary. Of an animation the first frame counts.

    16-bit samples are mapped linearly from a range to 0 to 255 and clipped: without `range_16_bit` from the 0.1 and
    99.9 percentiles of the image, because the raw counts of thermal cameras use a small part of theirs.

    Args:
      source: path of the file, its bytes, or an image of PIL.
      range_16_bit: (lowest, highest) of the 16-bit samples that count, the same for all images.

    Returns:
      uint8 [H, W, 3].

    Raises:
      UserError: the file is missing, empty, truncated, no image, or has more than MAX_PIXELS pixels.
    """
    if isinstance(source, Image.Image):
        try:
            return _to_rgb(source, range_16_bit)
        except Exception as error:  # of a file that is read only now, as of `_decode`
            raise UserError(f"an image of PIL cannot be read ({error})") from error
    return _decode(*_load(source), range_16_bit)[1]


def parsed_range(text: str) -> Range | None:
    """A field such as "29500,31000" as (lowest, highest); None for "".

    Raises:
      UserError: it is no such range.
    """
    try:
        low, high = (int(number) for number in text.split(",")) if text else (0, 1)
    except ValueError:
        low, high = 1, 0
    if not 0 <= low < high <= 65535:
        raise UserError(
            f"config.data.range_16_bit is {text!r}; expected LOW,HIGH of 0 to 65535, LOW < HIGH, or nothing"
        )
    return (low, high) if text else None


def is_16_bit(data: bytes) -> bool:
    """Whether an encoded image has 16-bit gray samples."""
    with Image.open(io.BytesIO(data)) as image:
        return image.mode.startswith("I")


def stored_bytes(path: str | os.PathLike, range_16_bit: Range | None = None) -> bytes:
    """The bytes to store for an image: JPEG or PNG with 8-bit RGB or gray samples, upright and opaque.

    A file that is all this already is kept byte for byte; any other is decoded by `read_rgb` and encoded as PNG, which
    loses nothing more. Every file is decoded in full, so a broken one is found here and not while training.

    Args:
      path: path of the file.
      range_16_bit: see `read_rgb`.

    Returns:
      The encoded image.

    Raises:
      UserError: as `read_rgb`.
    """
    data, name = _load(path)
    plain, pixels = _decode(data, name, range_16_bit)
    return data if plain else encode_png(pixels)


def read_file(path: str | os.PathLike) -> tuple[bytes, np.ndarray]:
    """The bytes of an image file and its pixels; see `read_rgb`."""
    data, name = _load(path)
    return data, _decode(data, name, None)[1]


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of a uint8 image [H, W] or [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A uint8 image [H, W, 3] at another size: uint8 [height, width, 3].

    The Lanczos filter of PIL and TensorFlow, which both take longer. It is rounded once, at the end: PIL's results
    differ a little, as it also rounds and clips between the two directions, and TensorFlow's in few pixels by 1.
    """
    if image.shape[:2] == (height, width):  # the filter is the identity
        return image
    if _is_gray(image):  # as infrared images are: two of three channels need not be computed
        return np.repeat(_resize_channels(image[..., :1], height, width), 3, axis=2)
    return _resize_channels(image, height, width)


def _is_gray(image: np.ndarray) -> bool:
    """Whether the three channels are equal; of most others the middle row tells."""
    red, green, blue = np.moveaxis(image, 2, 0)
    middle = len(image) // 2
    return np.array_equal(red[middle], green[middle]) and np.array_equal(red, green) and np.array_equal(red, blue)


def _resize_channels(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, C] -> [height, width, C]."""
    rows, columns, channels = image.shape
    # Each direction in turn is the first axis of a sparse product, whose inner loops run along the other one.
    tall = _lanczos(rows, height) @ image.reshape(rows, -1).astype(np.float32)
    resized = _lanczos(columns, width, channels=channels) @ np.ascontiguousarray(tall.T)
    np.rint(resized, out=resized).clip(0, 255, out=resized)
    return np.ascontiguousarray(resized.astype(np.uint8).T).reshape(height, width, channels)


@functools.lru_cache(maxsize=2048)
def _lanczos(old: int, new: int, channels: int = 1) -> scipy.sparse.csr_array:
    """What takes `old` pixels to `new` ones, float32 [new * channels, old * channels].

    The filter has three lobes to a side, of the larger of an old and a new pixel.
    """
    scale = old / new
    stretch = max(scale, 1.0)
    centers = (np.arange(new)[:, None] + 0.5) * scale
    pixels = np.floor(centers - 3 * stretch).astype(np.int32) + np.arange(math.ceil(6 * stretch) + 1, dtype=np.int32)
    distances = (pixels + 0.5 - centers) / stretch
    inside = (np.abs(distances) < 3) & (0 <= pixels) & (pixels < old)
    weights = np.where(inside, np.sinc(distances) * np.sinc(distances / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    ends = np.concatenate([[0], np.cumsum(inside.sum(axis=1))]).astype(np.int32)
    filters = scipy.sparse.csr_array((weights[inside].astype(np.float32), pixels[inside], ends), shape=(new, old))
    return scipy.sparse.kron(filters, scipy.sparse.eye_array(channels, dtype=np.float32), format="csr")


def _load(source: str | os.PathLike | bytes) -> tuple[bytes, str]:
    """The bytes of an image file and the name by which an error calls it."""
    if isinstance(source, bytes):
        return source, f"an image of {len(source)} bytes"
    try:
        data = pathlib.Path(source).read_bytes()
    except OSError as error:
        reason = f"{error.strerror}; check that it exists and that you may read it"
        raise UserError(f"{source}: cannot be read ({reason})") from error
    return data, os.fspath(source)


def _decode(data: bytes, name: str, range_16_bit: Range | None) -> tuple[bool, np.ndarray]:
    """Whether encoded bytes can be stored as they are, and their pixels, uint8 [H, W, 3]."""
    if not data:
        raise UserError(f"{name}: the file is empty; {_MEND}")
    try:
        with Image.open(io.BytesIO(data)) as image:
            too_large = image.width * image.height > MAX_PIXELS
            if not too_large:
                image.verify()  # the checksums of PNG, which loading skips and other decoders insist on
        if not too_large:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return _is_plain(image, data), _to_rgb(image, range_16_bit)
    # PIL's decoders raise whatever the broken bytes lead them to: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        reason = "not a known image format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise UserError(f"{name}: cannot be read as an image ({reason}); {_MEND}") from error
    raise UserError(
        f"{name}: {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are read. "
        "Crop the persons out, or scale the image down"
    )


def _is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether every decoder reads the same upright, opaque 8-bit RGB pixels from these bytes."""
    if image.getexif().get(0x0112, 1) != 1 or "transparency" in image.info:
        return False
    if image.format == "PNG":
        return data[24:26] in _PLAIN_PNG and _PNG_END in data
    return image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB")


def _to_rgb(image: Image.Image, range_16_bit: Range | None) -> np.ndarray:
    """The upright pixels of an image as uint8 [H, W, 3]."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return np.repeat(_sixteen_to_eight_bits(np.asarray(image), range_16_bit)[..., None], 3, axis=-1)
    if image.mode == "F":
        raise ValueError("floating-point samples have no fixed range; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _sixteen_to_eight_bits(samples: np.ndarray, limits: Range | None) -> np.ndarray:
    # PIL opens some 16-bit files as 32-bit integers.
    if samples.min() < 0 or samples.max() > 65535:
        raise ValueError("32-bit samples have no fixed range; convert it to 8 or 16 bits")
    low, high = limits or np.percentile(samples, PERCENTILES)
    scaled = (samples - float(low)) * (255.0 / max(float(high) - float(low), 1.0))
    return np.rint(scaled.clip(0.0, 255.0)).astype(np.uint8)
