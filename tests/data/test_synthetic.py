import collections
import io
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers import sets
from PIL import Image

from jax_mspac.demo.appearance import sample_person
from jax_mspac.demo.cameras import CAMERAS
from jax_mspac.demo.rendering import image_rng, render
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES

TINY = {
    "seed": 3,
    "train_identities": 3,
    "val_identities": 1,
    "test_identities": 2,
    "images_per_camera": 2,
    "height": 32,
    "width": 16,
}
IDENTITIES = {"train": ["0000", "0001", "0002"], "val": ["0003"], "test": ["0004", "0005"]}


def examples(builder, split):
    decoders = {"image": tfds.decode.SkipDecoding()}
    return list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)))


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    def refuse(*arguments, **options):
        raise AssertionError(f"the demo data reached for the network: {arguments}")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("getaddrinfo", "create_connection"):
            patch.setattr(socket, name, refuse)
        patch.setattr(socket.socket, "connect", refuse)
        builder = sets.build("synthetic", data_dir=str(tmp_path_factory.mktemp("data")), **TINY)
        builder.download_and_prepare()
    return builder


@pytest.mark.parametrize("split", IDENTITIES)
def test_splits_hold_their_own_identities_before_every_camera(builder, split):
    found = examples(builder, split)
    assert builder.info.splits[split].num_examples == len(found) == 10 * len(IDENTITIES[split])
    counts = collections.Counter((e["identity"].decode(), int(e["camera"])) for e in found)
    assert counts == {(name, camera): 2 for name in IDENTITIES[split] for camera in (1, 2, 3, 4, 5)}
    assert all(MODALITIES[e["modality"]] == ("visible" if e["camera"] <= 3 else "infrared") for e in found)


def test_paths_name_split_modality_identity_camera_and_image_in_the_order_of_drawing(builder):
    paths = [e["path"].decode() for e in examples(builder, "test")]
    assert len(set(paths)) == 20
    assert paths[:2] == ["test/rgb/0004/cam1_00.png", "test/rgb/0004/cam1_01.png"]
    assert paths[-1] == "test/ir/0005/cam5_01.png"


def test_stored_images_are_the_rendered_ones(builder):
    for example in examples(builder, "test")[::3]:
        camera, index = CAMERAS[example["camera"] - 1], int(example["path"].decode()[-6:-4])
        identity = int(example["identity"])
        stored = np.asarray(Image.open(io.BytesIO(example["image"])))
        rng = image_rng(3, identity, camera.number, index)
        assert np.array_equal(stored, render(sample_person(3, identity), camera, rng, height=32, width=16))


def test_a_second_copy_is_the_same_to_the_byte(builder, tmp_path):
    again = sets.build("synthetic", data_dir=str(tmp_path), **TINY)
    again.download_and_prepare()
    for first, second in zip(examples(builder, "train"), examples(again, "train"), strict=True):
        assert first == second


def test_every_setting_has_a_folder_of_its_own(tmp_path):
    changed = [TINY] + [TINY | {name: value + 1} for name, value in TINY.items()]
    assert len({sets.build("synthetic", data_dir=str(tmp_path), **options).data_dir for options in changed}) == len(
        changed
    )


@pytest.mark.parametrize("name, value", [("seed", -1), ("test_identities", 0), ("width", 4), ("height", 96.0)])
def test_settings_out_of_range_are_reported_by_name(tmp_path, name, value):
    with pytest.raises(UserError, match=f"{name}.*{value}"):
        sets.build("synthetic", data_dir=str(tmp_path), **TINY | {name: value})
