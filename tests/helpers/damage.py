"""What the tests of damaged trees share: sound trees of every layout, and how they are prepared."""

import pathlib
from collections.abc import Callable

import pytest

from helpers import sets, trees
from jax_mspac.errors import UserError

TRIAL = {"regdb": {"trial": 1}}


def draw(name: str, root: pathlib.Path) -> pathlib.Path:
    """A sound tree: every image differs from every other."""
    drawers: dict[str, Callable] = {
        "sysu_mm01": trees.draw_sysu_tree,
        "regdb": trees.draw_regdb_tree,
        "llcm": trees.draw_llcm_tree,
        "folder": trees.draw_folder_tree,
    }
    return drawers[name](root, images=1)


BUILDERS = ("sysu_mm01", "regdb", "llcm", "folder")
# A visible and an infrared image of one identity; another one of the first folder.
IMAGES = {
    "sysu_mm01": ("cam1/0001/0001.jpg", "cam3/0001/0001.jpg", "cam1/0002/0001.jpg"),
    "regdb": (
        "Visible/3/male_front_v_00300_3.bmp",
        "Thermal/3/male_front_t_00300_3.bmp",
        "Visible/12/male_front_v_01200_12.bmp",
    ),
    "llcm": (
        "vis/0002/0002_c01_s185535_f7010_vis.jpg",
        "nir/0002/0002_c01_s185535_f7010_nir.jpg",
        "vis/0005/0005_c01_s185535_f7010_vis.jpg",
    ),
    "folder": ("rgb/anna/0.png", "ir/anna/0.png", "rgb/ben/0.png"),
}


def build(name, source, tmp_path):
    return sets.build(name, source=str(source), data_dir=str(tmp_path / "tfds"), **TRIAL.get(name, {}))


def prepared(name, source, tmp_path):
    builder = build(name, source, tmp_path)
    builder.download_and_prepare()
    return builder


def problems(name, source, tmp_path):
    """The lines of the error that keeps a tree from being prepared."""
    with pytest.raises(UserError) as caught:
        prepared(name, source, tmp_path)
    return str(caught.value).splitlines()


def the_line(lines, *parts):
    """The only line that has all parts, and so the file and the mend."""
    found = [line for line in lines if all(part in line for part in parts)]
    assert len(found) == 1, "\n".join(lines)
    return found[0]
