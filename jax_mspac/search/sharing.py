"""Images that several processes add together: each embeds a share into a shard, and one puts the shards together.

A shard is an index in the folder of the whole one, written by one process. What a process had stored when it ended,
however it ended, is in its shard; the next command puts the shards that it finds into the index before anything else.
On a server there are no shards: each process writes to the index itself.
"""

import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.runtime import distributed
from jax_mspac.search import adding, shards
from jax_mspac.search.adding import Added
from jax_mspac.search.database import FILE
from jax_mspac.search.embedded import Embedded
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.sources import Source
from jax_mspac.search.store import Store

# Facts of a shard: entries of the index that have other labels, and what `Added` tells.
_RELABELED, _ADDED = "relabeled", "added"
# Entries that are taken from a shard at a time.
_BLOCK = 1024


def add(
    index: Embedded,
    found: Sequence[Source],
    *,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """As `adding.add_all`, by all processes of the runtime, which call it with equal arguments and share the folder.

    Args:
      index: with its model loaded.
      found: all files; each process takes every so many.
      batch: images that are embedded and stored at a time.
      progress: called with the images of this process.

    Returns:
      What all have done, on each.

    Raises:
      UserError: the processes see different files or folders, or have different models.
    """
    folder = index.folder
    if folder:
        distributed.check_shared(folder)
    listed = ((f"{source.path}\n{source.modality}\n{source.camera}\n{source.time}\n").encode() for source in found)
    distributed.check_same("the images to add", listed)
    network, identity = index.model_of(None)
    distributed.check_same("the model", [identity["digest"].encode()])
    number, count = jax.process_index(), jax.process_count()
    share = found[number::count]
    add_share = functools.partial(adding.add_all, share, network, batch=batch, known=index.known, progress=progress)
    if not folder:
        return _total(_of_all(dataclasses.asdict(add_share(put=index.put, relabel=index.relabel))))
    _alone(lambda: merge(index))
    with Store(folder / f"{shards.PREFIX}{number}", create=True) as store:
        shard = Embedded(store, loaded=(network, identity))
        relabeled: list[Entry] = []
        added = add_share(put=shard.put, relabel=relabeled.extend)
        with store.writing():
            store.set_fact(_RELABELED, [dataclasses.asdict(entry) for entry in relabeled])
            store.set_fact(_ADDED, dataclasses.asdict(added))
    distributed.barrier()
    each = []
    for other in range(count):
        with Store(folder / f"{shards.PREFIX}{other}", create=False) as store:
            each.append(store.fact(_ADDED))
    distributed.barrier()
    _alone(lambda: merge(index))
    return _total(each)


def merge(index: Embedded) -> None:
    """Puts the shards that lie in the folder of an index into it, and removes them; nothing where there are none.

    Interrupted it goes on with the next call: an entry that is there already is replaced by itself.

    Raises:
      UserError: a shard is of another model than the index.
    """
    if not index.folder:
        return
    for folder in sorted(index.folder.glob(f"{shards.PREFIX}*")):
        if (folder / FILE).exists():
            with Store(folder, create=True) as store:
                _take(index, store, folder)
        shutil.rmtree(folder)


def _total(each: Sequence[dict[str, Any]]) -> Added:
    """What all have done, from what each has."""
    total: dict[str, Any] = dataclasses.asdict(Added())
    for one in each:
        for name, value in one.items():
            total[name] = {**total[name], **value} if isinstance(value, dict) else total[name] + value
    return Added(**total)


def _of_all(value: Any) -> list[Any]:
    """The JSON value of each process, on each."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(distributed.gathered(np.array([len(text)], np.int32)).max())
    padded = np.pad(text, (0, longest - len(text)), constant_values=ord(" "))
    return [json.loads(row.tobytes()) for row in distributed.gathered(padded[None])]


def _take(index: Embedded, shard: Store, folder: pathlib.Path) -> None:
    with shard.reading():
        positions, features = shard.positions(Filter()), shard.features()
        for start in range(0, len(positions), _BLOCK):
            some = positions[start : start + _BLOCK]
            try:
                index.put(shard.entries(some), np.array(features[some]), identity=shard.fact("model"))
            except UserError as error:
                raise UserError(f"{folder}, left by an interrupted command: {error}, or delete this folder") from error
        if relabeled := shard.fact(_RELABELED):
            index.relabel([Entry(**entry) for entry in relabeled])


def _alone(work: Callable[[], None]) -> None:
    """Does the work on the main process, while the others wait."""
    if distributed.is_main():
        work()
    distributed.barrier()
