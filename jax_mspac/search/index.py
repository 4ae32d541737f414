"""An index of embedded images: `jax_mspac.Index`."""

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.search import adding, adding_footage, cutting, footage, ranking, shards, sources, stores
from jax_mspac.search.adding import Added
from jax_mspac.search.base import Marks, Row, Store
from jax_mspac.search.boxes import Box
from jax_mspac.search.detection import Detector
from jax_mspac.search.embedded import AModel, Embedded
from jax_mspac.search.entries import Entry, Filter, Hit, check_modality, seconds

if TYPE_CHECKING:
    from jax_mspac.runs.inference import AnImage
    from jax_mspac.search.calibration import Threshold

ATime = str | float | None


class Index:
    """An index of images of people, embedded by one model. `open` creates it in a folder or on a server.

        with jax_mspac.Index.open("people") as index:
            index.add("shots/camera1", model="runs/sysu", modality="visible", camera="1")
            hits = index.query("night.png", "infrared", top=20)

    It is a context manager. What a method reports as done is stored. Several processes may use one index at once.
    """

    def __init__(self, store: Store):
        self._store, self._embedded = store, Embedded(store)

    @classmethod
    def open(cls, index: str | os.PathLike, *, create: bool = True) -> "Index":
        """Opens an index.

        Args:
          index: its folder, or the address of a collection, such as "qdrant+http://localhost:6333/people".
          create: create an empty index if there is none.

        Raises:
          UserError: there is none and `create` is not set, the folder or the collection holds something else, the index
            is damaged, or the server does not answer.
        """
        return cls(stores.opened(index, create=create))

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes files and connections."""
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
        shared: bool = False,
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
          shared: each process of JAX's distributed runtime embeds a share; see `search.sharing`.
          progress: called with the number of images done so far and the number of all images.

        Raises:
          UserError: there are no such images, no modality is known, or the model is not that of the index.
        """
        if batch < 1:
            raise UserError(f"batch is {batch}; expected 1 or more images at a time")
        camera = None if camera is None else str(camera)
        found = sources.find(images, modality=modality, camera=camera, time=seconds(time), table=metadata)
        network, _ = self._embedded.model_of(model)
        if shared:
            from jax_mspac.search import sharing  # with JAX's runtime of several processes

            return sharing.add(self._embedded, found, batch=batch, progress=progress)
        shards.check_none(self._store.folder)
        return adding.add_all(
            found,
            network,
            batch=batch,
            known=self._embedded.known,
            put=self._embedded.put,
            relabel=self._embedded.relabel,
            progress=progress,
        )

    def add_footage(
        self,
        *,
        video: str | os.PathLike | None = None,
        frames: str | os.PathLike | None = None,
        boxes: str | os.PathLike | Sequence[Box] | None = None,
        detector: str | os.PathLike | Detector | None = None,
        min_score: float | None = None,
        model: AModel | None = None,
        modality: str,
        camera: str | None = None,
        time: ATime = None,
        fps: float | None = None,
        every: int = 1,
        margin: float = 0.0,
        batch: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> Added:
        """Embeds and stores people in a video or in a folder of frames: an entry for each box, or for each track.

        A track's feature is the mean of those of its boxes, at length 1; shown is the box of the highest score, of
        equal scores the largest. What is in the index from the same pixels is not embedded again. See `search.crops`
        for what the entries are called and which columns they have.

        Args:
          video: a video file.
          frames: a folder of images instead, in the order of their names.
          boxes: where people are: see `boxes.read`.
          detector: what finds them instead: see `detection.load`.
          min_score: boxes of a lower score do not count.
          model: see `add`.
          modality: "visible" or "infrared", of all frames.
          camera: its name.
          time: when frame 0 was, see `entries.seconds`; others follow by `fps`.
          fps: frames a second; a video mostly tells them itself.
          every: take one frame in so many; of a track, its boxes that are so many frames apart.
          margin: around each box, a share of its width and height on each side.
          batch: crops that are embedded at a time.
          progress: called with the boxes, or the frames of a detector, done so far and all of them.

        Raises:
          UserError: there are no such frames or boxes, an argument is impossible, or the model is not that of the
            index.
        """
        check_modality(modality)
        shards.check_none(self._store.folder)
        options = adding_footage.Options(every=every, margin=margin, batch=batch)
        source = footage.opened(video, frames, fps=fps)
        people = adding_footage.people(source, boxes, detector, min_score=min_score)
        network, _ = self._embedded.model_of(model)
        labels = cutting.Labels(modality=modality, camera=None if camera is None else str(camera), start=seconds(time))
        return adding_footage.add_all(
            source,
            people,
            network,
            labels,
            store=self._store,
            put=self._embedded.put,
            relabel=self._embedded.relabel,
            known=self._embedded.known,
            options=options,
            progress=progress,
        )

    def query(
        self,
        images: "AnImage | Iterable[AnImage]",
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
        network, _ = self._embedded.model_of(model)
        feature = network.embed(images, modality).mean(axis=0, keepdims=True)
        return self.nearest(feature, modality, wanted, top=top)

    def nearest(self, feature: np.ndarray, modality: str, wanted: Filter | None = None, *, top: int = 20) -> list[Hit]:
        """Like `query`, for a feature of the index's model: float [1, D] or [D], of any norm."""
        with self._store.reading():
            self._embedded.identity()
            return ranking.nearest(self._store, np.asarray(feature), modality, wanted or Filter(), top=top)

    def calibrate(
        self,
        false_match_rate: float = 0.001,
        *,
        labels: str | os.PathLike | None = None,
        model: AModel | None = None,
        locations: dict[str, str] | None = None,
    ) -> "dict[str, Threshold]":
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
        from jax_mspac.search import calibration  # with all that a run is made of

        network, _ = self._embedded.model_of(model)
        if labels is None:
            labeled = calibration.of_validation(network, locations)
        else:
            with self._store.reading():
                labeled = calibration.of_entries(self._store, labels, network)
        found = calibration.thresholds(labeled, false_match_rate)
        with self._store.writing():
            self._embedded.identity()
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
          paths: files, folders for all entries below them, videos for all of theirs; (): any path.
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
        shards.check_none(self._store.folder)
        self._store.erase()  # what an interrupted removal left
        positions = list(self._store.positions(wanted))
        if named:
            of_names = {row for one in named for row in self._rows_of(one)}
            positions = [row for row in positions if row in of_names]
        self._store.remove(positions)
        return len(positions)

    def entries(self, wanted: Filter | None = None) -> list[Entry]:
        """The entries that pass a filter, sorted by path."""
        with self._store.reading():
            entries = self._store.matching(wanted or Filter())
        return sorted(entries, key=lambda entry: entry.path)

    def info(self) -> dict[str, Any]:
        """What the index holds: JSON values."""
        with self._store.reading():
            since, until = self._store.times()
            counts = self._store.counts()
            return {
                "folder": self._store.place,
                "entries": self._store.count(),
                "dimensions": self._store.fact("dimensions"),
                "model": self._store.fact("model"),
                "cameras": [{"modality": m, "camera": c, "entries": count} for (m, c), count in counts.items()],
                "since": since,
                "until": until,
                "thresholds": self._store.fact("thresholds"),
                "bytes": self._store.size(),
            }

    @property
    def model(self) -> dict[str, Any] | None:
        """The model of the entries, as in `info`; None before the first are added."""
        return self._store.fact("model")

    def marks(self) -> Marks:
        """What was said of hits, right or wrong, on the page of the index: a context manager."""
        return self._store.marks()

    def _rows_of(self, name: str | os.PathLike) -> list[Row]:
        path = os.path.abspath(pathlib.Path(name).expanduser())
        found = [*(row for row, _ in self._store.at([path]).values()), *self._store.below(path)]
        if not found:
            raise UserError(f"{path}: the index has no such image, nor one below it; list shows what it has")
        return found
