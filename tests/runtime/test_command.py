"""What the commands do around their work: where configs are found, and what a locale or a typo may not break."""

import json
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]


def run(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "jax_mspac.main", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder), **environment},
        capture_output=True,
    )


def test_configs_import_their_neighbors_from_any_folder(tmp_path):
    """Also where their folder is no part of what is installed."""
    folder = tmp_path / "elsewhere" / "configs"
    folder.mkdir(parents=True)
    (folder / "neighbor.py").write_text("FIELD = 3")
    (folder / "mine.py").write_text(
        "from ml_collections import ConfigDict\nfrom configs import neighbor, study\n\n\n"
        "def get_config():\n    return ConfigDict({'field': neighbor.FIELD, 'name': study.get_config().data.name})\n"
    )
    code = (
        "import sys; from ml_collections import config_flags; from jax_mspac.runtime import command\n"
        "config = config_flags.DEFINE_config_file('config'); command.parse_flags(['x', *sys.argv[1:]])\n"
        "print(config.value.field, config.value.name)"
    )
    for given in ([f"--config={folder / 'mine.py'}"], ["--config", "elsewhere/configs/mine.py"]):
        command = [sys.executable, "-c", code, *given]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True
        )
        assert done.stdout == "3 synthetic\n", done.stderr


def test_a_locale_without_the_sign_of_a_deviation_ends_no_run(tmp_path):
    rng = np.random.default_rng(0)
    features, ids, cameras = rng.standard_normal((12, 8)), np.repeat(np.arange(6), 2), np.ones(12, int)
    given = {
        f"{side}_{name}": value
        for side in ("query", "gallery")
        for name, value in (("features", features), ("ids", ids), ("cams", cameras))
    }
    np.savez(tmp_path / "f.npz", **given)
    config = ROOT / "configs" / "folder.py"
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(tmp_path, "--config", str(config), "--mode", "score", "--features", "f.npz", "--workdir", "out", **posix)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert "±" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")


def test_a_typo_in_a_setting_is_answered_in_a_line(tmp_path):
    done = run(tmp_path, "--config", str(ROOT / "configs" / "demo.py"), "--config.loss.mecenn.weight=1")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said == 'error: there is no such setting: \'mecenn\'. Did you mean "mecen" instead of "mecenn"?\n'
