"""The builder for one's own photographs, from folder to ImageSet."""

import itertools
import os
import shutil
import socket
import tempfile

import numpy as np
import pytest
from helpers import sets
from helpers.sets import load_split
from helpers.trees import draw_folder_tree
from PIL import Image

from jax_mspac.data import folder, images, listing
from jax_mspac.data.data_set import ImageFile
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.splits import split_identities
from jax_mspac.errors import UserError


def prepared(tmp_path, **options):
    builder = sets.build("folder", source=str(tmp_path / "photos"), data_dir=str(tmp_path / "tfds"), **options)
    builder.download_and_prepare()
    return builder


def set_of(**options) -> ImageSet:
    builder = sets.build("folder", **options)
    builder.download_and_prepare()
    return all_splits(builder)


def all_splits(builder) -> ImageSet:
    return load_split(builder, "+".join(builder.info.splits))


@pytest.fixture
def root(tmp_path):
    return draw_folder_tree(tmp_path / "photos")


def test_every_image_arrives_once_with_its_labels(root, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    image_set = all_splits(prepared(tmp_path))
    expected = sorted(file.relative_to(root).as_posix() for file in root.rglob("*.png"))
    assert image_set.paths.tolist() == expected
    assert image_set.identity_names == ("anna", "ben", "carl", "dora", "emil")
    for i, path in enumerate(expected):
        top, identity, _ = path.split("/")
        assert image_set.images[i] == (root / path).read_bytes()
        assert image_set.identity_names[image_set.identities[i]] == identity
        assert (image_set.cameras[i], image_set.modalities[i]) == ((1, 0) if top == "rgb" else (2, 1))


def test_splits_share_no_identity_and_depend_on_the_seed_alone(root, tmp_path):
    def test_names(seed):
        builder = prepared(tmp_path, test_fraction=0.4, seed=seed)
        train, test = load_split(builder, "train"), load_split(builder, "test")
        assert train.num_identities == 3 and test.num_identities == 2
        assert not set(train.identity_names) & set(test.identity_names)
        return test.identity_names

    first = test_names(0)
    shutil.rmtree(tmp_path / "tfds")
    assert test_names(0) == first
    assert any(test_names(seed) != first for seed in (1, 2, 3))


def test_named_test_identities_and_a_val_share(root, tmp_path):
    (tmp_path / "test.txt").write_text("dora\n\n  anna \n")
    draw_folder_tree(root, identities=("finn",))
    builder = prepared(tmp_path, test_identities=str(tmp_path / "test.txt"), val_fraction=0.5)
    assert load_split(builder, "test").identity_names == ("anna", "dora")
    assert load_split(builder, "val").num_identities == load_split(builder, "train").num_identities == 2
    assert all_splits(builder).num_identities == 6


def test_identities_of_one_modality_are_only_trained_on(root, tmp_path):
    shutil.rmtree(root / "ir" / "carl")
    builder = prepared(tmp_path)
    assert "carl" in load_split(builder, "train").identity_names
    warning = builder.builder_config.found.warnings[0]
    assert f"{root}: 1 of 5 identities have images of one modality only (carl)" in warning
    assert "train" not in prepared(tmp_path, test_fraction=1.0).info.splits


def test_no_draw_puts_an_identity_of_one_modality_into_test():
    photographs = [
        ImageFile(f"{modality}/{identity}/0.png", identity, modality, modality)
        for identity, modality in [
            *itertools.product("abcdef", ("visible", "infrared")),
            ("x", "visible"),
            ("y", "infrared"),
        ]
    ]
    for seed in range(30):
        splits, problems = split_identities(
            photographs, test_names=None, test_fraction=0.33, val_fraction=0.33, seed=seed
        )
        assert not problems
        assert {split: len(names) for split, names in splits.items()} == {"train": 4, "val": 2, "test": 2}
        assert splits["train"] >= {"x", "y"}
        assert frozenset.union(*splits.values()) == set("abcdefxy")


def test_camera_level_numbers_the_union_of_names(tmp_path):
    draw_folder_tree(tmp_path / "photos", tops=("rgb",), cameras=("north", "east"))
    draw_folder_tree(tmp_path / "photos", tops=("ir",), cameras=("night",))
    builder = prepared(tmp_path)
    assert builder.info.metadata["cameras"] == ["east", "night", "north"]
    image_set = all_splits(builder)
    for camera, path in zip(image_set.cameras, image_set.paths, strict=True):
        assert ["east", "night", "north"][camera - 1] in path


def test_upper_case_suffixes_count_and_clutter_does_not(tmp_path):
    root = draw_folder_tree(tmp_path / "photos", suffix=".JPG")
    for name in ("Thumbs.db", ".DS_Store", "._1.jpg", "notes.txt"):
        (root / "rgb" / "anna" / name).write_bytes(b"clutter")
    (root / "ir" / ".cache" / "deep" / "er").mkdir(parents=True)
    assert len(all_splits(prepared(tmp_path))) == 20


@pytest.mark.parametrize("suffix", ["avif", "j2k", "jp2", "tga", "jpe", "dib", "pnm", "pbm", "pcx", "sgi", "apng"])
def test_less_common_formats_count_and_keep_their_pixels(tmp_path, suffix):
    pixels = np.stack([*np.mgrid[:240:8, :240:8], np.full((30, 30), 90)], -1).astype(np.uint8)
    path = tmp_path / "photos" / f"1.{suffix.upper()}"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    assert [file.path for file in listing.walk(tmp_path, ["photos"], depth=0).images] == [f"photos/{path.name}"]
    difference = images.read_file(path)[1].astype(int) - pixels
    assert abs(difference).mean() < 4


@pytest.mark.parametrize(("cameras", "names"), [(("",), ["rgb", "ir"]), (("a",), ["a", "a-ir"])])
def test_simulated_from_one_camera_takes_every_second_image(tmp_path, cameras, names):
    root = draw_folder_tree(tmp_path / "photos", tops=("rgb",), cameras=cameras, images=3)
    builder = prepared(tmp_path, simulate_infrared=True)
    assert builder.info.metadata["simulated_infrared"] is True
    assert builder.info.metadata["cameras"] == names
    image_set = all_splits(builder)
    assert len(image_set) == len(set(image_set.paths)) == 15
    for i, path in enumerate(image_set.paths):
        infrared = path.endswith("1.png")
        assert image_set.modalities[i] == infrared
        assert image_set.cameras[i] == 1 + infrared
        pixels, source = images.read_rgb(image_set.images[i]), images.read_rgb(root / path)
        assert (pixels == pixels[..., :1]).all() == infrared
        assert (pixels == source).all() != infrared


def test_simulated_from_several_cameras_takes_every_second_camera(tmp_path):
    draw_folder_tree(tmp_path / "photos", tops=("rgb",), cameras=("a", "b", "c"))
    builder = prepared(tmp_path, simulate_infrared=True)
    image_set = all_splits(builder)
    assert builder.info.metadata["cameras"] == ["a", "b-ir", "c"]
    for path, camera, modality in zip(image_set.paths, image_set.cameras, image_set.modalities, strict=True):
        assert modality == ("/b/" in path)
        assert camera == 1 + ["a", "b", "c"].index(path.split("/")[2])


def test_simulated_images_repeat_and_follow_the_seed(tmp_path):
    draw_folder_tree(tmp_path / "photos", tops=("rgb",))

    def infrared(seed):
        image_set = all_splits(prepared(tmp_path, simulate_infrared=True, seed=seed))
        return image_set.images[image_set.modalities == 1].tolist()

    first = infrared(0)
    assert len(set(first)) == len(first) == 5
    shutil.rmtree(tmp_path / "tfds")
    assert infrared(0) == first
    assert infrared(1) != first


def test_simulated_from_the_infrared_folder_leaves_the_visible_side_whole(tmp_path):
    root = draw_folder_tree(tmp_path / "photos", tops=("camera1", "camera2"))
    image_set = all_splits(prepared(tmp_path, rgb="camera1", ir="camera2", simulate_infrared=True))
    assert len(image_set) == 20
    for i, path in enumerate(image_set.paths):
        derived = path.startswith("camera2")
        assert (image_set.images[i] == (root / path).read_bytes()) != derived
        assert (image_set.cameras[i], image_set.modalities[i]) == (1 + derived, derived)


def test_real_photographs(reference_data, tmp_path):
    source = reference_data / "pku_reid"
    builder = sets.build(
        "folder", source=str(source), data_dir=str(tmp_path), rgb="camera1", ir="camera2", simulate_infrared=True
    )
    builder.download_and_prepare()
    train, test = load_split(builder, "train"), load_split(builder, "test")
    assert (train.num_identities, test.num_identities) == (30, 20)
    assert (len(train), len(test)) == (480, 320)
    for image_set in (train, test):
        assert (np.bincount(image_set.identities, image_set.modalities) == 8).all()
        visible = np.flatnonzero(image_set.modalities == 0)[0]
        assert image_set.images[visible] == (source / image_set.paths[visible]).read_bytes()


def test_any_change_is_another_set(root, tmp_path):
    def name(**options):
        return sets.build("folder", source=str(root), data_dir=str(tmp_path / "tfds"), **options).builder_config.name

    names = [name(), name(seed=1), name(test_fraction=0.6), name(simulate_infrared=True)]
    assert name() == names[0]
    file = root / "rgb" / "anna" / "0.png"
    os.utime(file, ns=(0, 0))
    names.append(name())
    file.rename(file.with_name("9.png"))
    names.append(name())
    shutil.copytree(root, tmp_path / "copy")
    names.append(
        sets.build("folder", source=str(tmp_path / "copy"), data_dir=str(tmp_path / "tfds")).builder_config.name
    )
    for test_names in ("anna\nben\n", "anna\ncarl\n"):
        (tmp_path / "test.txt").write_text(test_names)
        names.append(name(test_identities=str(tmp_path / "test.txt")))
    assert len(set(names)) == len(names)


def test_a_changed_image_is_prepared_anew(root, tmp_path):
    before = all_splits(prepared(tmp_path))
    Image.new("RGB", (5, 7), "red").save(root / "rgb" / "anna" / "0.png")
    after = all_splits(prepared(tmp_path))
    changed = [path for path, a, b in zip(before.paths, before.images, after.images, strict=True) if a != b]
    assert changed == ["rgb/anna/0.png"]


def test_problems_are_reported_together_and_nothing_is_prepared(root, tmp_path):
    (root / "rgb" / "anna" / "0.png").write_bytes(b"")
    (root / "ir" / "ben" / "1.png").write_bytes(b"no image")
    (root / "rgb" / "zoe").mkdir()
    (root / "rgb" / "ben" / "cam" / "deep").mkdir(parents=True)
    shutil.copy(root / "rgb" / "carl" / "0.png", root / "rgb" / "stray.png")
    (tmp_path / "test.txt").write_text("anna\nnobody\n")
    builder = sets.build(
        "folder", source=str(root), data_dir=str(tmp_path / "tfds"), test_identities=str(tmp_path / "test.txt")
    )
    with pytest.raises(UserError) as caught:
        builder.download_and_prepare()
    for part in (
        "rgb/anna/0.png: the file is empty",
        "ir/ben/1.png: cannot be read as an image",
        "identity zoe: there is no image",
        "rgb/ben/cam/deep: lies deeper",
        "rgb/stray.png: lies outside",
        "no such folders: nobody",
        "1 for test",
    ):
        assert part in str(caught.value)
    assert not [file for file in (tmp_path / "tfds").rglob("*") if file.is_file()]


def test_long_lists_of_broken_images_end_in_a_count(tmp_path):
    root = draw_folder_tree(tmp_path / "photos", images=3)
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        prepared(tmp_path)
    assert str(caught.value).count("the file is empty") == 20
    assert "... and 10 more" in str(caught.value)


def test_an_image_that_breaks_while_preparing_leaves_no_set_behind(root, tmp_path, monkeypatch):
    last = root / "rgb" / "emil" / "1.png"
    whole = last.read_bytes()
    last.write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(folder.checks, "check", lambda found, **_: None)
        with pytest.raises(UserError, match="emil"):
            prepared(tmp_path)
    with pytest.raises(UserError, match="emil"):
        prepared(tmp_path)
    last.write_bytes(whole)
    assert len(all_splits(prepared(tmp_path))) == 20


def test_missing_folders_are_explained(root, tmp_path):
    def message(**options):
        with pytest.raises(UserError) as caught:
            sets.build("folder", data_dir=str(tmp_path / "tfds"), **options)
        return str(caught.value)

    absent = message(source=str(tmp_path / "absent"))
    for part in (str(tmp_path / "absent"), "no such folder", "<identity>/<image>", "configs/demo.py"):
        assert part in absent
    assert "no folder with the images is named; --source" in message(source="")
    other = message(source=str(root), rgb="camera1", ir="camera2")
    assert "no folder camera1 and no folder camera2" in other and "ir, rgb" in other
    assert "two different folders" in message(source=str(root), ir="rgb")
    (tmp_path / "empty" / "rgb").mkdir(parents=True)
    assert "no image found" in message(source=str(tmp_path / "empty"), simulate_infrared=True)


def test_impossible_options_are_explained(root, tmp_path):
    def message(**options):
        with pytest.raises(UserError) as caught:
            sets.build("folder", source=str(root), data_dir=str(tmp_path / "tfds"), **options)
        return str(caught.value)

    assert "from 0 to 1" in message(test_fraction=0.7, val_fraction=0.4)
    assert "from 0 to 1" in message(test_fraction=-0.1)
    assert "absent.txt" in message(test_identities=str(tmp_path / "absent.txt"))
    (tmp_path / "blank.txt").write_text("\n")
    assert "names no identity" in message(test_identities=str(tmp_path / "blank.txt"))


def test_too_few_identities_for_the_split(tmp_path):
    draw_folder_tree(tmp_path / "photos", identities=("anna", "ben", "carl"))
    with pytest.raises(UserError, match="2 for train, 1 for test"):
        prepared(tmp_path)
    assert prepared(tmp_path, test_fraction=1.0).info.splits["test"].num_examples == 12


def test_missing_split_is_named(root, tmp_path):
    with pytest.raises(UserError, match="split val: folder has only"):
        load_split(prepared(tmp_path), "train+val")


def test_identities_that_hold_the_modalities_are_the_same_set(tmp_path):
    straight = draw_folder_tree(tmp_path / "straight", images=2)
    for archive in ("turned", "unpacked/archive"):
        for file in straight.rglob("*.png"):
            top, identity, name = file.relative_to(straight).parts
            place = tmp_path / archive / identity / top
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place / name)
    one = set_of(source=str(straight), data_dir=str(tmp_path / "tfds"))
    for root in ("turned", "unpacked"):
        two = set_of(source=str(tmp_path / root), data_dir=str(tmp_path / "tfds"))
        rows = [
            sorted(zip(s.images, (s.identity_names[i] for i in s.identities), s.cameras, s.modalities, strict=True))
            for s in (one, two)
        ]
        assert rows[0] == rows[1] and len(rows[0]) == 20
        assert two.paths[0] == "anna/ir/0.png"
    (tmp_path / "turned" / "zoe" / "rgb").mkdir(parents=True)
    with pytest.raises(UserError, match="identity zoe: there is no image in its folder"):
        set_of(source=str(tmp_path / "turned"), data_dir=str(tmp_path / "anew"))


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("market1501", ("0002_c1s1_000451_03.jpg", "0002", "1")),
        ("identity_camera", ("0001_c03_0005.jpg", "0001", "03")),
        ("identity_camera", ("17_6_5.png", "17", "6")),
        (r"(?P<camera>\d)-(?P<identity>\w+)", ("3-anna.png", "anna", "3")),
        (r"(?P<identity>[a-z]+)", ("anna1.png", "anna", "rgb")),
    ],
)
def test_flat_folders_are_read_by_the_names_of_their_files(pattern, names, tmp_path):
    name, identity, camera = names
    found = listing.Listing([listing.File(f"rgb/{name}", 1, 1), listing.File("rgb/below/.x", 1, 1)], [], [])
    images, problems = folder.matched(found, folder._compiled(pattern), rgb="rgb", ir="ir")
    assert images == [ImageFile(f"rgb/{name}", identity, camera, "visible")]
    assert len(problems) == 1 and "rgb/below/.x: its name does not fit config.data.pattern" in problems[0]


def test_a_flat_set_is_prepared_and_impossible_patterns_are_named(tmp_path):
    straight = draw_folder_tree(tmp_path / "straight", images=2)
    for file in straight.rglob("*.png"):
        top, identity, name = file.relative_to(straight).parts
        (tmp_path / "flat" / top).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "flat" / top / f"{identity}_{1 if top == 'rgb' else 2}_{name}")
    options = {"source": str(tmp_path / "flat"), "data_dir": str(tmp_path / "tfds")}
    flat = set_of(pattern="identity_camera", **options)
    assert len(flat) == 20 and set(flat.identity_names) == {"anna", "ben", "carl", "dora", "emil"}
    assert set(flat.cameras) == {1, 2}
    for pattern in ("(", "(?P<camera>.)"):
        with pytest.raises(UserError, match=r"config.data.pattern is .*expected market1501, identity_camera"):
            set_of(pattern=pattern, **options)


def test_no_folder_is_left_behind(root, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    prepared(tmp_path)
    prepared(tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []
