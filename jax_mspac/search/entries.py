"""What an index holds of an image, which entries a query looks at, and what it answers."""

import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import Any

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An image of an index, or a person in footage: see `search.crops` for what the latter are called.

    Attributes:
      path: absolute, unique in the index.
      digest: SHA-256 of the file's bytes, in hexadecimal. Of a person in footage it is that of the file that holds the
        shown frame, a dot, and a digest of all boxes and their files.
      modality: "visible" or "infrared".
      camera: its name; None where nobody told.
      time: seconds since 1970-01-01 UTC; None where nobody told.
      metadata: further columns of the user by name.
    """

    path: str
    digest: str
    modality: str
    camera: str | None = None
    time: float | None = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit(Entry):
    """An entry that a query has found.

    Attributes:
      rank: 1 is the most similar.
      similarity: cosine of the features, in [-1, 1].
      match: whether the similarity reaches the calibrated threshold for these two modalities; None where there is none.
    """

    rank: int
    similarity: float
    match: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Which entries count: those that fit all that is given.

    Attributes:
      cameras: names, any of them; () for all.
      since: seconds since 1970-01-01 UTC, the earliest time.
      until: the first time that no longer counts. An entry without a time fits neither of both.
      modality: "visible" or "infrared".

    Raises:
      UserError: there is no such modality, or no time lies between the two.
    """

    cameras: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    modality: str | None = None

    def __post_init__(self):
        if self.modality is not None:
            check_modality(self.modality)
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise UserError(f"since {time_text(self.since)} until {time_text(self.until)}: no time lies between them")


def check_modality(modality: Any) -> None:
    """Raises a UserError where `modality` is none."""
    if modality not in MODALITIES:
        raise UserError(f"modality is {modality!r}; expected {' or '.join(map(repr, MODALITIES))}")


def seconds(time: str | float | datetime.datetime | None) -> float | None:
    """A time as seconds since 1970-01-01 UTC.

    Args:
      time: such seconds, or ISO 8601, such as "2026-11-28", "2026-11-28 14:05:00" or "2026-11-28T14:05:00.5+01:00";
        also a datetime. Without a time zone it is UTC. None and "" are no time.

    Raises:
      UserError: it is none of these.
    """
    if time is None or time == "":
        return None
    try:
        number: float | None = float(time)  # type: ignore[arg-type]  # a datetime is a TypeError, like None
    except (TypeError, ValueError):
        number = None
    if number is None:
        try:
            parsed = time if isinstance(time, datetime.datetime) else datetime.datetime.fromisoformat(str(time).strip())
            number = (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()
        except ValueError:
            number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"time is {str(time)!r}; expected seconds since 1970, or a date and time such as 2026-11-28T14:05:00+01:00"
        )
    return number


def time_text(time: float | None) -> str:
    """A time as ISO 8601 in UTC, without a zone; "" for none."""
    if time is None:
        return ""
    try:
        moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
    except (OverflowError, ValueError, OSError):  # a year that no calendar here has
        return f"{time:.0f} s"
    return moment.replace(tzinfo=None).isoformat(" ", "milliseconds" if moment.microsecond else "seconds")
