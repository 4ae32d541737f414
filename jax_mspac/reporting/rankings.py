"""Ranked galleries: which queries to show, what each one found, and the strip of pictures."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from jax_mspac.metrics.ranking import score
from jax_mspac.reporting import style

# A strip ends with the tenth image that counts; excluded ones before it make it longer, up to this many places.
_LONGEST = 15
# Pixels of a cell of the strip, and of the frame of its image.
_CELL, _IMAGE, _FRAME = (112, 216), (88, 172), 5


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """All queries of one trial, ranked: queries int64 [Q] and gallery int64 [Q, G] are positions in the test set.

    What is [Q, G] is in ascending distance, ties by position: the distances; `matches`, the query's identity, whether
    it counts or not; `excluded`, pairs that the protocol leaves out. `average_precision`, float64 [Q], is NaN for a
    query without a match that counts.
    """

    queries: np.ndarray
    gallery: np.ndarray
    distances: np.ndarray
    matches: np.ndarray
    excluded: np.ndarray
    average_precision: np.ndarray


@dataclasses.dataclass(frozen=True)
class Place:
    """One image of a strip: its position in the test set and its distance to the query.

    `rank` is among the images that count, from 1, and None if the protocol excludes it; `match`: the query's identity.
    """

    position: int
    rank: int | None
    match: bool
    distance: float


def search(
    distances: np.ndarray, queries: np.ndarray, gallery: np.ndarray, matches: np.ndarray, excluded: np.ndarray | None
) -> Search:
    """Ranks a gallery for every query, of distances float [Q, G].

    Queries int64 [Q] and gallery int64 [G], ascending, are positions in the test set. Matches and excluded are bool [Q,
    G]; excluded is None where every pair counts.
    """
    order = np.argsort(distances, axis=1, kind="stable")
    excluded = np.zeros_like(matches) if excluded is None else excluded
    matches, excluded = (np.take_along_axis(pairs, order, axis=1) for pairs in (matches, excluded))
    average_precision = np.full(len(queries), np.nan)
    codes = np.where(excluded, -1, matches).astype(np.int32)
    _, average_precision[np.any(codes == 1, axis=1)], _ = score(codes, np.ones(len(queries), np.int32), 2, "image")
    distances = np.take_along_axis(distances, order, axis=1)
    return Search(queries, gallery[order], distances, matches, excluded, average_precision)


def choose(average_precision: np.ndarray, identities: np.ndarray, *, count: int) -> dict[str, list[int]]:
    """The queries to show: `count` each with the highest, the lowest and the most typical average precision.

    Typical is what is nearest to the median. Equal values go by position, so the choice is a function of the scores.
    No query is chosen twice, and one identity is chosen twice in a group only where there are too few identities. Of
    average precisions float [Q], of which NaN is never chosen, and identities int [Q] it gives indices under "best",
    "typical" and "worst"; the groups are smaller where there are few queries.
    """
    valid = np.flatnonzero(np.isfinite(average_precision))
    if not valid.size:
        return {"best": [], "typical": [], "worst": []}
    scores = average_precision[valid]
    orders = {"best": -scores, "worst": scores, "typical": np.abs(scores - np.median(scores))}
    count = min(count, max(1, valid.size // len(orders)))
    chosen: dict[str, list[int]] = {}
    for name, keys in orders.items():
        taken = {query for queries in chosen.values() for query in queries}
        ranked = [query for query in valid[np.argsort(keys, kind="stable")].tolist() if query not in taken]
        _, first = np.unique(identities[ranked], return_index=True)
        one_each = [ranked[i] for i in sorted(first)]
        rest = [query for query in ranked if query not in one_each]
        chosen[name] = (one_each + rest)[:count]
    return {name: chosen[name] for name in ("best", "typical", "worst")}


def places(found: Search, query: int, *, top: int = 10) -> list[Place]:
    """What a query (its index) found: the first `top` images that count, the excluded ones where they would rank."""
    counted = ~found.excluded[query]
    ranks = np.cumsum(counted)
    ends = np.flatnonzero(counted & (ranks == top))
    stop = min(int(ends[0]) + 1 if ends.size else counted.size, max(_LONGEST, top))
    return [
        Place(
            position=int(found.gallery[query, i]),
            rank=int(ranks[i]) if counted[i] else None,
            match=bool(found.matches[query, i]),
            distance=float(found.distances[query, i]),
        )
        for i in range(stop)
    ]


def strip(query: np.ndarray, images: Sequence[np.ndarray], shown: Sequence[Place]) -> Image.Image:
    """The query and what it found, in cells of equal width; images are uint8 [H, W, 3], `images` those of `shown`.

    A match has a green frame and a tick, any other image a red frame and a cross; an excluded image is gray and pale,
    with a dashed frame and no mark.
    """
    width, height = _CELL
    sheet = Image.new("RGB", (width * (1 + len(shown)), height), "white")
    draw = ImageDraw.Draw(sheet)
    _paste(sheet, query, 0)
    draw.rectangle(_frame(0), outline=style.INK, width=2)
    draw.line([(width - 1, 8), (width - 1, height - 8)], fill=style.FAINT, width=2)
    for cell, (image, place) in enumerate(zip(images, shown, strict=True), 1):
        if place.rank is None:
            pale = Image.fromarray(image).convert("L").convert("RGB")
            _paste(sheet, np.asarray(Image.blend(pale, Image.new("RGB", pale.size, "white"), 0.6)), cell)
            _dashed(draw, _frame(cell))
            continue
        _paste(sheet, image, cell)
        color = style.MATCH if place.match else style.MISS
        draw.rectangle(_frame(cell), outline=color, width=_FRAME)
        _mark(draw, _frame(cell), color, match=place.match)
    return sheet


def _frame(cell: int) -> tuple[int, int, int, int]:
    left = cell * _CELL[0] + (_CELL[0] - _IMAGE[0]) // 2 - _FRAME
    return left, 4, left + _IMAGE[0] + 2 * _FRAME - 1, 4 + _IMAGE[1] + 2 * _FRAME - 1


def _paste(sheet: Image.Image, image: np.ndarray, cell: int) -> None:
    """Fits an image of any shape into its frame, on gray."""
    left, top, *_ = _frame(cell)
    sheet.paste(ImageOps.pad(Image.fromarray(image), _IMAGE, color="#d8d8d8"), (left + _FRAME, top + _FRAME))


def _mark(draw: ImageDraw.ImageDraw, frame: tuple[int, int, int, int], color: str, *, match: bool) -> None:
    """A disc with a tick or a cross on the lower edge of the frame."""
    x, y = (frame[0] + frame[2]) // 2, frame[3] + 4
    draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill=color, outline="white", width=3)
    tick, cross = [[(-6, 0), (-1, 5), (7, -5)]], [[(-5, 5), (5, -5)], [(-5, -5), (5, 5)]]
    for line in tick if match else cross:
        draw.line([(x + right, y + down) for right, down in line], fill="white", width=3, joint="curve")


def _dashed(draw: ImageDraw.ImageDraw, frame: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = frame
    for x in range(left, right, 10):
        for y in (top, bottom):
            draw.line([(x, y), (min(x + 5, right), y)], fill=style.EXCLUDED, width=2)
    for y in range(top, bottom, 10):
        for x in (left, right):
            draw.line([(x, y), (x, min(y + 5, bottom))], fill=style.EXCLUDED, width=2)
