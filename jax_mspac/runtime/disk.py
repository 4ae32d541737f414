"""What a disk refuses, by way of whatever library, as an error that names the place, the flag and the mend."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from jax_mspac.errors import UserError

# What the system says of a disk -> what the user can do.
_MENDS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "mount it writable",
    errno.EACCES: "change its access rights",
    errno.EPERM: "change its access rights",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount it again",
}


def sets_folder(data_dir: str) -> str:
    """Where TFDS keeps prepared sets: `config.data.data_dir`, or its default."""
    return os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


@contextlib.contextmanager
def explained(places: dict[str | os.PathLike, str], *, saved: str = "") -> Iterator[None]:
    """Turns errors of the disk into `UserError`s.

    Args:
      places: folders that get written -> the flag that names each. An error that tells no path is of the first one.
      saved: said of the first place, such as what is safe there.

    Raises:
      UserError: the disk is full, cannot be written, or is gone.
    """
    absolute = {pathlib.Path(place).absolute(): flag for place, flag in places.items()}
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if found := next(filter(None, (_explained(cause, absolute, saved) for cause in _causes(error))), None):
            raise UserError(found) from error
        raise


def _explained(cause: BaseException, places: dict[pathlib.Path, str], saved: str) -> str | None:
    number = getattr(cause, "errno", None) if isinstance(cause, OSError) else None
    named = cause.filename if isinstance(cause, OSError) and isinstance(cause.filename, str) else None
    if number == errno.ENOENT and named:
        # Of a place that cannot be made because there is nothing to make it in.
        above = [place for place in places if place != pathlib.Path(named) and place.is_relative_to(named)]
        return _told(named, number, places[above[0]], "name a folder that can be made") if above else None
    if number in _MENDS and named and not (place := _place_of(named, places)):
        return f"{named}: {os.strerror(number)}; {_MENDS[number]}"
    for number, mend in _MENDS.items():
        reason, text = os.strerror(number), str(cause)
        if reason in text:
            place = (named and _place_of(named, places)) or _place_in(text, places)
            flag, first = places[place], place == next(iter(places))
            detail = text.strip().partition("\n")[0][:300]
            return _told(place, number, flag, mend, f" ({detail})") + (f". {saved}" if first and saved else "")
    return None


def _told(place: object, number: int, flag: str, mend: str, detail: str = "") -> str:
    another = "" if number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE) else f", or give another {flag}"
    return f"{place}: {os.strerror(number)}{detail}; {mend}{another}"


def _place_of(path: str, places: dict[pathlib.Path, str]) -> pathlib.Path | None:
    """The place that a path lies in or above."""
    found = pathlib.Path(path).absolute()
    return next((place for place in places if found.is_relative_to(place) or place.is_relative_to(found)), None)


def _place_in(text: str, places: dict[pathlib.Path, str]) -> pathlib.Path:
    """The place whose path a message tells, or the first one."""
    return next((place for place in places if str(place) in text), next(iter(places)))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, and what that came from, ..."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
