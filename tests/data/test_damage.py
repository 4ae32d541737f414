"""Damage to every layout that shows in folders, names and lists, and how all of it is reported."""

import pathlib
import shutil

import numpy as np
import pytest
import scipy.io
from helpers import sets, trees
from helpers.damage import BUILDERS, IMAGES, TRIAL, build, draw, prepared, problems, the_line
from helpers.sets import load_split
from ml_collections import ConfigDict

from jax_mspac import prepare
from jax_mspac.data import preparation
from jax_mspac.errors import UserError


@pytest.fixture(params=BUILDERS)
def name(request):
    return request.param


@pytest.fixture
def root(name, tmp_path):
    return draw(name, tmp_path / "set")


def test_a_sound_tree_gives_neither_problems_nor_warnings(name, root, tmp_path):
    assert prepared(name, root, tmp_path).builder_config.found.warnings == []


@pytest.mark.parametrize(
    "data, message",
    [(b"", "the file is empty"), (b"no image", "not a known image format"), (None, "cannot be read as an image")],
    ids=["empty", "text", "truncated"],
)
def test_unreadable_images(name, root, tmp_path, data, message):
    file = root / IMAGES[name][0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if data is None else data)
    assert "copy it again" in the_line(problems(name, root, tmp_path), str(file), message)


def test_a_truncated_jpeg_in_a_folder(tmp_path):
    root = trees.draw_folder_tree(tmp_path / "set", images=1, suffix=".jpg")
    file = root / "ir/ben/0.jpg"
    file.write_bytes(file.read_bytes()[:-100])
    assert "copy it again" in the_line(problems("folder", root, tmp_path), str(file), "truncated")


MISSING_LISTS = [
    ("sysu_mm01", "exp/train_id.txt"),
    ("sysu_mm01", "exp/val_id.txt"),
    ("sysu_mm01", "exp/test_id.txt"),
    *[("regdb", f"idx/{split}_{top}_1.txt") for split in ("train", "test") for top in ("visible", "thermal")],
    ("llcm", "idx/train_vis.txt"),
    ("llcm", "idx/train_nir.txt"),
    ("llcm", "idx/test_id.txt"),
]


@pytest.mark.parametrize("name, split_list", MISSING_LISTS)
def test_a_missing_and_an_empty_split_list(name, split_list, root, tmp_path):
    (root / split_list).write_text("")
    assert "copy it again" in the_line(problems(name, root, tmp_path), split_list, "the list is empty")
    (root / split_list).unlink()
    assert "copy it again" in the_line(problems(name, root, tmp_path), split_list, "no such file")


def test_a_missing_list_of_test_identities(tmp_path):
    root = draw("folder", tmp_path / "set")
    with pytest.raises(UserError, match=r"absent\.txt.*one name per line"):
        sets.build("folder", source=str(root), data_dir=None, test_identities=str(tmp_path / "absent.txt"))


@pytest.mark.parametrize(
    "name, text",
    [
        ("sysu_mm01", "exp/test_id: identity 0077 has no image in any camera"),
        ("regdb", "idx/test_visible_1.txt, line 4: there is no image Visible/77/a.bmp"),
        ("llcm", "idx/test_id.txt: identity 0077 has no image in test_vis and test_nir"),
    ],
)
def test_an_identity_without_a_folder(name, text, root, tmp_path):
    added = {"sysu_mm01": ("exp/test_id.txt", ",77"), "llcm": ("idx/test_id.txt", ",77")}
    split_list, line = added.get(name, ("idx/test_visible_1.txt", "Visible/77/a.bmp 3\n"))
    (root / split_list).write_text((root / split_list).read_text().rstrip() + ("\n" if name == "regdb" else "") + line)
    assert "copy i" in the_line(problems(name, root, tmp_path), text).replace("copy its", "copy it")


def test_a_listed_identity_of_a_folder_that_is_not_there(tmp_path):
    root = draw("folder", tmp_path / "set")
    (tmp_path / "test.txt").write_text("\ufeffanna\nben\nnobody\n", encoding="utf-8")
    builder = sets.build(
        "folder", source=str(root), data_dir=str(tmp_path / "tfds"), test_identities=str(tmp_path / "test.txt")
    )
    with pytest.raises(UserError, match="no such folders: nobody"):
        builder.download_and_prepare()


@pytest.mark.parametrize("name", ["regdb", "llcm"])
def test_a_gap_in_the_labels(name, tmp_path):
    root = draw(name, tmp_path / "set")
    lists = ("train_visible_1", "train_thermal_1") if name == "regdb" else ("train_vis", "train_nir")
    for file in (root / "idx" / f"{part}.txt" for part in lists):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.endswith(" 1\n")))
    line = the_line(problems(name, root, tmp_path), "no line has a label between 0 and 2", "copy it again")
    assert all(f"idx/{part}.txt" in line for part in lists)


@pytest.mark.parametrize(
    "array",
    [np.ones((2, 2)), np.array([1.5]), np.array(["a"]), np.zeros((0, 0)), np.array([np.nan])],
    ids=["table", "fractions", "letters", "nothing", "nan"],
)
def test_a_matlab_list_of_another_shape(array, tmp_path):
    root = draw("sysu_mm01", tmp_path / "set")
    (root / "exp/train_id.txt").unlink()
    scipy.io.savemat(root / "exp/train_id.mat", {"id": array})
    the_line(problems("sysu_mm01", root, tmp_path), "exp/train_id.mat", "not a list of identity numbers", "copy it")
    scipy.io.savemat(root / "exp/train_id.mat", {"id": np.array([[1.0], [2.0], [5.0]])})
    assert load_split(prepared("sysu_mm01", root, tmp_path), "train").num_identities == 3


@pytest.mark.parametrize(
    "name, folder, mend",
    [
        ("sysu_mm01", "cam7/0001", "cam1 to cam6"),
        ("sysu_mm01", "cam10/0001", "cam1 to cam6"),
        ("sysu_mm01", "Cam_1/0001", "cam1 to cam6"),
        ("llcm", "test_vis/cam12/0004", "cam1 to cam9"),
        ("llcm", "test_nir/camera1/0004", "cam1 to cam9"),
    ],
)
def test_a_wrong_camera_folder(name, folder, mend, root, tmp_path):
    (root / folder).mkdir(parents=True)
    prepared(name, root, tmp_path)  # without images it is clutter
    shutil.copy(root / IMAGES[name][0], root / folder / "a.jpg")
    camera = (root / folder).parent
    line = the_line(problems(name, root, tmp_path), str(camera), "there is no such camera, but 1 images")
    assert f"rename it to its camera ({mend})" in line


def test_folders_that_are_not_called_like_cameras_are_nobodys_business(tmp_path):
    root = draw("sysu_mm01", tmp_path / "set")
    shutil.copytree(root / "cam1", root / "cam1_backup")
    assert prepared("sysu_mm01", root, tmp_path).builder_config.found.warnings == []


@pytest.mark.parametrize(
    "name, folder", [("sysu_mm01", "cam4"), ("regdb", "Thermal"), ("llcm", "nir"), ("llcm", "test_vis")]
)
def test_a_missing_folder_and_one_in_other_letters(name, folder, root, tmp_path):
    (root / folder).rename(root / folder.upper())
    lines = problems(name, root, tmp_path)
    the_line(lines, f"{root / folder}: no such folder; rename {folder.upper()} to {folder}")
    shutil.rmtree(root / folder.upper())
    the_line(problems(name, root, tmp_path), f"{root / folder}: no such folder; copy it")


def test_a_folder_of_images_below_the_cameras_of_an_identity(tmp_path):
    root = draw("folder", tmp_path / "set")
    (root / "rgb/anna/north/old").mkdir(parents=True)
    the_line(problems("folder", root, tmp_path), "rgb/anna/north/old: lies deeper", "move it up")


@pytest.mark.parametrize("name", ["regdb", "llcm"])
def test_an_image_listed_twice(name, root, tmp_path):
    split_list = root / ("idx/train_visible_1.txt" if name == "regdb" else "idx/train_vis.txt")
    lines = split_list.read_text().splitlines()
    split_list.write_text("\n".join([lines[0], *lines]))
    text = f"{split_list.relative_to(root)}, line 2: {IMAGES[name][0]} is listed a second time"
    assert "delete the line" in the_line(problems(name, root, tmp_path), text)


@pytest.mark.parametrize("levels", ["", "one", "one/two"])
def test_archives_unpacked_too_deep_with_clutter(name, levels, root, tmp_path):
    source = tmp_path / "source"
    (source / levels).parent.mkdir(parents=True, exist_ok=True)
    root.rename(source / levels)
    first = IMAGES[name][0]
    for clutter in (f"__MACOSX/{levels}/{first}", f"{levels}/__MACOSX/{first}", f".Trash/{first}"):
        (source / clutter).parent.mkdir(parents=True, exist_ok=True)
        (source / clutter).write_bytes(b"resource fork")
    folder = (source / levels / first).parent
    for clutter in (f"._{pathlib.Path(first).name}", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / clutter).write_bytes(b"clutter")
    builder = prepared(name, f"{source}/", tmp_path)
    assert builder.builder_config.found.root == source / levels
    assert builder.builder_config.found.warnings == []
    assert first in load_split(builder, "+".join(builder.info.splits)).paths.tolist()


def test_two_copies_below_the_source_are_not_chosen_between(name, root, tmp_path):
    (tmp_path / "up").mkdir()
    root.rename(tmp_path / "up" / "a")
    draw(name, tmp_path / "up" / "b")
    with pytest.raises(UserError) as caught:
        build(name, tmp_path / "up", tmp_path)
    for part in (str(tmp_path / "up/a"), str(tmp_path / "up/b"), "Name one of them by --source"):
        assert part in str(caught.value)


def test_a_fuller_copy_wins_over_a_fragment(name, root, tmp_path):
    (tmp_path / "up").mkdir()
    root.rename(tmp_path / "up" / "whole")
    (tmp_path / "up" / "a fragment" / pathlib.Path(IMAGES[name][0]).parts[0]).mkdir(parents=True)
    assert build(name, tmp_path / "up", tmp_path).builder_config.found.root == tmp_path / "up" / "whole"


def test_prepare_prints_the_table_first_then_all_problems_and_warnings(name, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jax_mspac.data.regdb.TRIALS", 1)
    preparation._warn.cache_clear()
    empty, twice = root / IMAGES[name][1], root / IMAGES[name][2]
    empty.write_bytes(b"")
    shutil.copy(root / IMAGES[name][0], twice)
    with pytest.raises(UserError) as caught:
        prepare.prepare(name, source=str(root), data_dir=str(tmp_path / "tfds"))
    output = capsys.readouterr().out
    assert output.index("| split") < output.index("warning: ") and "prepared: " not in output
    assert output.count("one and the same image") == 1
    assert str(empty) in str(caught.value)
    assert str(caught.value).startswith(f"{root} cannot be prepared:\n")


def test_problems_of_several_trials_are_listed_once_each(tmp_path, capsys, monkeypatch):
    root = trees.draw_regdb_tree(tmp_path / "set", images=1, trials=2)
    monkeypatch.setattr("jax_mspac.data.regdb.TRIALS", 2)
    (root / IMAGES["regdb"][0]).write_bytes(b"")
    for trial in (1, 2):
        (root / f"idx/test_visible_{trial}.txt").unlink()
    with pytest.raises(UserError) as caught:
        prepare.prepare("regdb", source=str(root), data_dir=str(tmp_path / "tfds"))
    text = str(caught.value)
    assert text.count("the file is empty") == text.count("cannot be prepared") == 1
    assert "idx/test_visible_1.txt: no such file" in text and "idx/test_visible_2.txt: no such file" in text


def test_warnings_are_printed_once_and_then_again_only_by_preparing_anew(name, root, tmp_path, capsys):
    preparation._warn.cache_clear()
    shutil.copy(root / IMAGES[name][0], root / IMAGES[name][2])
    config = ConfigDict({"name": name, "source": str(root), "data_dir": str(tmp_path / "tfds"), **TRIAL.get(name, {})})
    sets.prepared(config)
    assert capsys.readouterr().out.count("warning: ") == 1
    sets.prepared(config)
    assert "warning: " not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["regdb", "llcm"])
def test_lists_cannot_lead_out_of_the_folder(name, tmp_path):
    root = draw(name, tmp_path / "set")
    split_list = root / ("idx/train_visible_1.txt" if name == "regdb" else "idx/train_vis.txt")
    top, image = IMAGES[name][0].split("/", 1)
    (tmp_path / "outside" / "9").mkdir(parents=True)
    shutil.copy(root / top / image, tmp_path / "outside" / "9" / "x.png")
    outside = [
        f"../outside/9/x.png {label}" if label % 2 else f"{tmp_path}/outside/9/x.png {label}" for label in range(50, 54)
    ]
    inside_and_out = f"{top}/../../outside/9/x.png 60"
    split_list.write_text(split_list.read_text().rstrip("\n") + "\n" + "\n".join([*outside, inside_and_out]) + "\n")
    lines = problems(name, root, tmp_path)
    assert sum("leaves the folder of the data set" in line for line in lines) == 5, "\n".join(lines)


def test_a_link_in_the_folder_is_followed_as_its_owner_made_it(name, root, tmp_path):
    # Large sets are often spread over disks. A link counts like the folder that it leads to; a list cannot make one.
    image = root / IMAGES[name][0]
    elsewhere = tmp_path / "elsewhere"
    shutil.move(image.parent, elsewhere)
    image.parent.symlink_to(elsewhere)
    if name != "folder":  # there every folder is an identity
        (root / image.parent.parent.name / "loop").symlink_to(root)
    builder = prepared(name, root, tmp_path)
    paths = [path for split in builder.info.splits for path in load_split(builder, split).paths]
    assert IMAGES[name][0] in paths and not any("loop" in path for path in paths)
