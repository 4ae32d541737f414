"""From boxes in frames to entries: they are cut out, embedded in batches, and stored crop by crop or track by track."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data.images import Range, resize
from jax_mspac.metrics.distances import unit
from jax_mspac.search import boxes, crops
from jax_mspac.search.boxes import Box, Rectangle
from jax_mspac.search.detection import Detector
from jax_mspac.search.entries import Entry
from jax_mspac.search.footage import Footage, Frame

# Frames without a person after which it is written down that they were searched.
_NOTED = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """What is told of all entries of some footage; see `entries.Entry`. None was not told.

    Attributes:
      start: the time of frame 0, seconds since 1970.
    """

    modality: str
    camera: str | None = None
    start: float | None = None


@dataclasses.dataclass(eq=False)
class Person:
    """What will be one entry: a box, or the boxes of a track.

    Attributes:
      path: of the entry.
      boxes: by ascending frame.
      digest: see `digest_of`.
      known: the entry that is there, of other boxes or pixels.
      left: boxes that are still to be embedded.
      best: the box that shows the person best so far, and what was cut out for it.
      total: sum of the features.
    """

    path: str
    boxes: Sequence[Box]
    digest: str
    known: Entry | None = None
    left: int = 0
    best: tuple[Box, Rectangle] | None = None
    total: Any = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A box and its pixels, uint8 of the size that the model sees."""

    person: Person
    box: Box
    rectangle: Rectangle
    pixels: np.ndarray


def digest_of(source: Footage, found: Sequence[Box], margin: float) -> str:
    """SHA-256 of all boxes of an entry, with what is around them and the bytes of their files, in hexadecimal.

    An entry keeps "file.all": the SHA-256 of the file that holds the shown frame, and this one.
    """
    every = hashlib.sha256()
    for box in found:
        every.update(f"{source.digest(box.frame)} {box.frame} {box.widened(margin)}\n".encode())
    return every.hexdigest()


def entry_of(source: Footage, person: Person, labels: Labels, known: Entry | None) -> Entry:
    """The entry of a person of whom something was embedded; what is not told stays as it was."""
    assert person.best is not None
    box, rectangle = person.best
    return labeled(
        Entry(
            path=person.path,
            digest=f"{source.digest(box.frame)}.{person.digest}",
            modality=labels.modality,
            camera=known.camera if known else None,
            time=known.time if known else None,
            metadata={**(known.metadata if known else {}), **crops.columns(source, box, rectangle)},
        ),
        box.frame,
        source,
        labels,
    )


def labeled(entry: Entry, frame: int, source: Footage, labels: Labels) -> Entry:
    """An entry with the labels that are told; its time is that of its frame."""
    time = None if labels.start is None or not source.fps else labels.start + frame / source.fps
    return dataclasses.replace(
        entry,
        camera=entry.camera if labels.camera is None else labels.camera,
        time=entry.time if time is None else time,
    )


def cut(frame: Frame, box: Box, *, margin: float, size: tuple[int, int]) -> tuple[Rectangle, np.ndarray] | None:
    """What a box holds of a frame, resized to (height, width), and where; None if it lies outside of the frame."""
    assert frame.pixels is not None
    found = boxes.inside(box.widened(margin), frame.pixels.shape[1], frame.pixels.shape[0])
    if found is None:
        return None
    left, top, right, bottom = found
    return found, resize(np.ascontiguousarray(frame.pixels[top:bottom, left:right]), *size)


class Adder:
    """Cuts, embeds and stores; what has happened is in the attributes.

    Args:
      source: the frames.
      labels: of all entries.
      margin: around each box, a share of its width and height.
      size: (height, width) that the model sees.
      range_16_bit: of frames, see `data.images.read_rgb`.
      batch: crops that are embedded at a time.
      known: gives the entries that are there, by path, of some paths.
      embed: pixels [N] -> float32 [N, D] of length 1.
      put: stores entries, their features, and how many frames have been searched, all or nothing.
      relabel: gives entries that are there other labels.

    Attributes:
      counts: as of `adding.Added`.
      problems: what could not be read or cut out -> why.
    """

    def __init__(
        self,
        source: Footage,
        labels: Labels,
        *,
        margin: float,
        size: tuple[int, int],
        range_16_bit: Range | None = None,
        batch: int,
        known: Callable[[Sequence[str]], Mapping[str, Entry]],
        embed: Callable[[Sequence[np.ndarray]], np.ndarray],
        put: Callable[[Sequence[Entry], np.ndarray, int | None], None],
        relabel: Callable[[Sequence[Entry]], None],
    ):
        self._source, self._labels, self._margin, self._size, self._batch = source, labels, margin, size, batch
        self._range = range_16_bit
        self._known, self._embed, self._put, self._relabel = known, embed, put, relabel
        self._pending: list[Cut] = []
        self.counts = dict.fromkeys(("new", "replaced", "relabeled", "unchanged"), 0)
        self.problems: dict[str, str] = {}

    def of_boxes(self, found: Sequence[Box], *, every: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Adds the boxes of a file. Frames of which everything is in the index are not decoded."""
        grouped = boxes.tracks(found, every=every)
        wanted: dict[int, list[tuple[Person, Box]]] = {}
        people = self._new([self._person(mine) for mine in grouped])
        for person in people:
            for box in person.boxes:
                wanted.setdefault(box.frame, []).append((person, box))
        total, end = sum(map(len, grouped)), max(wanted, default=-1)
        done = total - sum(map(len, wanted.values()))
        if wanted:
            for frame in self._source.frames(wanted.__contains__, self._range):
                for person, box in wanted.pop(frame.number, ()):
                    self._add(frame, person, box)
                    done += 1
                self._store(whole=True)
                if progress and done - len(self._pending) < total:
                    progress(done - len(self._pending), total)
                if frame.problem:
                    self.problems[self._source.file(frame.number)] = frame.problem
                if frame.number == end:
                    break
        if wanted and self._source.path not in self.problems:
            count = sum(map(len, wanted.values()))
            self.problems[self._source.path] = f"has no frame {min(wanted)} (the first is 0), nor {count} boxes in it"
        for person, _ in (one for missing in wanted.values() for one in missing):
            person.left -= 1
        self._store(whole=False)
        self._finish([person for person in people if person.left == 0])
        if progress:
            progress(total, total)

    def of_detector(
        self,
        detector: Detector,
        *,
        every: int,
        start: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Adds whom a detector finds in every so many frames, from a frame on: those before it have been searched."""
        noted = start
        end = start
        for frame in self._source.frames(lambda number: number >= start and number % every == 0, self._range):
            if frame.pixels is None:
                self.problems[self._source.file(frame.number)] = frame.problem
            else:
                found = detector(frame.pixels, frame.number)
                for person in self._new([self._person([box]) for box in found]):
                    self._add(frame, person, person.boxes[0])
            end = frame.number + 1
            self._store(whole=True)
            if not self._pending and end - noted >= _NOTED * every:
                self._put([], np.empty((0, 0), np.float32), end)
                noted = end
            if progress and self._source.count:
                progress(min(end, self._source.count - 1), self._source.count)
        self._store(whole=False)
        if progress and self._source.count:
            progress(self._source.count, self._source.count)
        # A frame that could not be read may be read another time.
        if not self.problems:
            self._put([], np.empty((0, 0), np.float32), end)

    def relabel(self, entries: Sequence[Entry]) -> None:
        """Gives labels to entries that are there, of this footage."""
        changed = []
        for entry in entries:
            now = labeled(entry, crops.frame_of(entry, self._source), self._source, self._labels)
            changed += [now] if now != entry else []
        if changed:
            self._relabel(changed)
        self.counts["relabeled"] += len(changed)
        self.counts["unchanged"] += len(entries) - len(changed)

    def _person(self, mine: Sequence[Box]) -> Person:
        digest = digest_of(self._source, mine, self._margin)
        return Person(crops.name(self._source, mine[0]), mine, digest, left=len(mine))

    def _new(self, people: Sequence[Person]) -> list[Person]:
        """Those whose entry is not there as it would be; the others get their labels."""
        there = self._known([person.path for person in people])
        new, old = [], []
        for person in people:
            person.known = there.get(person.path)
            same = person.known is not None and person.known.digest.partition(".")[2] == person.digest
            if person.known is not None and same and person.known.modality == self._labels.modality:
                old.append(person.known)
            else:
                new.append(person)
        self.relabel(old)
        return new

    def _add(self, frame: Frame, person: Person, box: Box) -> None:
        done = frame.pixels is not None and cut(frame, box, margin=self._margin, size=self._size)
        if done:
            self._pending.append(Cut(person, box, *done))
            return
        person.left -= 1
        if frame.pixels is not None:
            height, width = frame.pixels.shape[:2]
            self.problems[crops.name(self._source, dataclasses.replace(box, track=None))] = (
                f"the box lies outside of the frame, which has {width} x {height} pixels"
            )

    def _store(self, *, whole: bool) -> None:
        """Embeds what is pending, whole batches or all, and stores whom that completes."""
        while len(self._pending) >= (self._batch if whole else 1):
            part, self._pending = self._pending[: self._batch], self._pending[self._batch :]
            features = self._embed([one.pixels for one in part])
            finished = []
            for one, feature in zip(part, features, strict=True):
                person = one.person
                person.total = person.total + feature.astype(np.float64)
                if person.best is None or one.box.quality() > person.best[0].quality():
                    person.best = one.box, one.rectangle
                person.left -= 1
                if person.left == 0:
                    finished.append(person)
            self._finish(finished)

    def _finish(self, people: Sequence[Person]) -> None:
        """Stores people all of whose boxes are embedded."""
        people = [person for person in people if person.best is not None]
        if not people:
            return
        features = unit(np.stack([person.total for person in people])).astype(np.float32)
        entries = [entry_of(self._source, person, self._labels, person.known) for person in people]
        # Frames before that of the first box that is pending are stored.
        searched = self._pending[0].box.frame if self._pending else None
        self._put(entries, features, searched)
        for person in people:
            self.counts["replaced" if person.known else "new"] += 1
            person.best, person.total = None, 0.0
