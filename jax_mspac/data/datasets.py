"""The data sets by name; prepares what is not there yet and loads splits."""

import functools
import inspect
from collections.abc import Callable

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from jax_mspac.data import folder, llcm, regdb, synthetic, sysu_mm01
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.loading import load_split
from jax_mspac.errors import UserError

Builder = tfds.core.DatasetBuilder

DATASETS: dict[str, Callable[..., Builder]] = {
    "synthetic": synthetic.build,
    "folder": folder.build,
    "sysu_mm01": sysu_mm01.build,
    "regdb": regdb.build,
    "llcm": llcm.build,
}


def prepared(data: ConfigDict) -> Builder:
    """The builder of `config.data`, with its files written if they were not there yet. Prints what it warns of.

    Args:
      data: `name` picks the builder; the fields that its `build` function takes are passed on.

    Raises:
      UserError: there is no such data set, or its source is missing or damaged.
    """
    if data.name not in DATASETS:
        raise UserError(f"config.data.name is {data.name!r}; there are {', '.join(DATASETS)}")
    build = DATASETS[data.name]
    accepted = inspect.signature(build).parameters
    if unknown := sorted(
        set(data) - set(accepted) - {"name", "height", "width", "train_splits", "source", "data_dir", "skip_bad_images"}
    ):
        own = sorted(set(accepted) - {"source", "data_dir"})
        raise UserError(f"config.data.{unknown[0]}: {data.name} has no such field; it has {', '.join(own)}")
    options = {name: value for name, value in data.items() if name in accepted and name != "data_dir"}
    builder = build(data_dir=data.data_dir or None, **options)
    try:
        builder.download_and_prepare()
    except FileExistsError:
        # Another run finished the same set first; its files are the same.
        builder = build(data_dir=data.data_dir or None, **options)
        builder.download_and_prepare()
    finally:
        for line in getattr(builder.builder_config, "warnings", ()):
            _warn(line)
    return builder


def load(builder: Builder, splits: tuple[str, ...]) -> ImageSet:
    """The images of some splits together, as one `ImageSet`."""
    return load_split(builder, "+".join(splits))


def notes(builder: Builder) -> list[str]:
    """What a reader of a result must know of the data."""
    metadata = builder.info.metadata or {}
    told = []
    if metadata.get("simulated_infrared"):
        told.append("Simulated infrared: derived from files, not taken by an infrared camera.")
    if skipped := metadata.get("skipped_images"):
        told.append(f"Left out: {len(skipped)} images that cannot be read.")
    if "splits" in metadata:
        told.append(f"Splits as in {metadata['splits']}.")
    return told


@functools.cache
def _warn(line: str) -> None:
    """Prints a warning once, however many sets of a source give it."""
    print(f"warning: {line}", flush=True)
