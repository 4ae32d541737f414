"""The RegDB builder on small trees in its layout."""

import shutil

import numpy as np
import pytest
import scipy.io
from helpers import sets
from helpers.sets import PROTOCOLS, load_split
from helpers.trees import draw_regdb_tree

from jax_mspac.data import images, regdb
from jax_mspac.errors import UserError

TRAIN, TEST = (3, 1, 12), (7, 2, 5)
TRAIN_LISTS = "idx/train_visible_1.txt and idx/train_thermal_1.txt"


def build(root, tmp_path, **options):
    return sets.build("regdb", source=str(root), data_dir=str(tmp_path / "tfds"), **options)


def prepared(root, tmp_path, **options):
    builder = build(root, tmp_path, **options)
    builder.download_and_prepare()
    return builder


def save_matlab(root, train=TRAIN, test=TEST, trials=10):
    """RegDB_split.mat whose first row is the trial of the tree; the other rows swap train and test."""
    rows = [(train, test)] + [(test, train)] * (trials - 1)
    arrays = {name: np.array([row[i] for row in rows], np.uint16) for i, name in enumerate(("TrainIdx", "TestIdx"))}
    scipy.io.savemat(root / "RegDB_split.mat", arrays)


def problems(root, tmp_path, **options):
    with pytest.raises(UserError) as caught:
        prepared(root, tmp_path, **options)
    assert not [file for file in (tmp_path / "tfds").rglob("*") if file.is_file()]
    return str(caught.value)


def replace_line(root, name, number, text):
    lines = (root / "idx" / name).read_text().splitlines()
    lines[number : number + 1] = [] if text is None else [text]
    (root / "idx" / name).write_text("\n".join(lines))


@pytest.fixture
def root(tmp_path):
    return draw_regdb_tree(tmp_path / "regdb")


def test_splits_hold_pixels_and_labels(root, tmp_path):
    builder = prepared(root, tmp_path)
    for split, names in (("train", ("0001", "0003", "0012")), ("test", ("0002", "0005", "0007"))):
        image_set = load_split(builder, split)
        assert image_set.identity_names == names
        expected = sorted(
            file.relative_to(root).as_posix() for name in names for file in root.glob(f"*/{int(name)}/*.bmp")
        )
        assert image_set.paths.tolist() == expected
        for i, path in enumerate(expected):
            top, folder, _ = path.split("/")
            stored = images.read_rgb(image_set.images[i])
            np.testing.assert_array_equal(stored, images.read_rgb(root / path))
            assert (image_set.cameras[i], image_set.modalities[i]) == {"Visible": (1, 0), "Thermal": (2, 1)}[top]
            assert int(names[image_set.identities[i]]) == int(folder)
    assert builder.info.metadata["splits"] == "idx"


def test_both_directions_search_the_whole_other_modality(root, tmp_path):
    test = load_split(prepared(root, tmp_path), "test")
    protocols = PROTOCOLS["regdb"](test.identities, test.cameras, test.modalities)
    for protocol in protocols:
        (trial,) = protocol.trials
        assert len(trial.queries) == len(trial.gallery) == 6
    assert {protocol.direction for protocol in protocols} == {"visible->infrared", "infrared->visible"}


def test_jpeg_and_png_files_are_kept_byte_for_byte(root, tmp_path):
    bmp = next(root.glob("Visible/3/*.bmp"))
    data = images.encode_png(images.read_rgb(bmp))
    bmp.with_suffix(".PNG").write_bytes(data)
    replace_line(root, "train_visible_1.txt", 0, f"{bmp.relative_to(root).with_suffix('.png').as_posix()} 0")
    train = load_split(prepared(root, tmp_path), "train")
    assert train.images[[path.endswith(".PNG") for path in train.paths]].tolist() == [data]


def test_one_level_too_high_stray_files_and_spellings(root, tmp_path):
    for file in root.glob("Thermal/*/*.bmp"):
        file.rename(file.with_suffix(".BMP"))
    (root / "Visible" / "3" / "Thumbs.db").write_bytes(b"clutter")
    (root / "Visible" / "99").mkdir()
    (root / "Visible" / "99" / "unlisted.bmp").write_bytes(b"broken, but nobody asks for it")
    lines = (root / "idx" / "train_visible_1.txt").read_text()
    (root / "idx" / "train_visible_1.txt").write_text("\n" + lines.replace("/", "\\").replace(" ", "\t") + "\r\n\n")
    assert len(load_split(prepared(tmp_path, tmp_path), "train+test")) == 24


def test_matlab_split_gives_the_same_set_where_there_is_no_idx(root, tmp_path):
    lists = {split: load_split(prepared(root, tmp_path), split) for split in ("train", "test")}
    save_matlab(root)
    assert prepared(root, tmp_path).info.metadata["splits"] == "idx"
    shutil.rmtree(root / "idx")
    builder, second = prepared(root, tmp_path), prepared(root, tmp_path, trial=2)
    assert builder.info.metadata["splits"] == "RegDB_split.mat"
    for split, other in (("train", "test"), ("test", "train")):
        assert load_split(builder, split).paths.tolist() == lists[split].paths.tolist()
        assert load_split(builder, split).identity_names == lists[split].identity_names
        assert load_split(second, other).paths.tolist() == lists[split].paths.tolist()


def test_public_matlab_split(reference_data, tmp_path):
    shutil.copy(reference_data / "regdb" / "RegDB_split.mat", tmp_path)
    paths = [f"{top}/{number}/{shot}.bmp" for top in regdb.TOPS for number in range(1, 413) for shot in range(10)]
    seen = set()
    for trial in range(1, 11):
        splits, lines = regdb.read_splits(tmp_path, trial, paths)
        assert not lines
        for split, files in splits.items():
            for modality in ("visible", "infrared"):
                chosen = [p.identity for p in files if p.modality == modality]
                assert len(chosen) == regdb.EXPECTED_COUNTS[split][f"{modality} images"]
                assert len(set(chosen)) == regdb.EXPECTED_COUNTS[split]["identities"]
        seen.add(tuple(splits["train"]))
    assert len(seen) == 10


def test_trials_and_changed_files_never_mix(root, tmp_path):
    for trial in (2, 3):
        for file in list((root / "idx").glob("*_1.txt")):
            shutil.copy(file, file.with_name(file.name.replace("_1.", f"_{trial}.")))
    names = {build(root, tmp_path, trial=trial).builder_config.name for trial in (1, 2, 3)}
    (root / "idx" / "test_visible_3.txt").write_text("changed")
    assert {build(root, tmp_path, trial=trial).builder_config.name for trial in (1, 2)} < names
    names.add(build(root, tmp_path, trial=3).builder_config.name)
    next(root.glob("Visible/3/*")).unlink()
    names.add(build(root, tmp_path).builder_config.name)
    assert len(names) == 5


def test_problems_are_reported_together(root, tmp_path):
    (root / "idx" / "test_visible_1.txt").unlink()
    broken = sorted(root.glob("Thermal/3/*.bmp"))
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:200])
    replace_line(root, "train_visible_1.txt", 0, "Visible/3/absent.bmp 0")
    text = problems(root, tmp_path)
    for part in (
        f"{root} cannot be prepared",
        "idx/test_visible_1.txt: no such file",
        f"{broken[0]}: the file is empty",
        f"{broken[1]}: cannot be read as an image",
        "idx/train_visible_1.txt, line 1: there is no image Visible/3/absent.bmp",
        "Expected in it: Visible/<identity number>/<image>",
    ):
        assert part in text


@pytest.mark.parametrize(
    "line, expected",
    [
        ("../secret/1.bmp 0", "line 1: ../secret/1.bmp leaves the folder"),
        ("Visible/../../secret/1.bmp 0", "line 1: ../secret/1.bmp leaves the folder"),
        ("/etc/passwd 0", "line 1: /etc/passwd leaves the folder"),
        ("Thermal/3/male_front_t_00300_3.bmp 0", "is not of the form Visible/<identity number>/<image>"),
        ("Visible/male_front_v_00300_3.bmp 0", "is not of the form Visible/<identity number>/<image>"),
        ("Visible/3/male_front_v_00300_3.bmp", "line 1: expected `<relative path> <label>`"),
        ("Visible/3/male_front_v_00301_3.bmp 0", "line 2: Visible/3/male_front_v_00301_3.bmp is listed a second"),
        ("Visible/3/male_front_v_00300_3.bmp 1", f"{TRAIN_LISTS}: label 1 is given to the identities 0001, 0003"),
        ("Visible/3/male_front_v_00300_3.bmp 7", f"{TRAIN_LISTS}: identity 0003 has the labels 0, 7"),
        ("Visible/7/male_front_v_00700_7.bmp 0", "idx/*_1.txt: identity 0007 is in train and in test"),
    ],
)
def test_damaged_lines_are_named(root, tmp_path, line, expected):
    replace_line(root, "train_visible_1.txt", 0, line)
    assert expected in problems(root, tmp_path)


def test_gap_in_the_labels(root, tmp_path):
    for top in ("visible", "thermal"):
        for _ in range(2):
            replace_line(root, f"train_{top}_1.txt", 2, None)
    assert f"{TRAIN_LISTS}: no line has a label between 0 and 2" in problems(root, tmp_path)


def test_identity_of_one_modality(root, tmp_path):
    for _ in range(2):
        replace_line(root, "test_thermal_1.txt", 0, None)
    assert "idx/test_thermal_1.txt: identity 0007 is listed in one of them only" in problems(root, tmp_path)


@pytest.mark.parametrize(
    "data, expected",
    [
        ("", "idx/test_thermal_1.txt: the list is empty"),
        (b"\xff\xfe\x00", "idx/test_thermal_1.txt: cannot be read as text"),
    ],
)
def test_unusable_lists_are_named(root, tmp_path, data, expected):
    (root / "idx" / "test_thermal_1.txt").write_bytes(data.encode() if isinstance(data, str) else data)
    assert expected in problems(root, tmp_path)


@pytest.mark.parametrize(
    "arrays, expected",
    [
        (
            {"TrainIdx": np.ones((206, 10), int)},
            "TrainIdx must be 10 rows of different identity numbers from 1, found an array of 206 x 10",
        ),
        ({"TrainIdx": np.full((10, 1), np.nan)}, "TrainIdx must be 10 rows"),
        ({"TrainIdx": np.zeros((10, 1))}, "TrainIdx must be 10 rows"),
        ({"TrainIdx": np.full((10, 2), 3)}, "TrainIdx must be 10 rows of different"),
        (
            {"TrainIdx": np.full((10, 1), 3)},
            "TestIdx must be 10 rows of different identity numbers from 1, found nothing",
        ),
        (
            {"TestIdx": np.full((10, 1), 77)},
            "RegDB_split.mat: identity 0077 of test has no image in Visible; copy the folder Visible/77",
        ),
    ],
)
def test_matlab_split_of_another_shape(root, tmp_path, arrays, expected):
    shutil.rmtree(root / "idx")
    scipy.io.savemat(root / "RegDB_split.mat", arrays)
    assert expected in problems(root, tmp_path)


def test_no_split_at_all_and_a_broken_matlab_file(root, tmp_path):
    shutil.rmtree(root / "idx")
    assert "neither the folder idx nor the file RegDB_split.mat" in problems(root, tmp_path)
    (root / "RegDB_split.mat").write_bytes(b"no matrix" * 50)
    assert "RegDB_split.mat: not a MATLAB file" in problems(root, tmp_path)


@pytest.mark.parametrize("trial", [0, 11])
def test_trials_out_of_range(root, tmp_path, trial):
    with pytest.raises(UserError, match=f"config.data.trial is {trial}: .* 1 to 10"):
        build(root, tmp_path, trial=trial)


def test_missing_data_says_where_to_ask(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "folders" / "Visible" / "1").mkdir(parents=True)
    for folder in ("absent", "other", "folders"):
        with pytest.raises(UserError) as caught:
            build(tmp_path / folder, tmp_path)
        for part in (str(tmp_path / folder), "dm.dongguk.edu", "idx/{train,test}_", "configs/demo.py"):
            assert part in str(caught.value)
