"""Frames of a video file or of a folder of images, one after the other or a single one.

Videos are read by PyAV. OpenCV reads the same frames in order; asked for a frame by its number it gave others in videos
of variable rate and in transport streams.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from jax_mspac.data import listing
from jax_mspac.data.images import MAX_PIXELS, Range, read_rgb
from jax_mspac.errors import UserError

# Codecs show frames in another order than they store them, this many apart at most (H.264 and H.265: 16).
_REORDERED = 32
_BLOCK = 1 << 20
_MOST_FPS = 1e6
# FFmpeg's names of formats. Others (concat, hls, ...) make it open further files, or addresses, that a file names.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,mxf,h264,hevc,dv,rm,ivf,gif"


class Frame(NamedTuple):
    """A frame: its number, from 0, and its pixels, uint8 [H, W, 3], or what is wrong with it."""

    number: int
    pixels: np.ndarray | None
    problem: str = ""


class Footage(Protocol):
    """Frames with numbers from 0.

    Attributes:
      path: of the video or the folder, absolute.
      fps: frames a second; None where nobody knows.
      count: how many frames there are; None where only reading tells.
      numbered: whether a frame is a number of a file rather than a file of its own.
      names: numbers of frames by the name of their file.
    """

    path: str
    fps: float | None
    count: int | None
    numbered: bool
    names: dict[str, int]

    def file(self, number: int) -> str:
        """The path of the file that holds a frame."""
        ...

    def digest(self, number: int) -> str:
        """SHA-256 of this file's bytes, in hexadecimal; "" if it cannot be read."""
        ...

    def frames(self, wanted: Callable[[int], bool], range_16_bit: Range | None = None) -> Iterator[Frame]:
        """The frames that are wanted, in order. The last one may tell why those after it cannot be read.

        For `range_16_bit` see `data.images.read_rgb`.
        """
        ...


class Video:
    """A video file. Frames are upright, as players show them: a rotation that the file tells is applied.

    Raises:
      UserError: it cannot be read as a video.
    """

    numbered = True

    def __init__(self, path: str | os.PathLike):
        self.path = os.path.abspath(pathlib.Path(path).expanduser())
        self.names: dict[str, int] = {}
        with _opened(self.path) as (_, stream):
            self.fps = float(stream.average_rate) if stream.average_rate else None
            self.count = stream.frames or None

    def file(self, number: int) -> str:
        return self.path

    def digest(self, number: int) -> str:
        return digest_of(self.path)

    def frames(self, wanted: Callable[[int], bool], range_16_bit: Range | None = None) -> Iterator[Frame]:
        number = hidden = 0
        with _opened(self.path) as (container, stream):
            try:
                for packet in container.demux(stream):
                    hidden += packet.pts is not None and packet.is_discard  # by an edit list
                    for frame in packet.decode():
                        if wanted(number):
                            yield Frame(number, _pixels(frame))
                        number += 1
            except _errors() as error:
                # What comes after it has no number that could be relied on.
                problem = f"from frame {number} on nothing can be decoded ({_told(error)})"
                yield Frame(number, None, problem)
                return
        if self.count and number < self.count - hidden:
            lost = f"only {number} of {self.count - hidden} frames can be decoded; numbers after a gap are too low"
            yield Frame(number, None, lost)


class Folder:
    """The images of a folder, by their names; numbers in them count as numbers.

    Args:
      path: the folder.
      fps: frames a second.

    Raises:
      UserError: it is no folder, or holds no images.
    """

    numbered = False

    def __init__(self, path: str | os.PathLike, *, fps: float | None = None):
        self.path = os.path.abspath(pathlib.Path(path).expanduser())
        self.fps = fps
        root = pathlib.Path(self.path)
        if not root.is_dir():
            raise UserError(f"{root}: there is no such folder of frames; correct the name")
        found = [pathlib.Path(file.path).name for file in listing.walk(root, ["."], depth=0).images]
        if not found:
            raise UserError(f"{root}: no image file in this folder; expected frames such as 000001.jpg")
        self._files = sorted(found, key=lambda name: [*map(_number, re.split(r"(\d+)", name)), (0, 0, name)])
        self.count: int | None = len(self._files)
        self.names = {name: number for number, name in enumerate(self._files)}

    def file(self, number: int) -> str:
        return os.path.join(self.path, self._files[number])

    def digest(self, number: int) -> str:
        try:
            return digest_of(self.file(number))
        except OSError:
            return ""

    def frames(self, wanted: Callable[[int], bool], range_16_bit: Range | None = None) -> Iterator[Frame]:
        for number in filter(wanted, range(len(self._files))):
            try:
                yield Frame(number, read_rgb(self.file(number), range_16_bit))
            except UserError as error:
                yield Frame(number, None, str(error).partition(": ")[2] or str(error))


def opened(
    video: str | os.PathLike | None,
    frames: str | os.PathLike | None,
    *,
    fps: float | None = None,
) -> Footage:
    """The footage of a video file or of a folder of frames, one of which is given.

    Args:
      video: the file.
      frames: the folder.
      fps: frames a second, of a video instead of what it tells.

    Raises:
      UserError: it cannot be read, or not one of both is given.
    """
    if fps is not None and not 0 < fps <= _MOST_FPS:
        raise UserError(f"fps is {fps:g}; expected frames a second, more than 0")
    if (video is None) == (frames is None):
        raise UserError("a video or a folder of frames? Name one of both")
    if video is None:
        return Folder(frames or "", fps=fps)
    found = Video(video)
    found.fps = fps or found.fps
    return found


def read_frame(path: str, number: int) -> np.ndarray:
    """One frame of a video, uint8 [H, W, 3], without reading all before it where the file allows that.

    Raises:
      UserError: the file cannot be read as a video, or has no such frame.
    """
    with _opened(path) as (container, stream), _explained(path):
        # Numbers count frames in the order in which they are shown, which is that of their times.
        packets = itertools.islice(container.demux(stream), number + _REORDERED)
        shown = [(packet.pts, packet.is_keyframe) for packet in packets if packet.pts is not None]
        times = sorted(time for time, _ in shown)
        if number < len(times) and shown[0][1] and len(set(times)) == len(times):
            container.seek(times[number], stream=stream)
            for frame in container.decode(stream):
                if frame.pts == times[number]:
                    return _pixels(frame)
                if frame.pts is None or frame.pts > times[number]:
                    break  # some formats cannot find the place
    with _opened(path) as (container, stream), _explained(path):
        frame = next(itertools.islice(container.decode(stream), number, None), None)
        if frame is None:
            raise UserError(f"{path}: has no frame {number} (the first is 0)")
        return _pixels(frame)


def digest_of(path: str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of a file that is as it was, without reading it again."""
    status = os.stat(path)
    return _digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _digest(path: str, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """The container and the video stream of a file."""
    import av

    # What is no file would be an address to FFmpeg, or a pattern.
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such video file; correct the name")
    options = {"format_whitelist": _FORMATS}
    with contextlib.ExitStack() as stack:
        with _explained(path):
            file = stack.enter_context(open(path, "rb"))
            container: Any = stack.enter_context(av.open(file, metadata_errors="replace", options=options))
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            raise UserError(f"{path}: holds no video that can be decoded; expected a file such as .mp4, .mkv or .avi")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            most = f"at most {MAX_PIXELS // 10**6} million are read"
            raise UserError(f"{path}: {width} x {height} pixels; {most}. Scale the video down")
        stream.thread_type = "AUTO"
        yield container, stream


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except _errors() as error:
        raise UserError(f"{path}: cannot be read as a video ({_told(error)}); copy it again, or convert it") from error


def _errors() -> tuple[type[Exception], ...]:
    import av

    return (av.error.FFmpegError, OSError)


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _pixels(frame: Any) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    # Degrees counterclockwise.
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _number(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdecimal() else (1, 0, part)
