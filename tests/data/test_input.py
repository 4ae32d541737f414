"""From encoded images to batches."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jax_mspac.data import image_set
from jax_mspac.data.batches import in_order, training_batches
from jax_mspac.data.input import _remembering, decoded
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.modalities import MODALITIES

SIZE = dict(height=24, width=12)


def encode(pixels, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **({"quality": 90} if form == "JPEG" else {}))
    return file.getvalue()


def smooth(rng, height, width):
    """An image without hard edges, whose interpolation is well defined."""
    small = Image.fromarray(rng.integers(0, 256, (6, 4, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    examples = []
    for identity in range(4):
        for modality in range(2):
            for n in range(3):
                pixels = np.full((24, 12, 3), 60 * identity + 20 * n + 10 * modality, np.uint8)
                pixels[:12] = rng.integers(0, 256, (12, 12, 3))
                path = f"{identity}/{modality}/{n}"
                examples.append(
                    {
                        "image": encode(pixels),
                        "identity": str(identity),
                        "camera": 1 + n,
                        "modality": modality,
                        "path": path,
                    }
                )
    return image_set.from_examples(examples)


def pixels_of(images, position):
    return np.asarray(Image.open(io.BytesIO(images.images[position])))


def test_batches_hold_the_planned_images_and_their_labels(images):
    sampler = IdentitySampler(images, seed=3, identities=4, images=(2, 1))
    batches = list(training_batches(sampler, **SIZE, start=0, stop=3))
    assert len(batches) == 3
    for batch, (visible, infrared) in zip(batches, sampler.batches(0, 3), strict=True):
        for modality, plan in (("visible", visible), ("infrared", infrared)):
            samples = batch[modality]
            np.testing.assert_array_equal(samples["index"], plan.reshape(1, -1))
            np.testing.assert_array_equal(samples["label"], images.identities[plan].reshape(1, -1))
            np.testing.assert_array_equal(samples["camera"], images.cameras[plan].reshape(1, -1))
            for pixels, position in zip(samples["image"][0], plan.ravel(), strict=True):
                np.testing.assert_array_equal(pixels, pixels_of(images, position))
            assert samples["image"].dtype == np.uint8 and samples["label"].dtype == np.int32


def test_batches_do_not_depend_on_where_they_start(images):
    sampler = IdentitySampler(images, seed=3, identities=2, images=(2, 1))
    whole = list(training_batches(sampler, **SIZE, start=0, stop=5))
    tail = list(training_batches(sampler, **SIZE, start=3, stop=5))
    for expected, batch in zip(whole[3:], tail, strict=True):
        for modality in expected:
            for name in expected[modality]:
                np.testing.assert_array_equal(expected[modality][name], batch[modality][name])


@pytest.mark.parametrize("local_devices", [slice(0, 4), slice(2, 4)])
def test_devices_share_the_batch_of_one_device(images, local_devices):
    sampler = IdentitySampler(images, seed=3, identities=4, images=(2, 1))
    (one,) = training_batches(sampler, **SIZE, start=1, stop=2)
    (shared,) = training_batches(sampler, **SIZE, start=1, stop=2, devices=4, local_devices=local_devices)
    for modality in one:
        for name, value in one[modality].items():
            expected = value[0].reshape(4, -1, *value.shape[2:])[local_devices]
            np.testing.assert_array_equal(shared[modality][name], expected)
    # The slot is the position in the global batch whatever the number of devices.
    np.testing.assert_array_equal(one["infrared"]["slot"][0], np.arange(8, 12))


@pytest.mark.parametrize("devices", [2, 4])
def test_all_images_of_an_identity_are_on_one_device(images, devices):
    sampler = IdentitySampler(images, seed=3, identities=4, images=(2, 1))
    for batch in training_batches(sampler, **SIZE, start=0, stop=4, devices=devices):
        labels = np.concatenate([batch[modality]["label"] for modality in MODALITIES], axis=1)
        of_devices = [set(row.tolist()) for row in labels]
        assert sum(map(len, of_devices)) == len(set.union(*of_devices)) == 4


def test_remainder_of_an_evaluation_batch(images):
    sizes = [len(batch) for batch in in_order(images, np.arange(7), **SIZE, batch=3)]
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_decoding_and_resizing_agree_with_pillow(form):
    rng = np.random.default_rng(1)
    pixels = smooth(rng, 61, 37)
    examples = [{"image": encode(pixels, form), "identity": "0", "camera": 1, "modality": 0, "path": "0"}]
    images = image_set.from_examples(examples)
    (same,) = decoded(images, [np.array([0], np.int32)], height=61, width=37, batch=1)
    with Image.open(io.BytesIO(images.images[0])) as image:
        np.testing.assert_array_equal(same[0], np.asarray(image))
        expected = np.asarray(image.resize((12, 24), Image.Resampling.LANCZOS)).astype(int)
    (resized,) = decoded(images, [np.array([0], np.int32)], height=24, width=12, batch=1)
    # Pillow rounds between the two passes of its filter.
    assert np.abs(resized[0].astype(int) - expected).max() <= 2


def test_gray_files_become_three_channels():
    gray = np.arange(24 * 12, dtype=np.uint8).reshape(24, 12)
    examples = [{"image": encode(gray), "identity": "0", "camera": 1, "modality": 1, "path": "0"}]
    (batch,) = in_order(image_set.from_examples(examples), np.array([0]), **SIZE, batch=1)
    np.testing.assert_array_equal(batch[0], np.repeat(gray[..., None], 3, axis=-1))


@pytest.mark.parametrize("room", [1, 3, 100])
def test_kept_images_are_those_of_the_files(images, room):
    sampler = IdentitySampler(images, seed=0, identities=4, images=(2, 2))
    small = dict(height=12, width=6, start=0, stop=8)  # one resize per image, four times as many uses
    plain = training_batches(sampler, **small)
    kept = training_batches(sampler, **small, keep_bytes=room * 12 * 6 * 3)
    for expected, batch in zip(plain, kept, strict=True):
        for modality in MODALITIES:
            np.testing.assert_array_equal(batch[modality]["image"], expected[modality]["image"])


@pytest.mark.parametrize(
    ("room", "again"),
    [(1, [5, 0, 7, 0, 7, 9, 9]), (3, [5, 0, 7, 9, 9]), (100, [5, 0, 7, 9])],
)
def test_an_image_is_read_once_if_there_was_room_to_keep_it(room, again):
    calls = []

    def read(position):
        def pixels(number):
            calls.append(int(number))
            return np.full((2, 2, 3), number, np.uint8)

        return tf.numpy_function(pixels, [position], tf.uint8)

    positions = [5, 0, 7, 5, 0, 7, 9, 9]
    given = tf.data.Dataset.from_tensor_slices(positions).map(_remembering(read, limit=room))
    np.testing.assert_array_equal([pixels[0, 0, 0] for pixels in given.as_numpy_iterator()], positions)
    assert calls == again
