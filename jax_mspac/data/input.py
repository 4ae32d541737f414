"""From encoded images to arrays: tf.data decodes and resizes."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.images import resize

# TensorFlow only reads images here; the accelerators belong to JAX.
tf.config.set_visible_devices([], "GPU")

Reader = Callable[[tf.Tensor], tf.Tensor]


def decoded(
    image_set: ImageSet,
    positions: Iterable[np.ndarray],
    *,
    height: int,
    width: int,
    batch: int,
    keep_bytes: int = 0,
) -> Iterator[np.ndarray]:
    """Encoded images in the order of the positions: see `batches.decoded`."""
    read = _decoder(tf.constant(image_set.images), height, width)
    if limit := keep_bytes // (height * width * 3):
        read = _remembering(read, limit=limit)
    signature = tf.TensorSpec([None], tf.int32)
    dataset = tf.data.Dataset.from_generator(lambda: iter(positions), output_signature=signature).unbatch()
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch).prefetch(2).as_numpy_iterator()


def _decoder(encoded: tf.Tensor, height: int, width: int) -> Reader:
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


def _remembering(read: Reader, *, limit: int) -> Reader:
    """Reads no position twice; of more than `limit` different ones, those that come first are remembered."""
    known: dict[int, np.ndarray] = {}
    unknown = np.empty((0, 0, 3), np.uint8)

    def recall(position: np.ndarray) -> np.ndarray:
        return known.get(int(position), unknown)

    def remember(position: np.ndarray, image: np.ndarray) -> np.ndarray:
        if len(known) < limit:
            known[int(position)] = image.copy()  # the tensor's own memory is TensorFlow's to use again
        return image

    def remembered(position: tf.Tensor) -> tf.Tensor:
        def first() -> tf.Tensor:
            return tf.numpy_function(remember, [position, read(position)], tf.uint8)

        image = tf.numpy_function(recall, [position], tf.uint8)
        image = tf.cond(tf.size(image) > 0, lambda: image, first)
        image.set_shape([None, None, 3])
        return image

    return remembered
