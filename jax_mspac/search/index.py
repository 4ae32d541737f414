"""An index of embedded images: `jax_mspac.Index`."""

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jax_mspac.data.images import parsed_range
from jax_mspac.errors import UserError
from jax_mspac.runs import inference
from jax_mspac.runs.inference import AnImage, Model
from jax_mspac.search import adding, calibration, model_identity, ranking, sources
from jax_mspac.search.adding import Added, Read
from jax_mspac.search.entries import Entry, Filter, Hit, check_modality, seconds
from jax_mspac.search.store import Store

AModel = Model | str | os.PathLike[str]
ATime = str | float | None


class Index:
    """An index of images of people, embedded by one model and stored in a folder. `open` creates it; a context manager.

        with jax_mspac.Index.open("people") as index:
            index.add("shots/camera1", model="runs/sysu", modality="visible", camera="1")
            hits = index.query("night.png", "infrared", top=20)

    What a method reports as done is stored on disk. Several processes may use one index at the same time.
    """

    def __init__(self, store: Store):
        self._store = store
        self._loaded: tuple[Model, model_identity.Identity] | None = None

    @classmethod
    def open(cls, folder: str | os.PathLike, *, create: bool = True) -> "Index":
        """Opens the index in a folder.

        Args:
          folder: of the index.
          create: create an empty index, and its folder, if there is none.

        Raises:
          UserError: there is none and `create` is not set, the folder holds other files, or the index is damaged.
        """
        return cls(Store(folder, create=create))

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._store.close()

    def __len__(self) -> int:
        return self._store.count()

    def add(
        self,
        images: sources.ImageFiles,
        *,
        model: AModel | None = None,
        modality: str | None = None,
        camera: str | None = None,
        time: ATime = None,
        metadata: str | os.PathLike | None = None,
        batch: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> Added:
        """Embeds and stores the images that are new or have changed; for the others, it stores only the given labels.

        A file that cannot be read is left out and listed in the result.

        Args:
          images: an image file or a folder of them, or several.
          model: a loaded model, or the folder of its run; default: the one that the index was begun with.
          modality: "visible" or "infrared", for the images without one in `metadata`.
          camera: name of the camera, for the same images.
          time: time of the images, for the same images; see `entries.seconds`.
          metadata: a CSV file with a row per image; see `sources.find`.
          batch: images that are embedded and stored at a time.
          progress: called with the images done so far and all of them.

        Raises:
          UserError: there are no such images, no modality is known, or the model is not that of the index.
        """
        if batch < 1:
            raise UserError(f"batch is {batch}; expected 1 or more images at a time")
        camera = None if camera is None else str(camera)
        found = sources.find(images, modality=modality, camera=camera, time=seconds(time), table=metadata)
        network, _ = self._model(model)
        counts = dict.fromkeys(("new", "replaced", "relabeled", "unchanged"), 0)
        unreadable: dict[str, str] = {}
        pending: list[Read] = []
        config, done = network.config.data, 0
        for part in adding.read_all(
            found,
            lambda paths: {path: entry for path, (_, entry) in self._store.at(paths).items()},
            batch=batch,
            size=(config.height, config.width),
            range_16_bit=parsed_range(config.get("range_16_bit", "")),
        ):
            unreadable |= {one.source.path: one.problem for one in part if one.entry is None}
            there = [one for one in part if one.entry is not None and one.pixels is None]
            changed = [one.entry for one in there if one.entry is not None and one.entry != one.known]
            if changed:
                with self._store.writing():
                    self._store.relabel(changed)
            counts["relabeled"] += len(changed)
            counts["unchanged"] += len(there) - len(changed)
            pending += [one for one in part if one.pixels is not None]
            done += len(part)
            # Whole batches, so that programs are compiled for one size.
            while len(pending) >= batch or (pending and done == len(found)):
                self._put(pending[:batch])
                for one in pending[:batch]:
                    counts["replaced" if one.known else "new"] += 1
                pending = pending[batch:]
            if progress:
                progress(done - len(pending), len(found))
        return Added(**counts, unreadable=unreadable)

    def query(
        self,
        images: AnImage | Iterable[AnImage],
        modality: str,
        *,
        model: AModel | None = None,
        cameras: Sequence[str] = (),
        since: ATime = None,
        until: ATime = None,
        of: str | None = None,
        top: int = 20,
    ) -> list[Hit]:
        """The entries that are most similar to an image, or to the mean of several images of one person.

        Args:
          images: see `Model.embed`.
          modality: "visible" or "infrared", of these images.
          model: see `add`.
          cameras: names of the cameras to search; (): all cameras.
          since: search only entries of this time or later.
          until: search only entries before this time.
          of: "visible" or "infrared": search only entries of this modality.
          top: the number of hits; fewer if fewer entries remain.

        Returns:
          The hits in descending similarity; empty if no entry remains.

        Raises:
          UserError: an image cannot be read, the index is empty, an argument is impossible, or the model is not that
            of the index.
        """
        wanted = Filter(
            cameras=tuple(map(str, cameras)), since=seconds(since), until=seconds(until), modality=of
        )  # before the model is loaded, which takes longer
        check_modality(modality)
        network, _ = self._model(model)
        feature = network.embed(images, modality).mean(axis=0, keepdims=True)
        return self.nearest(feature, modality, wanted, top=top)

    def nearest(self, feature: np.ndarray, modality: str, wanted: Filter | None = None, *, top: int = 20) -> list[Hit]:
        """Like `query`, for a feature of the index's model: float [1, D] or [D], of any norm."""
        with self._store.reading():
            self._identity()
            return ranking.nearest(self._store, np.asarray(feature), modality, wanted or Filter(), top=top)

    def calibrate(
        self,
        false_match_rate: float = 0.001,
        *,
        labels: str | os.PathLike | None = None,
        model: AModel | None = None,
        locations: dict[str, str] | None = None,
    ) -> dict[str, calibration.Threshold]:
        """Computes and stores the similarity thresholds at which hits count as matches; see `calibration.thresholds`.

        Args:
          false_match_rate: the share of the pairs of two people that may match.
          labels: a CSV file with the columns "path" and "identity" of entries of the index; default: the validation
            identities of the model's run. People that the model was trained on or is tested on must not be among them.
          model: see `add`.
          locations: folders of the run's data, if it has moved: see `calibration.of_validation`.

        Returns:
          The thresholds by search direction, such as "infrared->visible".

        Raises:
          UserError: there are no such identities, they were trained on, or they are too few for the rate.
        """
        network, _ = self._model(model)
        if labels is None:
            labeled = calibration.of_validation(network, locations)
        else:
            with self._store.reading():
                labeled = calibration.of_entries(self._store, labels, network)
        found = calibration.thresholds(labeled, false_match_rate)
        with self._store.writing():
            self._identity()
            self._store.set_fact("thresholds", calibration.as_facts(found))
        return found

    def remove(
        self,
        paths: sources.ImageFiles = (),
        *,
        cameras: Sequence[str] = (),
        since: ATime = None,
        until: ATime = None,
    ) -> int:
        """Removes entries and erases their features; the image files are not touched.

        Args:
          paths: files, and folders for all entries below them; (): any path.
          cameras: see `query`.
          since: see `query`.
          until: see `query`.

        Returns:
          The number of entries removed.

        Raises:
          UserError: no path and no filter is given, or no entry has one of the paths.
        """
        named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        wanted = Filter(cameras=tuple(map(str, cameras)), since=seconds(since), until=seconds(until))
        if not named and wanted == Filter():
            raise UserError("remove which entries? Name files, folders, cameras or times")
        self._store.erase()  # what an interrupted removal left
        positions = self._store.positions(wanted)
        if named:
            positions = np.intersect1d(positions, [row for one in named for row in self._rows_of(one)])
        self._store.remove(positions)
        return len(positions)

    def entries(self, wanted: Filter | None = None) -> list[Entry]:
        """The entries that pass a filter, sorted by path."""
        with self._store.reading():
            entries = self._store.entries(self._store.positions(wanted or Filter()))
        return sorted(entries, key=lambda entry: entry.path)

    def info(self) -> dict[str, Any]:
        """What the index holds: JSON values."""
        with self._store.reading():
            since, until = self._store.times()
            counts = self._store.counts()
            return {
                "folder": str(self._store.folder.resolve()),
                "entries": self._store.count(),
                "dimensions": self._store.fact("dimensions"),
                "model": self._store.fact("model"),
                "cameras": [{"modality": m, "camera": c, "entries": count} for (m, c), count in counts.items()],
                "since": since,
                "until": until,
                "thresholds": self._store.fact("thresholds"),
                "bytes": sum(file.stat().st_size for file in self._store.folder.iterdir()),
            }

    def _put(self, read: Sequence[Read]) -> None:
        """Embeds and stores images, all of which were read."""
        network, identity = self._model(None)
        features = np.empty((0, 0), np.float32)
        entries = [one.entry for one in read if one.entry is not None]
        for modality in dict.fromkeys(entry.modality for entry in entries):
            rows = [row for row, entry in enumerate(entries) if entry.modality == modality]
            pixels = [image for row in rows if (image := read[row].pixels) is not None]
            embedded = network.embed(pixels, modality, batch=len(read))
            features = features if features.size else np.empty((len(read), embedded.shape[1]), np.float32)
            features[rows] = embedded
        with self._store.writing():
            if self._store.is_empty():
                self._store.set_fact("model", identity)
                self._store.set_fact("thresholds", None)
            # Another process may have begun the index with another model since this one was loaded.
            kept = self._store.fact("model")
            model_identity.check_same(kept, identity, dimensions=self._store.fact("dimensions") or 0)
            self._store.put(entries, features)

    def _model(self, model: AModel | None) -> tuple[Model, model_identity.Identity]:
        """The model that is asked for, which must be that of the index, and its identity."""
        loaded = self._loaded
        if model is None and loaded is None:
            kept = self._identity()
            try:
                model = inference.load(kept["workdir"], str(kept["step"]))
            except UserError as error:
                raise UserError(f"the model of this index: {error}; name its folder if it has moved") from error
        if loaded is None or (model is not None and model is not loaded[0]):
            network = model if isinstance(model, Model) else inference.load(pathlib.Path(model or ""))
            loaded = self._loaded = network, model_identity.of(network)
        if not self._store.is_empty():
            model_identity.check_same(self._identity(), loaded[1], dimensions=self._store.fact("dimensions"))
        return loaded

    def _identity(self) -> model_identity.Identity:
        """The model that the entries were embedded by."""
        if self._store.is_empty():
            raise UserError(f"{self._store.folder}: the index holds no images yet; add some, with a model")
        return self._store.fact("model")

    def _rows_of(self, name: str | os.PathLike) -> list[int]:
        path = os.path.abspath(pathlib.Path(name).expanduser())
        found = [row for row, _ in self._store.at([path]).values()] + self._store.below(path)
        if not found:
            raise UserError(f"{path}: the index has no such image, nor one below it; list shows what it has")
        return found
