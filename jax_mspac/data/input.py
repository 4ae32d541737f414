"""From encoded images to batches: tf.data decodes and resizes, the host hands out uint8 arrays."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.images import resize
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.modalities import MODALITIES

# TensorFlow only reads images here; the accelerators belong to JAX.
tf.config.set_visible_devices([], "GPU")

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
    images = decoded(image_set, positions, height=height, width=width, batch=sum(slot.size for slot in slots))
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
    image_set: ImageSet, positions: Iterable[np.ndarray], *, height: int, width: int, batch: int
) -> Iterator[np.ndarray]:
    """Decoded images in the order of the positions.

    Args:
      image_set: encoded images.
      positions: arrays of positions in the image set, concatenated.
      height: pixels that every image is resized to.
      width: likewise.
      batch: images per yielded array; the last one may be smaller.

    Yields:
      uint8 [batch, height, width, 3].
    """
    encoded = tf.constant(image_set.images)
    signature = tf.TensorSpec([None], tf.int32)
    dataset = tf.data.Dataset.from_generator(lambda: iter(positions), output_signature=signature).unbatch()
    dataset = dataset.map(_decoder(encoded, height, width), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch).prefetch(2).as_numpy_iterator()


def in_order(
    image_set: ImageSet, positions: np.ndarray, *, height: int, width: int, batch: int
) -> Iterator[np.ndarray]:
    """Decoded images at the given positions, as `decoded` yields them."""
    return decoded(image_set, [positions.astype(np.int32)], height=height, width=width, batch=batch)


def _decoder(encoded: tf.Tensor, height: int, width: int) -> Callable[[tf.Tensor], tf.Tensor]:
    def decode(position: tf.Tensor) -> tf.Tensor:
        # This kernel reads PNG too. The accurate DCT is what PIL uses: the same file gives the same pixels in both.
        image = tf.io.decode_jpeg(encoded[position], channels=3, dct_method="INTEGER_ACCURATE")
        size = tf.shape(image)
        same = tf.logical_and(tf.equal(size[0], height), tf.equal(size[1], width))
        image = tf.cond(same, lambda: image, lambda: _resize(image, height, width))
        image.set_shape([height, width, 3])
        return image

    return decode


def _resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return tf.numpy_function(lambda pixels: resize(pixels, height, width), [image], tf.uint8, stateful=False)
