"""Whatever a file holds, reading it works or ends in a UserError; so does whatever a setting is."""

import pathlib
import subprocess
import sys
import tempfile

import hypothesis
import pytest
from helpers import readers
from hypothesis import strategies as st
from ml_collections import ConfigDict

from jax_mspac import config as config_lib
from jax_mspac.data import matlab
from jax_mspac.data.sysu_mm01 import load_permutations
from jax_mspac.errors import UserError

# Files that made a reader crash once, by the name of the reader.
CRASHED = {
    "split_list": [b"Visible/1/a.bmp " + b"9" * 5000, "Visible/²/a.bmp 0".encode()],
    "metrics": [b"5\n", b'{"loss": 1}\n', b'{"step": null}\n', b"\xff\xfe{"],
    "saved_config": [b"[]", b"5", b'{"train": 3}', b'{"train": {"steps": "x"}}', b"\xff"],
    "image": [b"\x89PNG\r\n\x1a\n"],
}

settings = hypothesis.settings(max_examples=50, deadline=None, derandomize=True, database=None)


@st.composite
def damaged(draw, sound):
    """The bytes with some of them changed, cut out, put in or repeated, or any other bytes."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(0, 12))
        match draw(st.sampled_from(["change", "cut", "insert", "repeat", "end"])):
            case "change" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
            case "repeat":
                data[at:at] = data[at : at + length]
            case "end":
                del data[at:]
    return bytes(data)


def read(reader, data):
    with tempfile.TemporaryDirectory() as folder:
        try:
            reader(pathlib.Path(folder), data)
        except UserError as error:
            assert str(error)


@pytest.fixture
def one_process(monkeypatch):
    """A process for each of many files would take minutes."""
    monkeypatch.setattr(matlab, "_survived", lambda path: True)


@pytest.mark.filterwarnings("ignore")  # of the readers of broken files
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("reader", readers.SOUND, ids=lambda reader: reader.__name__)
def test_damaged_files_are_read_or_refused(reader):
    if not readers.SOUND[reader]:
        pytest.skip("needs torch")

    @settings
    @hypothesis.given(st.one_of(damaged(readers.SOUND[reader]), st.binary(max_size=200)))
    def check(data):
        read(reader, data)

    check()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader, sound", readers.SOUND.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_sound_files_are_read(reader, sound, tmp_path):
    if not sound:
        pytest.skip("needs torch")
    reader(tmp_path, sound)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, data",
    [(name, data) for name, files in CRASHED.items() for data in files],
    ids=lambda value: repr(value)[:40],
)
def test_files_that_crashed_a_reader_once(name, data):
    read(getattr(readers, name), data)


def test_a_file_that_ends_a_process_which_reads_it_is_refused():
    # Found by the fuzzer: a segmentation fault in SciPy's reader.
    file = pathlib.Path(__file__).parent / "data" / "crashed" / "rand_perm_cam.mat"
    trial = subprocess.run([sys.executable, "-c", matlab._TRIAL, str(file)], capture_output=True)
    for reader in (readers.sysu_permutations, readers.sysu_matlab, readers.regdb_matlab):
        read(reader, file.read_bytes())
    if trial.returncode < 0:  # a later SciPy may just raise
        with pytest.raises(UserError, match="rand_perm_cam.mat: .*its contents are damaged"):
            load_permutations(file)


@settings
@hypothesis.given(st.text(max_size=200))
def test_lists_never_name_an_image_outside_of_the_folder(text):
    with tempfile.TemporaryDirectory() as folder:
        readers.split_list(pathlib.Path(folder), text.encode(errors="surrogatepass"))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-3, 99), st.floats(), st.text(max_size=4)), max_size=3).map(tuple),
)


def fields(config, prefix=()):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield prefix + (name,)
            yield from fields(value, prefix + (name,))
        else:
            yield prefix + (name,)


@settings
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(sorted(fields(config_lib.default_config()))), VALUES), min_size=1, max_size=3)
)
def test_settings_are_accepted_or_refused(changes):
    values = config_lib.default_config().to_dict()
    for path, value in changes:
        section = values
        for name in path[:-1]:
            section = section[name] if isinstance(section, dict) and name in section else {}
        if isinstance(section, dict):
            section[path[-1]] = value
    config = ConfigDict(values)
    try:
        config_lib.split_lists(config)
        config_lib.validate(config)
    except UserError as error:
        assert "config." in str(error)
