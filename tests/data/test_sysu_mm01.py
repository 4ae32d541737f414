"""The SYSU-MM01 builder on small trees in its layout."""

import shutil

import numpy as np
import pytest
import scipy.io
from helpers import sets
from helpers.sets import load_split
from helpers.trees import draw_sysu_tree

from jax_mspac.data import sysu_mm01
from jax_mspac.errors import UserError


def build(root, tmp_path):
    return sets.build("sysu_mm01", source=str(root), data_dir=str(tmp_path / "tfds"))


def prepared(root, tmp_path):
    builder = build(root, tmp_path)
    builder.download_and_prepare()
    return builder


@pytest.fixture
def root(tmp_path):
    return draw_sysu_tree(tmp_path / "sysu")


def test_splits_hold_the_original_bytes_and_labels(root, tmp_path):
    builder = prepared(root, tmp_path)
    names = {"train": ("0001", "0002", "0005"), "val": ("0003",), "test": ("0004", "0006")}
    for split, identity_names in names.items():
        image_set = load_split(builder, split)
        assert image_set.identity_names == identity_names
        expected = sorted(
            file.relative_to(root).as_posix() for name in identity_names for file in root.glob(f"cam*/{name}/*.jpg")
        )
        assert image_set.paths.tolist() == expected
        for i, path in enumerate(expected):
            camera, identity, _ = path.split("/")
            assert image_set.images[i] == (root / path).read_bytes()
            assert image_set.cameras[i] == int(camera[-1])
            assert image_set.modalities[i] == (camera in ("cam3", "cam6"))
            assert identity_names[image_set.identities[i]] == identity
    assert load_split(builder, "train+val").identity_names == ("0001", "0002", "0003", "0005")
    assert builder.info.metadata["simulated_infrared"] is False


def test_counts(root, tmp_path):
    builder = prepared(root, tmp_path)
    train, val = (sysu_mm01.counts(load_split(builder, split)) for split in ("train", "val"))
    assert (train["identities"], train["visible images"], train["infrared images"]) == (3, 24, 12)
    assert (val["identities"], val["visible images"], val["infrared images"]) == (1, 4, 2)
    assert [val[f"images of camera {camera}"] for camera in range(1, 7)] == [0, 0, 2, 2, 2, 0]
    assert [val[f"identities of camera {camera}"] for camera in range(1, 7)] == [0, 0, 1, 1, 1, 0]
    for expected in sysu_mm01.EXPECTED_COUNTS.values():
        assert expected.keys() <= train.keys()


def test_expected_counts_add_up():
    expected = sysu_mm01.EXPECTED_COUNTS
    train, test = expected["train"], expected["test"]
    assert sum(train[f"images of camera {camera}"] for camera in (1, 2, 4, 5)) == train["visible images"]
    for split in (train, test):
        assert split["images of camera 3"] + split["images of camera 6"] == split["infrared images"]
    assert sum(split["identities"] for split in expected.values()) == 491
    assert train["visible images"] + expected["val"]["visible images"] == 22258
    assert train["infrared images"] + expected["val"]["infrared images"] == 11909


def test_public_identity_lists(reference_data, tmp_path):
    (tmp_path / "exp").mkdir()
    for split in ("train", "val", "test"):
        shutil.copy(reference_data / "sysu_mm01" / f"{split}_id.txt", tmp_path / "exp")
    split_of, problems = sysu_mm01.read_splits(tmp_path)
    assert not problems
    for split, expected in sysu_mm01.EXPECTED_COUNTS.items():
        assert list(split_of.values()).count(split) == expected["identities"]


def test_matlab_lists_give_the_same_set(root, tmp_path):
    text = load_split(prepared(root, tmp_path), "train")
    for split, numbers in (("train", [1, 2, 5]), ("val", [3]), ("test", [4, 6])):
        (root / "exp" / f"{split}_id.txt").unlink()
        scipy.io.savemat(root / "exp" / f"{split}_id.mat", {"id": np.array([numbers], np.uint16)})
    assert load_split(prepared(root, tmp_path), "train").paths.tolist() == text.paths.tolist()


def test_one_level_too_high_and_upper_case_suffixes(root, tmp_path):
    for file in root.glob("cam1/*/*.jpg"):
        file.rename(file.with_suffix(".JPG"))
    (root / "cam1" / "0001" / "Thumbs.db").write_bytes(b"clutter")
    image_set = load_split(prepared(tmp_path, tmp_path), "train+val+test")
    assert len(image_set) == 66
    assert image_set.paths[0] == "cam1/0001/0001.JPG"


def test_identities_in_no_list_are_left_out(root, tmp_path):
    (root / "exp" / "test_id.txt").write_text("4\n")
    (root / "cam2" / "0006" / "0001.jpg").write_bytes(b"broken, but nobody asks for it")
    assert load_split(prepared(root, tmp_path), "test").identity_names == ("0004",)


def test_small_and_other_trees_never_mix(root, tmp_path):
    names = {
        build(root, tmp_path).builder_config.name,
        build(draw_sysu_tree(tmp_path / "b"), tmp_path).builder_config.name,
    }
    (root / "exp" / "test_id.txt").write_text("4\n")
    names.add(build(root, tmp_path).builder_config.name)
    (root / "cam1" / "0001" / "0002.jpg").unlink()
    names.add(build(root, tmp_path).builder_config.name)
    assert len(names) == 4
    assert build(root, tmp_path).builder_config.name in names


def test_problems_are_reported_together_and_nothing_is_prepared(root, tmp_path):
    (root / "exp" / "val_id.txt").unlink()
    (root / "exp" / "test_id.txt").write_text("4, 6, 77, 1\n")
    (root / "cam3" / "0004" / "0001.jpg").write_bytes(b"")
    (root / "cam5" / "0002" / "0002.jpg").write_bytes(b"no image")
    shutil.rmtree(root / "cam6")
    builder = build(root, tmp_path)
    with pytest.raises(UserError) as caught:
        builder.download_and_prepare()
    for part in (
        str(root),
        "exp/val_id.txt: no such file",
        "exp/test_id: identity 0077 has no image in any camera",
        "exp/test_id.txt: identity 0001 is in train too; take it out of one list",
        "cam6: no such folder",
        "cam3/0004/0001.jpg: the file is empty",
        "cam5/0002/0002.jpg: cannot be read as an image",
        "Expected in it: cam1 to cam6",
    ):
        assert part in str(caught.value)
    assert not [file for file in (tmp_path / "tfds").rglob("*") if file.is_file()]


@pytest.mark.parametrize("text", ["", "one,two"])
def test_unusable_lists_are_named(root, tmp_path, text):
    (root / "exp" / "train_id.txt").write_text(text)
    with pytest.raises(UserError, match="exp/train_id.txt: "):
        prepared(root, tmp_path)


def test_missing_data_says_where_to_ask(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "cameras" / "cam1").mkdir(parents=True)
    for folder in ("absent", "other", "cameras"):
        with pytest.raises(UserError) as caught:
            build(tmp_path / folder, tmp_path)
        for part in (
            str(tmp_path / folder),
            "github.com/wuancong/SYSU-MM01",
            "exp/{train,val,test}",
            "configs/demo.py",
        ):
            assert part in str(caught.value)
