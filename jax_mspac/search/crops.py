"""Entries that are part of a frame: what they are called, which columns they have, and their picture.

A crop is called VIDEO#frame=120&box=10,20,40,90 or FRAME.png#box=10,20,40,90, a track VIDEO#track=7 or FOLDER#track=7.
Boxes are as the detector or the file of boxes gave them. The columns say what was embedded, or, of a track, what is
shown of it: `frame` (path of the video, or of the image), `frame_number` (of a video, from 0), `box` ("x,y,w,h" in
pixels, with the margin, within the frame) and `track`.
"""

import pathlib
import re
import urllib.parse
from collections.abc import Mapping

import numpy as np
from PIL import Image

from jax_mspac.data.images import read_rgb
from jax_mspac.errors import UserError
from jax_mspac.search import footage
from jax_mspac.search.boxes import Box, Rectangle
from jax_mspac.search.entries import Entry
from jax_mspac.search.footage import Footage

FRAME, NUMBER, BOX, TRACK = "frame", "frame_number", "box", "track"
_NAME = re.compile(r"(?s)(.*)#(?:(?:frame=\d+&)?box=[^#/]*|track=[^#/]*)")


def name(source: Footage, box: Box) -> str:
    """The path of the entry of a box, or of its track."""
    if box.track is not None:
        return f"{source.path}#track={urllib.parse.quote(box.track, safe='')}"
    number = f"frame={box.frame}&" if source.numbered else ""
    return f"{source.file(box.frame)}#{number}box={box.text()}"


def file_of(path: str) -> str | None:
    """The video, image or folder that an entry of this path is part of; None for an image file."""
    found = _NAME.fullmatch(path)
    return found[1] if found else None


def columns(source: Footage, box: Box, cut: Rectangle) -> dict[str, str]:
    """The columns of a box and what was cut out for it."""
    left, top, right, bottom = cut
    found = {FRAME: source.file(box.frame)}
    if source.numbered:
        found[NUMBER] = str(box.frame)
    found[BOX] = f"{left},{top},{right - left},{bottom - top}"
    if box.track is not None:
        found[TRACK] = box.track
    return found


def frame_of(entry: Entry, source: Footage) -> int:
    """The number of the frame in which an entry of this footage is shown."""
    number = entry.metadata.get(NUMBER)
    return int(number) if number else source.names.get(pathlib.Path(entry.metadata[FRAME]).name, 0)


def is_box_of(entry: Entry, source: Footage) -> bool:
    """Whether an entry is a box of this footage, of no track."""
    file = file_of(entry.path)
    if file is None or TRACK in entry.metadata or entry.metadata.get(FRAME) != file:
        return False
    path = pathlib.Path(file)
    return file == source.path if source.numbered else path.name in source.names and str(path.parent) == source.path


def picture(entry: Entry) -> Image.Image | str:
    """What an entry shows: its image, its crop, or the best crop of its track; a few words where it is gone."""
    found = whole(entry)
    if isinstance(found, str):
        return found
    image, box = found
    return image if box is None else image.crop((box[0], box[1], box[0] + box[2], box[1] + box[3]))


def whole(entry: Entry) -> tuple[Image.Image, tuple[int, int, int, int] | None] | str:
    """The whole image or frame of an entry, and its box (x, y, w, h) in it; a few words where it is gone.

    What is no longer the file that was added is not shown.
    """
    crop = file_of(entry.path) is not None
    path = entry.metadata[FRAME] if crop else entry.path
    try:
        if footage.digest_of(path) != entry.digest.partition(".")[0]:
            return "the file has\nchanged"
        return Image.fromarray(_frame(path, entry.metadata if crop else {})), _box(entry) if crop else None
    except OSError:
        return "the file is gone"
    except UserError:
        return "the file cannot\nbe read"


def _frame(path: str, metadata: Mapping[str, str]) -> np.ndarray:
    if NUMBER in metadata:
        return footage.read_frame(path, int(metadata[NUMBER]))
    return read_rgb(pathlib.Path(path).read_bytes())


def _box(entry: Entry) -> tuple[int, int, int, int]:
    x, y, w, h = map(int, entry.metadata[BOX].split(","))
    return x, y, w, h
