"""The images and labels of one split, in memory."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jax_mspac.data.images import read_rgb
from jax_mspac.modalities import MODALITIES


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels, sorted by path.

    Attributes:
      images: object [N], the bytes of JPEG or PNG files; or uint8 [N, H, W, 3], decoded.
      identities: int32 [N], the rank of the image's identity in `identity_names`.
      cameras: int32 [N], camera numbers, 1 or more.
      modalities: int32 [N], positions in MODALITIES.
      paths: object [N], source of each image as str, unique.
      identity_names: names of the identities, ascending.
      file_digests: of decoded images, object [N]: `digest_of` the files that they were.
    """

    images: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    modalities: np.ndarray
    paths: np.ndarray
    identity_names: tuple[str, ...]
    file_digests: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_identities(self) -> int:
        return len(self.identity_names)

    @property
    def is_decoded(self) -> bool:
        """Whether the images are pixels, all of one size."""
        return self.images.ndim == 4

    @functools.cached_property
    def digests(self) -> list[str]:
        """`digest_of` each image's file."""
        return list(map(digest_of, self.images)) if self.file_digests is None else self.file_digests.tolist()

    def picture(self, position: int) -> np.ndarray:
        """An image as it is stored, uint8 [H, W, 3]."""
        image = self.images[position]
        return image if self.is_decoded else read_rgb(image)

    def select(self, index: np.ndarray) -> "ImageSet":
        """The images that a boolean mask [N] or an index array [M] picks; ranks of identities stay as they are."""
        columns: tuple[str, ...] = ("images", "identities", "cameras", "modalities", "paths")
        columns += () if self.file_digests is None else ("file_digests",)
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in columns})


def shortened(sha256: str) -> str:
    """What of the SHA-256 of an encoded image, in hexadecimal, stands for it wherever images are compared."""
    return sha256[:16]


def digest_of(file: bytes) -> str:
    """What stands for an encoded image."""
    return shortened(hashlib.sha256(file).hexdigest())


def from_examples(examples: Iterable[Mapping[str, Any]]) -> ImageSet:
    """Builds an `ImageSet` from examples in any order.

    Args:
      examples: mappings with "image" (bytes), "identity" (str), "camera" (int), "modality" (position in MODALITIES)
        and "path" (str).

    Returns:
      The set, sorted by path; identities are numbered by the ascending order of their names.

    Raises:
      ValueError: there is no example, two share a path, or a camera or modality is out of range.
    """
    examples = sorted(examples, key=lambda example: example["path"])
    if not examples:
        raise ValueError("an image set needs at least one image")
    names = tuple(sorted({example["identity"] for example in examples}))
    rank = {name: i for i, name in enumerate(names)}
    image_set = ImageSet(
        images=_objects([example["image"] for example in examples]),
        identities=np.array([rank[example["identity"]] for example in examples], np.int32),
        cameras=np.array([example["camera"] for example in examples], np.int32),
        modalities=np.array([example["modality"] for example in examples], np.int32),
        paths=_objects([example["path"] for example in examples]),
        identity_names=names,
    )
    repeated = image_set.paths[1:][image_set.paths[1:] == image_set.paths[:-1]]
    if repeated.size:
        raise ValueError(f"path {repeated[0]!r} occurs more than once")
    if image_set.cameras.min() < 1:
        raise ValueError(f"camera {image_set.cameras.min()}: numbers start at 1")
    if not np.isin(image_set.modalities, range(len(MODALITIES))).all():
        raise ValueError(
            f"a modality is a position in {MODALITIES}, found {sorted(set(image_set.modalities.tolist()))}"
        )
    return image_set


def _objects(values: list) -> np.ndarray:
    # np.array would turn bytes into a fixed-width type that drops trailing zero bytes.
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
