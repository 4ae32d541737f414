"""--mode score as a command, and what it says of files that hold less or other things than a test set."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.feature_files import ROOT, command, rows_of, save, score, sysu_config

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError


def test_command_line(tmp_path, keys, lists):
    save(tmp_path, keys)
    # The lists bring their galleries.
    official = [f"--config.eval.sysu_lists={lists}"]
    done = command(tmp_path, "--mode", "score", "--features", "given.npz", "--config.eval.shots=1,10", *official)
    assert done.returncode == 0 and done.stderr == ""
    saved = json.loads((tmp_path / "runs" / "score-given" / "results.json").read_text())
    assert [row["protocol"] for row in saved["rows"]] == ["official"] * 4 + ["seeded"] * 4
    wrong = command(tmp_path, "--mode", "score", "--features", "absent.npz")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: absent.npz does not exist")
    for arguments in (["--mode", "score"], ["--features", "given.npz"]):
        refused = command(tmp_path, *arguments)
        assert refused.returncode == 1 and "need each other" in refused.stdout + refused.stderr


def test_command_line_expands_the_home_folder(tmp_path, keys):
    save(tmp_path, keys)
    done = command(tmp_path, "--mode", "score", "--features=~/given.npz", "--workdir=~/out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.json").is_file() and not (tmp_path / "~").exists()


def test_scoring_loads_neither_jax_nor_tensorflow():
    program = "import sys, jax_mspac.evaluation.feature_files; sys.exit(bool({'jax', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_gallery_without_the_cameras_of_a_mode_is_not_called_that_mode(tmp_path, keys):
    indoor = keys["gallery_cams"] < 3
    part = {name: values[indoor] if name.startswith("gallery") else values for name, values in keys.items()}
    with pytest.raises(UserError, match=r"mode 'all' searches .*no image of \[4, 5\].*config.eval.modes"):
        rows_of(tmp_path, part, sysu_config())
    rows = rows_of(tmp_path, part, sysu_config(modes=("indoor",)))
    assert rows == [row for row in rows_of(tmp_path, keys, sysu_config()) if row["mode"] == "indoor"]


def test_regdb_needs_no_cameras_and_tells_of_queries_that_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(1, 13), 4)
    given = {f"{side}_features": rng.standard_normal((48, 8)).astype(np.float32) for side in ("query", "gallery")}
    config = config_lib.default_config("regdb")
    outcome = score(config, save(tmp_path, given | {"query_ids": ids - 1, "gallery_ids": ids}), tmp_path / "out")
    assert outcome["notes"][-1].startswith("4 of 48 queries have no image of their identity in the gallery")
    with_cameras = given | {"query_ids": ids - 1, "gallery_ids": ids, "query_cams": ids % 2, "gallery_cams": ids % 3}
    assert outcome["rows"] == score(config, save(tmp_path, with_cameras), tmp_path / "out")["rows"]


def test_keys_of_another_code_base_are_named(tmp_path):
    given = {"query_feat": np.ones((2, 3)), "gall_feat": np.ones((2, 3)), "query_label": np.ones(2, int)}
    with pytest.raises(UserError, match=r"query_features is missing.*\n(.*\n)*.*gall_feat, query_feat, query_label"):
        score(sysu_config(), save(tmp_path, given), tmp_path / "out")
