"""The LLCM builder on small trees in its layout."""

import shutil

import pytest
from helpers import sets
from helpers.sets import PROTOCOLS, load_split
from helpers.trees import draw_llcm_tree

from jax_mspac.data import llcm
from jax_mspac.errors import UserError


def build(root, tmp_path):
    return sets.build("llcm", source=str(root), data_dir=str(tmp_path / "tfds"))


def prepared(root, tmp_path):
    builder = build(root, tmp_path)
    builder.download_and_prepare()
    return builder


def problems(root, tmp_path):
    with pytest.raises(UserError) as caught:
        prepared(root, tmp_path)
    assert not [file for file in (tmp_path / "tfds").rglob("*") if file.is_file()]
    return str(caught.value)


@pytest.fixture
def root(tmp_path):
    return draw_llcm_tree(tmp_path / "llcm")


def test_splits_hold_the_original_bytes_and_labels(root, tmp_path):
    builder = prepared(root, tmp_path)
    for split, names in (("train", ("0002", "0005", "0009")), ("test", ("0004", "0006"))):
        image_set = load_split(builder, split)
        assert image_set.identity_names == names
        expected = sorted(
            file.relative_to(root).as_posix()
            for top in (("vis", "nir") if split == "train" else ("test_vis", "test_nir"))
            for file in (root / top).rglob("*.jpg")
        )
        assert image_set.paths.tolist() == expected
        for i, path in enumerate(expected):
            identity, camera, _, _, modality = path.split("/")[-1].removesuffix(".jpg").split("_")
            assert image_set.images[i] == (root / path).read_bytes()
            assert image_set.cameras[i] == int(camera[1:])
            assert image_set.modalities[i] == (modality == "nir")
            assert names[image_set.identities[i]] == identity
    assert builder.info.metadata["simulated_infrared"] is False


def test_gallery_has_one_image_per_identity_and_camera(root, tmp_path):
    test = load_split(prepared(root, tmp_path), "test")
    sizes = {
        protocol.direction: {(len(trial.queries), len(trial.gallery)) for trial in protocol.trials}
        for protocol in PROTOCOLS["llcm"](test.identities, test.cameras, test.modalities)
    }
    # 2 identities, 2 images: 3 visible cameras, 2 near-infrared ones
    assert sizes == {"visible->infrared": {(12, 4)}, "infrared->visible": {(8, 6)}}


def test_expected_counts_add_up():
    total = sum(counts[f"{m} images"] for counts in llcm.EXPECTED_COUNTS.values() for m in ("visible", "infrared"))
    assert total == 46767
    assert sum(counts["identities"] for counts in llcm.EXPECTED_COUNTS.values()) == 1064


def test_one_level_too_high_stray_files_and_suffixes(root, tmp_path):
    for file in [*root.glob("vis/*/*.jpg"), *root.glob("test_nir/*/*/*.jpg")]:
        file.rename(file.with_suffix(".JPG"))
    (root / "vis" / "0002" / "Thumbs.db").write_bytes(b"clutter")
    (root / "test_vis" / "backup" / "0004").mkdir(parents=True)
    (root / "test_vis" / "backup" / "0004" / "0004_c01.jpg").write_bytes(b"broken, but nobody asks for it")
    builder = prepared(tmp_path, tmp_path)
    assert (len(load_split(builder, "train")), len(load_split(builder, "test"))) == (30, 20)


def test_a_name_without_camera_is_of_an_unknown_one(root, tmp_path):
    lines = (root / "idx" / "train_nir.txt").read_text()
    old = root / lines.split()[0]
    old.rename(old.with_name("a.jpg"))
    (root / "idx" / "train_nir.txt").write_text(lines.replace(old.name, "a.jpg"))
    train = load_split(prepared(root, tmp_path), "train")
    assert train.cameras[train.paths.tolist().index("nir/0002/a.jpg")] == llcm.UNKNOWN_CAMERA
    assert set(train.cameras) == {1, 3, 9, llcm.UNKNOWN_CAMERA}


def test_identities_in_no_list_are_left_out(root, tmp_path):
    (root / "idx" / "test_id.txt").write_text("4\n")
    assert load_split(prepared(root, tmp_path), "test").identity_names == ("0004",)


def test_small_and_other_trees_never_mix(root, tmp_path):
    names = {build(root, tmp_path).builder_config.name, build(root, tmp_path).builder_config.name}
    assert len(names) == 1
    names.add(build(draw_llcm_tree(tmp_path / "b"), tmp_path).builder_config.name)
    (root / "idx" / "test_id.txt").write_text("4\n")
    names.add(build(root, tmp_path).builder_config.name)
    next(root.glob("test_nir/cam1/0006/*")).unlink()
    names.add(build(root, tmp_path).builder_config.name)
    assert len(names) == 4


def test_problems_are_reported_together(root, tmp_path):
    (root / "idx" / "train_nir.txt").unlink()
    (root / "idx" / "test_id.txt").write_text("4, 6, 77, 5\n")
    shutil.rmtree(root / "nir")
    empty, truncated = sorted(root.glob("test_vis/cam1/0004/*"))
    empty.write_bytes(b"")
    truncated.write_bytes(truncated.read_bytes()[:300])
    text = problems(root, tmp_path)
    for part in (
        f"{root} cannot be prepared",
        "nir: no such folder",
        "idx/train_nir.txt: no such file",
        "idx/test_id.txt: identity 0077 has no image in test_vis and test_nir",
        "idx/test_id.txt: identity 0005 is in train and in test",
        f"{empty}: the file is empty",
        f"{truncated}: cannot be read as an image",
        "Expected in it: {vis,nir}",
    ):
        assert part in text


@pytest.mark.parametrize(
    "line, expected",
    [
        ("vis/../../0001/a.jpg 0", "idx/train_vis.txt, line 1: ../0001/a.jpg leaves the folder"),
        ("test_vis/cam1/0004/a.jpg 0", "is not of the form vis/<identity number>/<image>"),
        ("vis/0002/absent.jpg 0", "line 1: there is no image vis/0002/absent.jpg"),
        ("vis/0002/absent.jpg zero", "line 1: expected `<relative path> <label>`"),
    ],
)
def test_damaged_lines_are_named(root, tmp_path, line, expected):
    list_file = root / "idx" / "train_vis.txt"
    list_file.write_text(line + "\n" + list_file.read_text().split("\n", 1)[1])
    assert expected in problems(root, tmp_path)


def test_gap_in_the_labels(root, tmp_path):
    for modality in ("vis", "nir"):
        list_file = root / "idx" / f"train_{modality}.txt"
        lines = list_file.read_text().splitlines(keepends=True)
        list_file.write_text("".join(line for line in lines if "/0005/" not in line))
    assert "idx/train_vis.txt and idx/train_nir.txt: no line has a label between 0 and 2" in problems(root, tmp_path)


@pytest.mark.parametrize("data, expected", [("", "the list is empty"), ("one,two", "not a list of identity numbers")])
def test_unusable_test_list(root, tmp_path, data, expected):
    (root / "idx" / "test_id.txt").write_text(data)
    assert f"idx/test_id.txt: {expected}" in problems(root, tmp_path)


def test_missing_data_says_where_to_ask(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "folders" / "vis" / "0001").mkdir(parents=True)
    for folder in ("absent", "other", "folders"):
        with pytest.raises(UserError) as caught:
            build(tmp_path / folder, tmp_path)
        for part in (str(tmp_path / folder), "github.com/ZYK100/LLCM", "idx/{train_vis,", "configs/demo.py"):
            assert part in str(caught.value)
