"""A query and what it found as one picture."""

import pathlib
from collections.abc import Sequence

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from jax_mspac.search import crops
from jax_mspac.search.entries import Hit, time_text
from jax_mspac.search.texts import plain

# Pixels: of an image, around it, and of the caption below.
_IMAGE, _GAP, _CAPTION, _FRAME = (128, 256), 14, 54, 4
_COLUMNS = 7
# Of Okabe and Ito (2008), for color-blind readers; grays.
_MATCH, _QUERY, _OTHER, _EMPTY = "#009e73", "#0072b2", "#9a9a9a", "#e4e4e4"
_INK = "#222222"


def draw(queries: Sequence[Image.Image], hits: Sequence[Hit]) -> Image.Image:
    """The images of a query in the first rows, its hits in the next ones, by rank.

    A hit that reaches the threshold has a green frame, any other a gray one. What is no longer the file that was added
    is left blank and says so.

    Args:
      queries: one or several.
      hits: of `Index.query`.
    """
    font = ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 12)
    cells: list[tuple[Image.Image | str, str, Sequence[str]] | None] = [
        (image, _QUERY, (f"query {number} of {len(queries)}",)) for number, image in enumerate(queries, 1)
    ]
    cells += [None] * (-len(cells) % _COLUMNS)
    for hit in hits:
        match = {True: "match", False: "no match", None: ""}[hit.match]
        place = f"{hit.modality}, camera {plain(hit.camera)}" if hit.camera is not None else hit.modality
        captions = [f"{hit.rank}:  {hit.similarity:.3f}  {match}", place, time_text(hit.time)]
        cells.append((crops.picture(hit), _MATCH if hit.match else _OTHER, captions))
    width, height = _IMAGE[0] + _GAP, _IMAGE[1] + _GAP + _CAPTION
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, rows * height + _GAP), "white")
    drawing = ImageDraw.Draw(sheet)
    for number, cell in enumerate(cells):
        if cell is None:
            continue
        picture, color, texts = cell
        left, top = _GAP + number % _COLUMNS * width, _GAP + number // _COLUMNS * height
        if isinstance(picture, str):
            drawing.rectangle((left, top, left + _IMAGE[0], top + _IMAGE[1]), fill=_EMPTY)
            drawing.text((left + 8, top + 8), picture, fill=_INK, font=font)
        else:
            sheet.paste(ImageOps.pad(picture, _IMAGE, color=_EMPTY), (left, top))
        frame = (left - _FRAME, top - _FRAME, left + _IMAGE[0] + _FRAME - 1, top + _IMAGE[1] + _FRAME - 1)
        drawing.rectangle(frame, outline=color, width=_FRAME)
        for line, caption in enumerate(texts):
            drawing.text((left, top + _IMAGE[1] + 6 + 15 * line), _fitted(caption, font), fill=_INK, font=font)
    return sheet


def _fitted(text: str, font: ImageFont.FreeTypeFont) -> str:
    """A text of the width of an image, with an ellipsis where it is cut."""
    if font.getlength(text) <= _IMAGE[0]:
        return text
    while text and font.getlength(text + "…") > _IMAGE[0]:
        text = text[:-1]
    return text + "…"
