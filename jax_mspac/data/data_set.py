"""What is known of a data set: one record, which commands, configs, evaluations and reports read."""

import dataclasses
import inspect
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_mspac.data import listing
from jax_mspac.protocols.base import RetrievalProtocol

# Options of `find` that are no fields of one data set.
_COMMON = ("source", "height", "width", "skip_bad_images")
# Arguments of `protocols` that are no settings.
_LABELS = ("identities", "cameras", "modalities", "identity_names", "split")

Counts = Mapping[str, int]
# One row of the table of `prepare`: split, part of it, found and expected images, found and expected identities.
Row = tuple[str, str, int, int | None, int, int | None]


class ImageFile(NamedTuple):
    """An image of a data set, and the part it plays. The camera is a number from 1, as text."""

    path: str
    identity: str
    camera: str
    modality: str
    simulated: bool = False


@dataclasses.dataclass(eq=False, kw_only=True)
class Found:
    """What the `find` function of a data set found in one copy of it.

    Attributes:
      name: tells this content and these options apart from all others.
      description: for readers.
      splits: split -> its images, in the order in which they are stored.
      cameras: names of the cameras 1, 2, ...
      read: the encoded bytes of an image, JPEG or PNG with 8-bit samples.
      check: reads every image before any is stored; it raises a UserError, or adds to `warnings` and `skipped`.
      root: the folder of the images, or None.
      problems: one line per thing that keeps the set from being prepared.
      warnings: one line per thing that the user should know; preparing adds what reading the images tells.
      skip_bad_images: whether images that cannot be read are left out; otherwise they keep it from being prepared.
      skipped: the paths of those that were left out; preparing fills it.
      metadata: what else is stored with the set.
    """

    name: str
    description: str
    splits: dict[str, list[ImageFile]]
    cameras: Sequence[str]
    read: Callable[[ImageFile], bytes]
    check: Callable[["Found"], None] = lambda found: None
    root: pathlib.Path | None = None
    problems: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    skip_bad_images: bool = False
    skipped: list[str] = dataclasses.field(default_factory=list)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> list[ImageFile]:
        """Of all splits."""
        return [image for images in self.splits.values() for image in images]

    @property
    def notes(self) -> list[str]:
        """What a reader of a result must know of the data, once it is accepted."""
        return notes({**self.metadata, "skipped_images": self.skipped})

    def accept(self) -> None:
        """Checks what is there before it is stored; `warnings` and `skipped` are complete after it.

        Raises:
          UserError: it lists the problems.
        """
        self.check(self)
        if self.problems:
            raise listing.report(f"{self.description} cannot be prepared", self.problems)

    def kept(self, split: str) -> list[ImageFile]:
        """The images of a split that are stored."""
        skipped = set(self.skipped)
        return [image for image in self.splits[split] if image.path not in skipped]


def notes(metadata: Mapping[str, Any]) -> list[str]:
    """What a reader of a result must know of a set with this metadata."""
    told = []
    if metadata.get("simulated_infrared"):
        law = f" by the law '{metadata['infrared_law']}'" if metadata.get("infrared_law") else ""
        told.append(f"Simulated infrared: derived from photographs{law}, not taken by an infrared camera.")
    if skipped := metadata.get("skipped_images"):
        told.append(f"Left out: {len(skipped)} images that cannot be read.")
    if "splits" in metadata:
        told.append(f"Splits as in {metadata['splits']}.")
    return told


class TestSet(NamedTuple):
    """What is known of a published test set: direction, cameras of (queries, gallery), images of both."""

    direction: str
    cameras: tuple[tuple[int, ...], tuple[int, ...]]
    images: tuple[int, int]


class Published(NamedTuple):
    """A row that the slides print: the system as they call it, and score -> percent."""

    system: str
    scores: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set.

    Attributes:
      name: in `config.data.name`.
      title: as people write it.
      find: looks at a copy of the set. Its keyword arguments with a default are fields of `config.data`.
      protocols: lists the protocols of labels, see `search`. Its keyword arguments with a default are fields of
        `config.eval`.
      config: the name of the config that trains on it.
      where: how to get it.
      expected_counts: split -> what the complete set holds, under the names of `counts`.
      parts: from the fields of `config.data` to the runs whose results are averaged: name of a part -> the fields that
        it changes; nothing for a single run.
      remarks: lines for the table of `prepare`.
      published: (mode, shots, direction) -> what the slides print of that protocol.
      published_note: what a reader of these rows must know.
      test_set: of a published test set whose protocols fix it.
      uses_cameras: whether its protocols look at cameras.
    """

    name: str
    title: str
    find: Callable[..., Found]
    protocols: Callable[..., list[RetrievalProtocol]]
    config: str = ""
    where: str = ""
    expected_counts: Mapping[str, Counts] = dataclasses.field(default_factory=dict)
    parts: Callable[[Mapping[str, Any]], dict[str, dict[str, Any]]] = lambda fields: {}
    remarks: Callable[[Iterable[Row]], list[str]] = lambda rows: []
    published: Callable[..., Sequence[Published]] | None = None
    published_note: str = ""
    test_set: TestSet | None = None
    uses_cameras: bool = True

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that it adds to `config.data`, with their defaults."""
        return _settings(self.find, besides=_COMMON)

    @property
    def eval_fields(self) -> dict[str, Any]:
        """The fields that it adds to `config.eval`, with their defaults."""
        return _settings(self.protocols, besides=_LABELS)

    @property
    def has_source(self) -> bool:
        """Whether there is a folder of original images."""
        return "source" in inspect.signature(self.find).parameters

    def look(self, fields: Mapping[str, Any]) -> Found:
        """What `find` finds with the fields of a `config.data`; it takes those that it knows."""
        known = inspect.signature(self.find).parameters
        return self.find(**{name: value for name, value in fields.items() if name in known})

    def parts_of(self, fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The runs that are averaged, see `parts`; fields that are not given have their defaults."""
        return self.parts({**self.fields, **fields})

    def search(
        self,
        identities: np.ndarray,
        cameras: np.ndarray,
        modalities: np.ndarray,
        *,
        identity_names: Sequence[str],
        split: str = "test",
        settings: Mapping[str, Any],
    ) -> list[RetrievalProtocol]:
        """The protocols by which a split is searched.

        Args:
          identities: int [N], ranks of the identities, images in the order of their paths.
          cameras: int [N].
          modalities: int [N], positions in `MODALITIES`.
          identity_names: the name of each rank.
          split: its name.
          settings: such as `config.eval`; the set takes those that it knows.

        Raises:
          UserError: the settings do not fit the set, or ask for a file that is missing or damaged.
        """
        known = inspect.signature(self.protocols).parameters
        chosen = {name: value for name, value in settings.items() if name in known}
        labels = {"identity_names": identity_names, "split": split}
        chosen |= {name: value for name, value in labels.items() if name in known}
        return self.protocols(identities, cameras, modalities, **chosen)


def _settings(function: Callable[..., Any], *, besides: Sequence[str]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in besides}
