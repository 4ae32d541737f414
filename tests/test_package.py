"""What an installation brings: the requirement files, the extras made of them, the commands by name."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from helpers.commands import run
from packaging.requirements import Requirement

from jax_mspac.__main__ import COMMANDS
from jax_mspac.runtime import command

ROOT = pathlib.Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
# What a distribution is called when it is imported.
MODULES = {
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "tensorflow-cpu": "tensorflow",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "opencv-contrib-python-headless": "cv2",
}


def requirements_of(name):
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def modules_of(*names):
    required = [one.name for name in names for one in requirements_of(name)]
    return {MODULES.get(name, name.replace("-", "_")) for name in required}


def extras():
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    return hook["requirements_txt"]["optional-dependencies"]


def test_the_first_command_installs_what_training_and_reports_need():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    parts = [line.removeprefix("-r ") for line in lines if not line.startswith("#")]
    optional = {f"requirements/{name}.txt" for name in ("torch", "video", "serve", "cluster", "onnx")}
    assert set(parts) == {"requirements/core.txt", *extras()["all"]} - optional


def test_a_library_has_the_same_bounds_in_each_file():
    bounds = {}
    for file in REQUIREMENTS.glob("*.txt"):
        for one in requirements_of(file.stem):
            # An accelerator's file leaves the version to the core's.
            if one.specifier:
                assert bounds.setdefault(one.name, one.specifier) == one.specifier, one.name
                assert {">=", "<"} <= {bound.operator for bound in one.specifier}, one.name


def test_every_library_that_is_imported_is_declared_and_has_an_extra():
    declared = modules_of(
        "core", "train", "classical", "report", "video", "serve", "cluster", "torch", "onnx", "onnx_converter"
    )
    # Each of these comes with one of the declared ones.
    given = {"jax_mspac", "configs", "absl", "etils", "jaxlib", "markupsafe", "threadpoolctl"}
    given |= set(sys.stdlib_module_names)
    for path in (ROOT / "jax_mspac").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for name in {name.partition(".")[0] for name in names} - given:
                assert name in declared, f"{path}: {name}"
                known = name in modules_of("core") or name in command._EXTRAS or name in command._BESIDE
                assert known, f"{path}: {name}"


def test_a_missing_library_is_told_with_its_extra(monkeypatch, tmp_path):
    for library, extra in command._EXTRAS.items():
        files = extras()[extra]
        assert library in modules_of(*(pathlib.Path(file).stem for file in files))
    for folder, told in ((REQUIREMENTS, f"-r {REQUIREMENTS / 'train.txt'}"), (tmp_path, "'jax_mspac[train]'")):
        monkeypatch.setattr(command, "_REQUIREMENTS", folder)
        with pytest.raises(
            SystemExit, match=re.escape(f"tensorflow is not installed, which this needs: pip install {told}")
        ):
            with command.command():
                raise ModuleNotFoundError("No module named 'tensorflow.io'", name="tensorflow.io")
    (converter,) = requirements_of("onnx_converter")
    with pytest.raises(SystemExit, match=re.escape("jax2onnx is not installed, which this needs: pip install --no")):
        with command.command():
            raise ModuleNotFoundError("No module named 'jax2onnx'", name="jax2onnx")
    assert Requirement(command._BESIDE["jax2onnx"].split("'")[1]) == converter
    with pytest.raises(ModuleNotFoundError):
        with command.command():
            raise ModuleNotFoundError("No module named 'mine'", name="mine")


def test_commands_have_names(tmp_path):
    started = [sys.executable, "-m", "jax_mspac", "--help"]
    told = subprocess.run(started, cwd=ROOT, capture_output=True, text=True).stdout
    assert all(f"\n  {name} " in told for name in COMMANDS)
    assert "there is no command 'trian'" in run("jax_mspac", "trian").stderr
    assert "--[no]distributed" in run("jax_mspac", "train", "--help").stdout
    done = run("jax_mspac", "score", "--config", "sysu", "--features", "none.npz", cwd=tmp_path)
    assert done.stderr == "error: none.npz does not exist; expected a .npz file with the features to score\n"


def test_a_config_that_is_not_there_is_told_with_those_that_are(tmp_path):
    for given in ("sysy", "configs/sysu.py"):
        told = run("jax_mspac", "train", "--config", given, cwd=tmp_path).stderr
        assert "there is no file" in told and "llcm, regdb" in told
    (tmp_path / "given.py").write_text(
        "from configs import folder\n\n\n"
        "def get_config(argument):\n"
        "    config = folder.get_config()\n"
        "    config.data.source = argument\n"
        "    return config\n"
    )
    assert "elsewhere" in run("jax_mspac", "train", "--config=given.py:elsewhere", cwd=tmp_path).stderr
