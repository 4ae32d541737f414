"""Prepares a data set with TFDS, once, and loads its splits. One builder serves all sets: what differs is `Found`."""

import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow_datasets as tfds

import jax_mspac.data.input  # noqa: F401  It takes the accelerators away from TensorFlow, before that looks for them.
from jax_mspac.data import data_set as data_set_lib
from jax_mspac.data import image_set
from jax_mspac.data.data_set import DataSet, Found, ImageFile
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES

Builder: TypeAlias = tfds.core.DatasetBuilder

_BATCH = 256  # examples per read: far fewer calls than one by one


@dataclasses.dataclass(eq=False, kw_only=True)
class _Config(tfds.core.BuilderConfig):
    found: Found = dataclasses.field(repr=False)


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing of these sets lies in TFDS's bucket, and the search leaves an empty folder behind each time."""


class _Images(tfds.core.GeneratorBasedBuilder):
    """Images of persons; a subclass for each data set gives its name."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        found = self.builder_config.found
        return _Info(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "identity": tfds.features.Text(),
                    "camera": tfds.features.Scalar(dtype=np.int32),
                    "modality": tfds.features.ClassLabel(names=MODALITIES),
                    "path": tfds.features.Text(),
                }
            ),
            description=found.description,
            metadata=tfds.core.MetadataDict(
                {"simulated_infrared": False, **found.metadata},
                cameras=list(found.cameras),
                skipped_images=found.skipped,
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        found = self.builder_config.found
        found.accept()
        return {split: self._generate_examples(found.kept(split)) for split in found.splits}

    def _generate_examples(self, images: Sequence[ImageFile]) -> Iterator[tuple[str, dict[str, Any]]]:
        found = self.builder_config.found
        for image in images:
            yield (
                image.path,
                {
                    "image": io.BytesIO(found.read(image)),
                    # Names sort in label order, so numbers are zero-padded.
                    "identity": image.identity,
                    "camera": int(image.camera),
                    "modality": image.modality,
                    "path": image.path,
                },
            )


def builder_of(data_set: DataSet, found: Found, data_dir: str) -> Builder:
    """The TFDS builder of what was found, not yet prepared; any change of a file or an option makes it another set.

    Args:
      data_set: its record.
      found: what it found.
      data_dir: where TFDS keeps prepared sets, or "" for its default.
    """
    config = _Config(name=found.name, description=found.description, found=found)
    return _builder_class(data_set.name)(config=config, data_dir=data_dir or None)


@functools.cache
def _builder_class(name: str) -> type[_Images]:
    return type("".join(word.title() for word in name.split("_")), (_Images,), {"__doc__": _Images.__doc__})


def prepared(data_set: DataSet, fields: Mapping[str, Any], data_dir: str) -> Builder:
    """The builder of a data set, with its files written if they were not there yet. Prints what it warns of.

    Args:
      data_set: its record.
      fields: of `config.data`.
      data_dir: where TFDS keeps prepared sets, or "" for its default.

    Raises:
      UserError: the source is missing or damaged.
    """
    found = data_set.look(fields)
    builder = builder_of(data_set, found, data_dir)
    try:
        builder.download_and_prepare()
    except FileExistsError:
        # Another run finished the same set first; its files are the same.
        builder = builder_of(data_set, found, data_dir)
        builder.download_and_prepare()
    finally:
        for line in found.warnings:
            _warn(line)
    return builder


def load(builder: Builder, splits: Sequence[str]) -> image_set.ImageSet:
    """The images of some splits together, sorted by path and not decoded; identities are ranked over the whole.

    Raises:
      UserError: the set has no such split.
    """
    missing = sorted(set(splits) - set(builder.info.splits))
    if missing:
        raise UserError(f"split {', '.join(missing)}: {builder.name} has only {', '.join(builder.info.splits)}")
    decoders = {"image": tfds.decode.SkipDecoding()}
    batches = builder.as_dataset(split="+".join(splits), batch_size=_BATCH, decoders=decoders)
    return image_set.from_examples(
        {
            "image": image,
            "identity": identity.decode(),
            "camera": camera,
            "modality": modality,
            "path": path.decode(),
        }
        for batch in tfds.as_numpy(batches)
        for image, identity, camera, modality, path in zip(
            *(batch[name] for name in ("image", "identity", "camera", "modality", "path")), strict=True
        )
    )


def notes(builder: Builder) -> list[str]:
    """What a reader of a result must know of the data."""
    return data_set_lib.notes(builder.info.metadata or {})


class Prepared:
    """A data set that is prepared with TFDS: what `memory.Exported` is of a file."""

    def __init__(self, data_set: DataSet, fields: Mapping[str, Any], data_dir: str):
        self._builder = prepared(data_set, fields, data_dir)
        self.splits: tuple[str, ...] = tuple(self._builder.info.splits)
        self.notes = notes(self._builder)

    def images(self, splits: Sequence[str]) -> image_set.ImageSet:
        """See `load`."""
        return load(self._builder, splits)


@functools.cache
def _warn(line: str) -> None:
    """Prints a warning once, however many sets of a source give it."""
    print(f"warning: {line}", flush=True)
