"""The batches of a run, and the images of an evaluation: uint8 arrays on the host, in an order that is planned.

Images that are decoded already are looked up, which needs no TensorFlow; encoded ones go through `data.input`.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES

Batch = dict[str, dict[str, np.ndarray]]


def training_batches(
    sampler: IdentitySampler,
    *,
    height: int,
    width: int,
    start: int,
    stop: int,
    devices: int = 1,
    local_devices: slice = slice(None),
    keep_bytes: int = 0,
) -> Iterator[Batch]:
    """The batches of steps start..stop-1 for this process.

    Args:
      sampler: plans the global batch of each step.
      height: pixels that every image is resized to.
      width: likewise.
      start: first step.
      stop: one past the last step.
      devices: number of devices of all processes; divides the identities of a batch.
      local_devices: those of this process.
      keep_bytes: see `decoded`.

    Yields:
      {"visible" | "infrared": {"image": uint8 [D, n, H, W, 3], "label", "camera", "index", "slot": int32 [D, n]}}.
    """
    image_set = sampler.image_set
    counts = [sampler.identities * k for k in sampler.images]
    slots = [
        slot.reshape(devices, -1)[local_devices]
        for slot in np.split(np.arange(sum(counts), dtype=np.int32), [counts[0]])
    ]

    def shares() -> Iterator[list[np.ndarray]]:
        for plan in sampler.batches(start, stop):
            yield [positions.reshape(devices, -1)[local_devices] for positions in plan]

    positions = (np.concatenate([share.ravel() for share in both]) for both in shares())
    batch = sum(slot.size for slot in slots)
    images = decoded(image_set, positions, height=height, width=width, batch=batch, keep_bytes=keep_bytes)
    for both, pixels in zip(shares(), images, strict=True):
        parts = np.split(pixels, [both[0].size])
        yield {
            modality: {
                "image": part.reshape(*index.shape, *part.shape[1:]),
                "label": image_set.identities[index],
                "camera": image_set.cameras[index],
                "index": index,
                "slot": slot,
            }
            for modality, part, index, slot in zip(MODALITIES, parts, both, slots, strict=True)
        }


def decoded(
    image_set: ImageSet,
    positions: Iterable[np.ndarray],
    *,
    height: int,
    width: int,
    batch: int,
    keep_bytes: int = 0,
) -> Iterator[np.ndarray]:
    """Images in the order of the positions.

    Args:
      image_set: the images.
      positions: arrays of positions in the image set, concatenated.
      height: pixels of every image; encoded ones are resized.
      width: likewise.
      batch: images per yielded array; the last one may be smaller.
      keep_bytes: of images decoded here to keep for when their positions come again; those that come first are kept.

    Returns:
      An iterator of uint8 [batch, height, width, 3].

    Raises:
      UserError: decoded images are of another size.
    """
    if not image_set.is_decoded:
        # TensorFlow takes seconds to import, and is not everywhere.
        from jax_mspac.data import input as tf_input

        return tf_input.decoded(image_set, positions, height=height, width=width, batch=batch, keep_bytes=keep_bytes)
    if image_set.images.shape[1:3] != (height, width):
        found = "x".join(map(str, image_set.images.shape[1:3]))
        raise UserError(f"the images in memory are {found} pixels, and {height}x{width} are asked for")
    return _looked_up(image_set.images, positions, batch)


def _looked_up(images: np.ndarray, positions: Iterable[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    waiting = np.empty(0, np.int32)
    for more in positions:
        waiting = np.concatenate([waiting, more])
        while len(waiting) >= batch:
            yield images[waiting[:batch]]
            waiting = waiting[batch:]
    if len(waiting):
        yield images[waiting]


def in_order(
    image_set: ImageSet, positions: np.ndarray, *, height: int, width: int, batch: int
) -> Iterator[np.ndarray]:
    """The images at some positions, as `decoded` yields them."""
    return decoded(image_set, [positions.astype(np.int32)], height=height, width=width, batch=batch)
