"""The demo data as a data set. Nothing is downloaded: the pictures are drawn."""

import functools
import io

from PIL import Image

from jax_mspac.data import folder
from jax_mspac.data.data_set import DataSet, Found, ImageFile
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


def find(
    *,
    height: int,
    width: int,
    seed: int = 0,
    train_identities: int = 120,
    val_identities: int = 24,
    test_identities: int = 60,
    images_per_camera: int = 4,
) -> Found:
    """Drawn persons before five cameras, three visible and two infrared; splits train, val and test.

    Args:
      height: of the pictures in pixels.
      width: of the pictures in pixels.
      seed: other seeds give other persons and pictures.
      train_identities: number of persons in the split train; no person is in two splits.
      val_identities: number of persons in the split val.
      test_identities: number of persons in the split test.
      images_per_camera: pictures of each person by each camera.

    Raises:
      UserError: a number is not an integer or too small.
    """
    sizes = {"train": train_identities, "val": val_identities, "test": test_identities}
    given = {"seed": seed, "images_per_camera": images_per_camera, "height": height, "width": width}
    given |= {f"{split}_identities": size for split, size in sizes.items()}
    for field, value in given.items():
        if not isinstance(value, int) or value < _SMALLEST[field]:
            raise UserError(
                f"{field} of the synthetic data is {value!r}; it must be an integer, {_SMALLEST[field]} or more"
            )
    splits, first = {}, 0
    for split, size in sizes.items():
        splits[split] = [
            ImageFile(
                f"{split}/{_FOLDERS[camera.modality]}/{identity:04d}/cam{camera.number}_{index:02d}.png",
                f"{identity:04d}",
                str(camera.number),
                camera.modality,
            )
            for identity in range(first, first + size)
            for camera in CAMERAS
            for index in range(images_per_camera)
        ]
        first += size
    identities = "-".join(map(str, sizes.values()))
    return Found(
        # Prepared sets are not drawn again: the version of the set goes up with every change of the pictures.
        name=f"seed{seed}_ids{identities}_images{images_per_camera}_{height}x{width}",
        description="Persons drawn by a small renderer, seen by three visible and two infrared cameras.",
        splits=splits,
        cameras=[f"cam{camera.number}" for camera in CAMERAS],
        read=functools.partial(_draw, seed=seed, height=height, width=width),
    )


def _draw(image: ImageFile, *, seed: int, height: int, width: int) -> bytes:
    identity, camera = int(image.identity), CAMERAS[int(image.camera) - 1]
    index = int(image.path.rpartition("_")[2].removesuffix(".png"))
    rng = image_rng(seed, identity, camera.number, index)
    picture = render(_person(seed, identity), camera, rng, height=height, width=width)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)  # sensor noise hardly compresses further
    return buffer.getvalue()


_person = functools.lru_cache(maxsize=1)(sample_person)

SET = DataSet(name="synthetic", title="the demo data", find=find, protocols=folder.search, config="demo")
