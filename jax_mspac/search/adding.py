"""From image files to features: what is new is read, decoded and embedded; what is there already is told apart."""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from jax_mspac.data.images import Range, parsed_range, read_rgb, resize
from jax_mspac.errors import UserError
from jax_mspac.search import crops
from jax_mspac.search.entries import Entry
from jax_mspac.search.sources import Source

if TYPE_CHECKING:
    from jax_mspac.runs.inference import Model

# Batches that are read while one is embedded.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Added:
    """What `Index.add` did with the images that it was given.

    Attributes:
      new: not in the index before.
      replaced: their file or modality had changed.
      relabeled: they have another camera, time or metadata now.
      unchanged: all else that was in the index.
      unreadable: path -> why; none of these is in the index, unless an earlier state of the file was.
    """

    new: int = 0
    replaced: int = 0
    relabeled: int = 0
    unchanged: int = 0
    unreadable: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """An image file after reading: as the entry that it will be, with its pixels if it is to be embedded.

    Attributes:
      source: which file.
      entry: None if the file cannot be read; then `problem` says why.
      pixels: uint8 [height, width, 3]; None if the entry that is there has the features already.
      known: the entry that is there.
      problem: what is wrong with the file.
    """

    source: Source
    entry: Entry | None = None
    pixels: np.ndarray | None = None
    known: Entry | None = None
    problem: str = ""


def read(source: Source, known: Entry | None, *, size: tuple[int, int], range_16_bit: Range | None) -> Read:
    """Reads an image file, and decodes it unless its bytes and modality are those of the known entry.

    Args:
      source: the file, and what is known of it.
      known: the entry of this path.
      size: (height, width) that the model sees.
      range_16_bit: see `data.images.read_rgb`.
    """
    if crops.file_of(source.path) is not None:
        return Read(source, problem="its name is that of a part of a frame (#box=, #track=); rename it")
    try:
        source.path.encode()  # what is no text cannot be kept as text
        data = pathlib.Path(source.path).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        same = known is not None and (known.digest, known.modality) == (digest, source.modality)
        # Errors of a decoder name bytes, not the file.
        pixels = None if same else resize(read_rgb(data, range_16_bit), *size)
    except UnicodeEncodeError:
        return Read(source, problem="its name is not UTF-8; rename it")
    except OSError as error:
        return Read(source, problem=f"{error.strerror}; check that you may read it")
    except UserError as error:
        return Read(source, problem=str(error).partition(": ")[2] or str(error))
    return Read(source, _entry(source, digest, known), pixels, known)


def read_all(
    sources: Sequence[Source],
    known: Callable[[Sequence[str]], Mapping[str, Entry]],
    *,
    batch: int,
    size: tuple[int, int],
    range_16_bit: Range | None,
) -> Iterator[list[Read]]:
    """Reads files in threads of their own, `batch` at a time, ahead of who asks for them.

    Args:
      sources: the files.
      known: gives the entries that are there, by path, of some paths.
      batch: files at a time.
      size: see `read`.
      range_16_bit: see `read`.
    """
    waiting: collections.deque[list[Future[Read]]] = collections.deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for start in range(0, len(sources), batch):
                part = sources[start : start + batch]
                there = known([source.path for source in part])
                one = functools.partial(read, size=size, range_16_bit=range_16_bit)
                waiting.append([pool.submit(one, source, there.get(source.path)) for source in part])
                if len(waiting) > _AHEAD:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


def add_all(
    found: Sequence[Source],
    network: "Model",
    *,
    batch: int,
    known: Callable[[Sequence[str]], Mapping[str, Entry]],
    put: Callable[[Sequence[Entry], np.ndarray], None],
    relabel: Callable[[Sequence[Entry]], None],
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Embeds and stores the files that are new or have changed, and the labels of others.

    Args:
      found: the files.
      network: embeds.
      batch: images that are read, embedded and stored at a time.
      known: see `read_all`.
      put: stores entries and their features, all or nothing.
      relabel: gives entries that are there other labels.
      progress: called with the images done so far and all of them.
    """
    counts = dict.fromkeys(("new", "replaced", "relabeled", "unchanged"), 0)
    unreadable: dict[str, str] = {}
    pending: list[Read] = []
    config, done = network.config.data, 0
    for part in read_all(
        found,
        known,
        batch=batch,
        size=(config.height, config.width),
        range_16_bit=parsed_range(config.get("range_16_bit", "")),
    ):
        unreadable |= {one.source.path: one.problem for one in part if one.entry is None}
        there = [one for one in part if one.entry is not None and one.pixels is None]
        changed = [one.entry for one in there if one.entry is not None and one.entry != one.known]
        if changed:
            relabel(changed)
        counts["relabeled"] += len(changed)
        counts["unchanged"] += len(there) - len(changed)
        pending += [one for one in part if one.pixels is not None]
        done += len(part)
        # Whole batches, so that programs are compiled for one size.
        while len(pending) >= batch or (pending and done == len(found)):
            put(*_embedded(pending[:batch], network))
            for one in pending[:batch]:
                counts["replaced" if one.known else "new"] += 1
            pending = pending[batch:]
        if progress:
            progress(done - len(pending), len(found))
    return Added(**counts, unreadable=unreadable)


def _embedded(read: Sequence[Read], network: "Model") -> tuple[list[Entry], np.ndarray]:
    """The entries of images, all of which were read, and their features."""
    features = np.empty((0, 0), np.float32)
    entries = [one.entry for one in read if one.entry is not None]
    for modality in dict.fromkeys(entry.modality for entry in entries):
        rows = [row for row, entry in enumerate(entries) if entry.modality == modality]
        pixels = [image for row in rows if (image := read[row].pixels) is not None]
        embedded = network.embed(pixels, modality, batch=len(read))
        features = features if features.size else np.empty((len(read), embedded.shape[1]), np.float32)
        features[rows] = embedded
    return entries, features


def _entry(source: Source, digest: str, known: Entry | None) -> Entry:
    """The entry of a file; what its source does not tell stays as it was."""
    return Entry(
        path=source.path,
        digest=digest,
        modality=source.modality,
        camera=source.camera if source.camera is not None or known is None else known.camera,
        time=source.time if source.time is not None or known is None else known.time,
        metadata={**(known.metadata if known else {}), **source.metadata},
    )
