"""Boxes of people in frames: what a file tells of them, and how a box becomes pixels."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

from jax_mspac.errors import UserError
from jax_mspac.search import sources

# Columns of a CSV file with a header.
_REQUIRED, _OPTIONAL = ("frame", "x", "y", "w", "h"), ("track", "score")
# Left, top, right, bottom in pixels.
Rectangle = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """A person in a frame.

    Attributes:
      frame: its number, from 0.
      x: pixels from the left of the frame to the left of the box; y likewise, from the top.
      w: width; h: height; both more than 0.
      track: whose boxes are of one person; None where nobody told.
      score: of the detector, more is surer; None where nobody told.
    """

    frame: int
    x: float
    y: float
    w: float
    h: float
    track: str | None = None
    score: float | None = None

    def text(self) -> str:
        """ "x,y,w,h", whole pixels as such."""
        return ",".join(f"{value:.10g}" for value in (self.x, self.y, self.w, self.h))

    def widened(self, margin: float) -> Rectangle:
        """The box with a margin on each side, a share of its width or height, to whole pixels; see `inside`."""
        dx, dy = margin * self.w, margin * self.h
        ends = self.x + self.w + dx, self.y + self.h + dy
        return math.floor(self.x - dx), math.floor(self.y - dy), math.ceil(ends[0]), math.ceil(ends[1])

    def quality(self) -> tuple[float, float, int]:
        """Orders boxes by how well they show a person: the score, then the area, then the earlier one."""
        return -math.inf if self.score is None else self.score, self.w * self.h, -self.frame


def inside(rectangle: Rectangle, width: int, height: int) -> Rectangle | None:
    """The part of a rectangle that lies in a frame, in pixels; None for none."""
    left, top = max(rectangle[0], 0), max(rectangle[1], 0)
    right, bottom = min(rectangle[2], width), min(rectangle[3], height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def read(
    file: str | os.PathLike, names: Mapping[str, int] | None = None, *, min_score: float | None = None
) -> list[Box]:
    """The boxes of a file, by ascending frame.

    Args:
      file: either a text file of MOTChallenge: frame (from 1), identity (-1: none), left, top, width, height (from 1),
        score, and more columns, which do not count; in ground truth, which has 9 columns, a score of 0 says that the
        box is not to be considered. Or a CSV file whose first line names the columns frame (from 0, or the name of an
        image), x, y, w and h (from 0), and any of track and score.
      names: numbers of frames by the name of their image.
      min_score: boxes of a lower score do not count; those without one do.

    Raises:
      UserError: it cannot be read, a line is none of this, two boxes of a track are in one frame, or no box is left.
    """
    path = pathlib.Path(file).expanduser()
    found, lines = [], 0
    for number, row in _rows(path):
        lines += 1
        try:
            box = _box(row, names or {})
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        ignored = row.get("ignored") == "0"
        if not ignored and (min_score is None or box.score is None or box.score >= min_score):
            found.append(box)
    if not found:
        raise UserError(
            f"{path}: {lines} boxes, none of which counts{'' if min_score is None else f' (min_score {min_score:g})'}; "
            "expected lines of MOTChallenge, or a CSV file with a header: frame,x,y,w,h"
        )
    return arranged(found, str(path))


def arranged(boxes: Sequence[Box], origin: str) -> list[Box]:
    """Boxes by ascending frame.

    Args:
      boxes: in any order.
      origin: where they are from, for the error.

    Raises:
      UserError: two of a track are in one frame, or two of no track are at one place.
    """
    found, seen = sorted(boxes, key=lambda box: box.frame), set()
    for box in found:
        place = box.frame, box.text() if box.track is None else None, box.track
        if place in seen:
            what = "the same box" if box.track is None else f"track {box.track}"
            raise UserError(f"{origin}: {what} twice in frame {box.frame} (from 0); expected one box per person")
        seen.add(place)
    return found


def _rows(path: pathlib.Path) -> list[tuple[int, dict[str, str]]]:
    """The values of both kinds of file by name, with their line numbers; numbers of MOTChallenge count from 0."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read as text ({reason}); expected a file of boxes") from error
    if "frame" in first.lower():
        rows = list(sources.rows(path, required=_REQUIRED))
        named = {name.lower(): name for _, row in rows[:1] for name in row}
        given = {name: named[name] for name in (*_REQUIRED, *_OPTIONAL) if name in named}
        return [(number, {name: row[column] for name, column in given.items()}) for number, row in rows]
    return [
        (number, _of_motchallenge(line, f"{path}, line {number}"))
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
        if line.strip()
    ]


def _of_motchallenge(line: str, where: str) -> dict[str, str]:
    values = [value.strip() for value in (line.split(",") if "," in line else line.split())]
    try:
        frame, identity, x, y = (float(value) for value in values[:4])
        if len(values) < 6 or frame != int(frame) or identity != int(identity):
            raise ValueError
    except (ValueError, OverflowError):
        raise UserError(
            f"{where}: {line[:80]!r}; expected frame,identity,left,top,width,height,score as in MOTChallenge, or a "
            "first line that names the columns: frame,x,y,w,h"
        ) from None
    row = {"frame": str(int(frame) - 1), "x": str(x - 1), "y": str(y - 1), "w": values[4], "h": values[5]}
    row["track"] = str(int(identity)) if identity >= 0 else ""
    row["score"] = values[6] if len(values) > 6 else ""
    if len(values) == 9 and values[6] in ("0", "0.0"):
        row["ignored"] = "0"
    return row


def _box(row: Mapping[str, str], names: Mapping[str, int]) -> Box:
    frame = names.get(row["frame"])
    if frame is None:
        try:
            frame = int(row["frame"])
        except ValueError:
            raise ValueError(f"there is no frame {row['frame']!r}; expected a number or the name of an image") from None
    if frame < 0:
        raise ValueError(f"frame {row['frame']} comes before the first one")
    x, y, w, h = (_finite(row, name) for name in ("x", "y", "w", "h"))
    if w <= 0 or h <= 0:
        raise ValueError(f"the box is {w:g} x {h:g} pixels; expected more than 0")
    score = _finite(row, "score") if row.get("score") else None
    return Box(frame=frame, x=x, y=y, w=w, h=h, track=row.get("track") or None, score=score)


def _finite(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is {row[name]!r}; expected a number")
    return value


def tracks(boxes: Sequence[Box], *, every: int) -> list[list[Box]]:
    """Boxes that make an entry together, by ascending end: those of a track, and each box without one by itself.

    Args:
      boxes: by ascending frame.
      every: of a track's boxes those count that are as many frames apart, from its first on, so that each has one; of
        the others those in the frames 0, `every`, 2 `every`, ...
    """
    by_track: dict[str, list[Box]] = {}
    single = []
    for box in boxes:
        if box.track is None:
            single += [[box]] if box.frame % every == 0 else []
        else:
            mine = by_track.setdefault(box.track, [])
            if not mine or (box.frame - mine[0].frame) % every == 0:
                mine.append(box)
    return sorted([*single, *by_track.values()], key=lambda mine: mine[-1].frame)
