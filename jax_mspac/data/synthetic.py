"""The demo data as a TFDS data set. Nothing is downloaded: the pictures are drawn."""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jax_mspac.data import schema
from jax_mspac.demo.appearance import sample_person
from jax_mspac.demo.cameras import CAMERAS
from jax_mspac.demo.rendering import image_rng, render
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE

_FOLDERS = {VISIBLE: "rgb", INFRARED: "ir"}
_SMALLEST = {
    "seed": 0,
    "train_identities": 1,
    "val_identities": 1,
    "test_identities": 1,
    "images_per_camera": 1,
    "height": 16,
    "width": 8,
}


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
    """What is drawn. The name follows from the other fields, so that no two settings share a prepared folder."""

    name: str = dataclasses.field(init=False)
    seed: int = 0
    train_identities: int = 120
    val_identities: int = 24
    test_identities: int = 60
    images_per_camera: int = 4
    height: int = 96
    width: int = 48

    def __post_init__(self):
        for field, smallest in _SMALLEST.items():
            value = getattr(self, field)
            if not isinstance(value, int) or value < smallest:
                raise UserError(
                    f"{field} of the synthetic data is {value!r}; it must be an integer, {smallest} or more"
                )
        identities = f"{self.train_identities}-{self.val_identities}-{self.test_identities}"
        self.name = f"seed{self.seed}_ids{identities}_images{self.images_per_camera}_{self.height}x{self.width}"

    def identities(self, split: str) -> range:
        """The numbers of the persons in a split; no person is in two splits."""
        train_end = self.train_identities
        val_end = train_end + self.val_identities
        bounds = {
            "train": (0, train_end),
            "val": (train_end, val_end),
            "test": (val_end, val_end + self.test_identities),
        }
        return range(*bounds[split])


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """Drawn persons before five cameras, three visible and two infrared; splits train, val and test."""

    VERSION = tfds.core.Version("1.0.0")  # goes up with every change of the pictures: prepared sets are not redrawn
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=schema.features(),
            description="Persons drawn by a small renderer, seen by three visible and two infrared cameras.",
            metadata=tfds.core.MetadataDict(
                simulated_infrared=False, cameras=[f"cam{camera.number}" for camera in CAMERAS]
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in ("train", "val", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        for identity in config.identities(split):
            person = sample_person(config.seed, identity)
            for camera in CAMERAS:
                for index in range(config.images_per_camera):
                    rng = image_rng(config.seed, identity, camera.number, index)
                    picture = render(person, camera, rng, height=config.height, width=config.width)
                    path = f"{split}/{_FOLDERS[camera.modality]}/{identity:04d}/cam{camera.number}_{index:02d}.png"
                    yield (
                        path,
                        schema.example(
                            image=_png(picture),
                            identity=f"{identity:04d}",
                            camera=camera.number,
                            modality=camera.modality,
                            path=path,
                        ),
                    )


def build(
    *,
    data_dir: str | None,
    seed: int = 0,
    train_identities: int = 120,
    val_identities: int = 24,
    test_identities: int = 60,
    images_per_camera: int = 4,
    height: int = 96,
    width: int = 48,
) -> tfds.core.DatasetBuilder:
    """A builder for the demo data.

    Args:
      data_dir: where TFDS keeps prepared sets, or None for its default.
      seed: other seeds give other persons and pictures.
      train_identities: number of persons in the split train.
      val_identities: number of persons in the split val.
      test_identities: number of persons in the split test.
      images_per_camera: pictures of each person by each camera.
      height: of the pictures in pixels.
      width: of the pictures in pixels.

    Returns:
      The builder, not yet prepared.

    Raises:
      UserError: a number is not an integer or too small.
    """
    config = SyntheticConfig(
        seed=seed,
        train_identities=train_identities,
        val_identities=val_identities,
        test_identities=test_identities,
        images_per_camera=images_per_camera,
        height=height,
        width=width,
    )
    return Synthetic(config=config, data_dir=data_dir)


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)  # sensor noise hardly compresses further
    return buffer.getvalue()
