"""The people of a video or of a folder of frames, whom boxes or a detector tell, as entries of an index."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jax_mspac.data.images import parsed_range
from jax_mspac.errors import UserError
from jax_mspac.search import boxes as boxes_lib
from jax_mspac.search import crops, detection
from jax_mspac.search.adding import Added
from jax_mspac.search.base import DETECTED, Store
from jax_mspac.search.boxes import Box
from jax_mspac.search.cutting import Adder, Labels
from jax_mspac.search.detection import Detector
from jax_mspac.search.entries import Entry
from jax_mspac.search.footage import Footage

if TYPE_CHECKING:
    from jax_mspac.runs.inference import Model

# What a margin may be: more is no picture of a person.
_MOST_MARGIN = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How frames and boxes are taken; see `Index.add_footage`.

    Raises:
      UserError: a value is out of its range.
    """

    every: int = 1
    margin: float = 0.0
    batch: int = 64

    def __post_init__(self):
        if self.every < 1:
            raise UserError(f"every is {self.every}; expected 1 or more: one frame in so many is taken")
        if not 0 <= self.margin <= _MOST_MARGIN:
            raise UserError(f"margin is {self.margin:g}; expected 0 to {_MOST_MARGIN}, a share of the box on each side")
        if self.batch < 1:
            raise UserError(f"batch is {self.batch}; expected 1 or more crops at a time")


def people(
    source: Footage,
    boxes: str | os.PathLike | Sequence[Box] | None,
    detector: str | os.PathLike | Detector | None,
    *,
    min_score: float | None = None,
) -> list[Box] | Detector:
    """The boxes of some footage, or what finds them: one of both is given.

    Args:
      source: the frames.
      boxes: of `boxes.read`, or their file.
      detector: of `detection.load`, or its name.
      min_score: boxes of a lower score do not count.

    Raises:
      UserError: not one of both is given, they cannot be read, or boxes are in frames that there are not.
    """
    if (boxes is None) == (detector is None):
        raise UserError(f"{source.path}: where are people in it? Name a file of boxes or a detector, one of both")
    if isinstance(detector, str | os.PathLike):
        return detection.load(detector, min_score=min_score)
    if detector is not None:
        return detector
    if isinstance(boxes, str | os.PathLike):
        found = boxes_lib.read(boxes, source.names, min_score=min_score)
    else:
        found = boxes_lib.arranged(boxes or (), source.path)
    if not found:
        raise UserError(f"{source.path}: no boxes are given")
    if source.count is not None and found[-1].frame >= source.count:
        raise UserError(
            f"{source.path} has {source.count} frames, and the boxes name frame {found[-1].frame} (counted from 0, "
            "which is 1 in a file of MOTChallenge): are they of other footage?"
        )
    return found


def add_all(
    source: Footage,
    people: list[Box] | Detector,
    network: "Model",
    labels: Labels,
    *,
    store: Store,
    put: Callable[..., None],
    relabel: Callable[[Sequence[Entry]], None],
    known: Callable[[Sequence[str]], Mapping[str, Entry]],
    options: Options,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Embeds and stores the people of some footage; see `Index.add_footage`.

    Args:
      source: the frames.
      people: see there.
      network: embeds.
      labels: of all entries.
      store: of the index.
      put: stores entries, features and facts, all or nothing.
      relabel: gives entries that are there other labels.
      known: gives the entries that are there, by path, of some paths.
      options: how frames and boxes are taken.
      progress: see `Index.add_footage`.
    """
    if labels.start is not None and not source.fps:
        raise UserError(f"{source.path}: how many frames a second? Say so by --fps, so that each has a time")
    try:
        source.path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{source.path!r}: its name is not UTF-8; rename it") from None
    if crops.file_of(source.path) is not None:
        raise UserError(f"{source.path}: its name is that of a part of a frame (#box=, #track=); rename it")
    searched = None if isinstance(people, list) else _Searched(source, people, labels, options)

    def store_people(entries: Sequence[Entry], features: np.ndarray, end: int | None) -> None:
        put(entries, features, searched.facts(end) if searched and end is not None else None)

    adder = Adder(
        source,
        labels,
        margin=options.margin,
        size=(network.config.data.height, network.config.data.width),
        range_16_bit=parsed_range(network.config.data.get("range_16_bit", "")),
        batch=options.batch,
        known=known,
        embed=lambda pixels: network.embed(pixels, labels.modality, batch=options.batch),
        put=store_people,
        relabel=relabel,
    )
    if isinstance(people, list):
        adder.of_boxes(people, every=options.every, progress=progress)
    elif searched:
        start = searched.start(store.fact(searched.name))
        before = [entry for entry in store.entries(store.below(source.path)) if crops.is_box_of(entry, source)]
        adder.relabel([entry for entry in before if crops.frame_of(entry, source) < start])
        adder.of_detector(people, every=options.every, start=start, progress=progress)
    return Added(**adder.counts, unreadable=adder.problems)


class _Searched:
    """Which frames a detector has searched: a fact of the index, so that an interrupted command goes on."""

    def __init__(self, source: Footage, detector: Detector, labels: Labels, options: Options):
        self.name = f"{DETECTED}{source.path}"
        self._source = source
        self._how = f"{detector.identity} {options.every} {options.margin} {labels.modality}"

    def facts(self, end: int) -> dict[str, Any]:
        """That the frames before `end` were searched."""
        return {self.name: {"frames": end, "of": self._of(end)}}

    def start(self, fact: Any) -> int:
        """The first frame that is still to be searched."""
        end = fact["frames"] if fact else 0
        if self._source.count is not None and end > self._source.count:
            return 0
        return end if fact and fact["of"] == self._of(end) else 0

    def _of(self, end: int) -> str:
        """Of what and how: other bytes of these frames, or another way to search, make it another text."""
        files = range(0, end) if not self._source.numbered else range(1)
        digest = hashlib.sha256(self._how.encode())
        for number in files:
            digest.update(self._source.digest(number).encode())
        return digest.hexdigest()
