"""Errors of the disk: which place is blamed, and which flag names another."""

import errno
import os

import pytest

from jax_mspac.errors import UserError
from jax_mspac.runtime import disk


@pytest.fixture
def places(tmp_path):
    return {tmp_path / "runs" / "one": "--workdir", tmp_path / "sets": "--data_dir"}


def said(error, places, **options):
    with pytest.raises(UserError) as raised, disk.explained(places, **options):
        raise error
    return str(raised.value)


def refusal(number, path):
    return OSError(number, os.strerror(number), str(path))


@pytest.mark.parametrize(
    "path, blamed, flag",
    [
        ("data/image.png", "data/image.png", None),
        ("runs/one/config.json", "runs/one", "--workdir"),
        ("runs", "runs/one", "--workdir"),
        ("sets/folder/1.0.0", "sets", "--data_dir"),
    ],
)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_place_is_blamed_only_for_what_is_in_it_or_above_it(path, blamed, flag, number, places, tmp_path):
    text = said(refusal(number, tmp_path / path), places)
    assert text.startswith(f"{tmp_path / blamed}: {os.strerror(number)}")
    assert {name for name in ("--workdir", "--data_dir") if name in text} == ({flag} - {None})


def test_a_library_s_text_is_searched_for_the_place(places, tmp_path):
    text = said(RuntimeError(f"cannot write {tmp_path}/sets/x: No space left on device"), places, saved="All is whole")
    assert text.startswith(f"{tmp_path}/sets: No space left on device") and "free some space" in text
    assert "All is whole" not in text
    text = said(RuntimeError("No space left on device"), places, saved="All is whole")
    assert text.startswith(f"{tmp_path}/runs/one: No space left on device") and text.endswith("All is whole")


def test_a_place_that_cannot_be_made_is_named(places, tmp_path):
    text = said(refusal(errno.ENOENT, tmp_path / "runs"), places)
    assert text.startswith(f"{tmp_path}/runs: No such file or directory") and "give another --workdir" in text


def test_what_lies_beneath_is_found_and_other_errors_pass(places, tmp_path):
    try:
        raise refusal(errno.EROFS, tmp_path / "sets" / "x")
    except OSError as cause:
        error = ValueError("failed to write")
        error.__cause__ = cause
    assert said(error, places).startswith(f"{tmp_path}/sets: Read-only file system")
    for error in (refusal(errno.ENOENT, tmp_path / "sets" / "x"), ValueError("wrong"), UserError("told")):
        with pytest.raises(type(error)) as raised, disk.explained(places):
            raise error
        assert raised.value is error


def test_the_default_folder_of_sets_is_that_of_tfds(monkeypatch):
    from tensorflow_datasets.core import constants

    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert disk.sets_folder("") == os.path.expanduser(constants.DATA_DIR)
    assert disk.sets_folder("/sets") == "/sets"
