"""Images from strangers and for the page: decoded within limits, scaled down, encoded anew."""

import hashlib
import html
import io
import pathlib
import textwrap
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from jax_mspac.data.images import Range, read_rgb
from jax_mspac.errors import UserError
from jax_mspac.search import crops
from jax_mspac.search.entries import Entry

# Of an image that is uploaded; a photograph has 12 to 50 million.
MAX_PIXELS = 50_000_000
# The formats of photographs that are decoded. Others of Pillow's start programs, or are rarely tested.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Pixels of the longer side.
THUMBNAIL, LARGE = 320, 1600
_QUALITY = 88
_BOX_COLOR = "#ffb000"


def decode(data: bytes, range_16_bit: Range | None) -> np.ndarray:
    """The pixels of an image file that anyone may have sent: uint8 [H, W, 3], as `data.images.read_rgb` reads them.

    Raises:
      UserError: it is of no format in `FORMATS`, damaged, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are read. Crop the "
                    "person out, or scale the image down"
                )
            image.load()
            return read_rgb(image, range_16_bit)
    except UserError:
        raise
    except Image.UnidentifiedImageError:
        raise UserError("not an image that can be read; expected a JPEG, PNG, WebP, TIFF, BMP or GIF file") from None
    except Exception as error:  # whatever broken bytes lead Pillow's decoders to
        raise UserError(f"the image is damaged ({error})") from error


def of_entry(entry: Entry, longest: int) -> bytes:
    """The image of an entry as JPEG, its longer side at most `longest` pixels.

    Where the entry is no file, but a box of a frame, it is cut out of the frame's image. It is encoded anew: whatever
    else the file holds, such as where it was taken, stays where it is.

    Raises:
      UserError: the file is gone, cannot be read, or is not the one that was added.
    """
    if _of_video(entry):
        return _encoded(_within(_shown(crops.picture(entry)), longest))
    box = _box(entry) if has_frame(entry) and not pathlib.Path(entry.path).is_file() else None
    data = _bytes(pathlib.Path(entry.metadata[crops.FRAME] if box else entry.path))
    # The digest of a box begins with that of its frame's file.
    if hashlib.sha256(data).hexdigest() != entry.digest.partition(".")[0]:
        raise UserError("the file has changed since it was added")
    if box is None:
        return _encoded(_opened(data, longest)[0])
    frame = _opened(data, MAX_PIXELS)[0]
    x, y, width, height = box
    crop = frame.crop((round(x), round(y), round(x + width), round(y + height)))
    return _encoded(_within(crop, longest))


def has_frame(entry: Entry) -> bool:
    """Whether an entry tells the image or the video that it was cut out of, and where it lies in the frame."""
    path = pathlib.Path(entry.metadata.get(crops.FRAME, ""))
    known = path.is_absolute() and _box(entry) is not None and path.is_file()
    return known and (_of_video(entry) or not entry.metadata.get(crops.NUMBER))


def frame_of(entry: Entry, longest: int) -> bytes:
    """The image that an entry was cut out of as JPEG, with its box drawn.

    Raises:
      UserError: it has none, or the file is gone or cannot be read.
    """
    box = _box(entry)
    if box is None or not has_frame(entry):
        raise UserError("no frame is known of this entry")
    if _of_video(entry):
        frame, _ = _shown(crops.whole(entry))
        picture, whole = _within(frame, longest), max(frame.size)
    else:
        picture, whole = _opened(_bytes(pathlib.Path(entry.metadata[crops.FRAME])), longest)
    scale = max(picture.size) / whole
    x, y, width, height = (scale * number for number in box)
    line = max(3, round(max(picture.size) / 300))
    corners = (x - line, y - line, x + width + line, y + height + line)
    ImageDraw.Draw(picture).rectangle(corners, outline=_BOX_COLOR, width=line)
    return _encoded(picture)


def placeholder(told: str) -> str:
    """A gray picture that says why there is none: SVG."""
    lines = [html.escape(line) for line in textwrap.wrap(told, 18)]
    spans = "".join(f'<text x="64" y="{120 + 16 * number}">{line}</text>' for number, line in enumerate(lines))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 256" font-family="sans-serif" font-size="12" '
        f'text-anchor="middle" fill="#555"><rect width="128" height="256" fill="#e4e4e4"/>{spans}</svg>'
    )


def _box(entry: Entry) -> tuple[float, float, float, float] | None:
    """The column `box`, "x,y,width,height" in pixels of the frame."""
    try:
        x, y, width, height = (float(number) for number in entry.metadata.get(crops.BOX, "").split(","))
    except ValueError:
        return None
    return (x, y, width, height) if width > 0 and height > 0 and np.isfinite([x, y, width, height]).all() else None


def _of_video(entry: Entry) -> bool:
    """Whether `add` has cut the entry out of a video; columns alone, which anyone may write, do not say so."""
    return crops.NUMBER in entry.metadata and crops.file_of(entry.path) is not None


def _shown(found: Any) -> Any:
    if isinstance(found, str):
        raise UserError(found.replace("\n", " "))
    return found


def _within(picture: Image.Image, longest: int) -> Image.Image:
    return ImageOps.contain(picture, (longest, longest)) if max(picture.size) > longest else picture


def _bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError("the file is gone" if isinstance(error, FileNotFoundError) else str(error.strerror)) from error


def _opened(data: bytes, longest: int) -> tuple[Image.Image, int]:
    """The upright RGB image in some bytes, its longer side at most `longest` pixels, and how many it had."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            whole = max(image.size)
            image.draft("RGB", (longest, longest))  # a large JPEG is not decoded in full
            picture = Image.fromarray(read_rgb(image))
    except Exception as error:
        raise UserError("the file cannot be read") from error
    return _within(picture, longest), whole


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, subsampling=0)  # or thin lines lose their color
    return file.getvalue()
