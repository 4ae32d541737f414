"""Every reader of files that others wrote: what the property tests and the fuzzer feed with bytes.

A reader gets a folder that it may use and the bytes, and either reads them or raises a UserError.
"""

import io
import json
import pathlib
from collections.abc import Callable

import numpy as np
import safetensors.numpy
import scipy.io
from PIL import Image

from jax_mspac import config as config_lib
from jax_mspac.data import folder, images, lists, llcm, regdb, sysu_mm01
from jax_mspac.data.sysu_mm01 import load_permutations
from jax_mspac.evaluation import feature_files
from jax_mspac.models import weight_files
from jax_mspac.runs import config_file
from jax_mspac.runs import logging as run_logging

Reader = Callable[[pathlib.Path, bytes], object]
IMAGES = ["Visible/1/a.bmp", "Thermal/1/b.bmp", "Visible/02/c.JPG"]


def _file(folder: pathlib.Path, name: str, data: bytes) -> pathlib.Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def split_list(folder, data):
    _file(folder, "idx/list.txt", data)
    entries, problems = lists.read_list(folder, "idx/list.txt", "Visible", IMAGES)
    assert all(entry.path in IMAGES for entry in entries)
    lists.label_problems("list.txt", entries)
    return entries, problems


def sysu_text(folder, data):
    _file(folder, "exp/train_id.txt", data)
    return sysu_mm01.read_splits(folder)


def sysu_matlab(folder, data):
    (folder / "exp/train_id.txt").unlink(missing_ok=True)
    _file(folder, "exp/train_id.mat", data)
    return sysu_mm01.read_splits(folder)


def sysu_permutations(folder, data):
    return load_permutations(_file(folder, "rand_perm_cam.mat", data))


def regdb_matlab(folder, data):
    _file(folder, "regdb/RegDB_split.mat", data)
    return regdb.read_splits(folder / "regdb", 1, IMAGES)


def llcm_identities(folder, data):
    _file(folder, "idx/test_id.txt", data)
    return llcm.read_splits(folder, ["vis/0001/a_c1_.jpg"], ["test_vis/cam1/0002/b.jpg"])


def test_identities(root, data):
    return folder._read_names(str(_file(root, "test.txt", data)))


def safetensors_weights(folder, data):
    return weight_files.load_tensors(_file(folder, "w.safetensors", data))


def npz_weights(folder, data):
    return weight_files.load_tensors(_file(folder, "w.npz", data))


def torch_weights(folder, data):
    return weight_files.load_tensors(_file(folder, "w.pth", data))


def scores(folder, data):
    return feature_files.read(_file(folder, "features.npz", data), data_set=sysu_mm01.SET, indexed=True)


def saved_config(folder, data):
    config = config_file.load(_file(folder, "config.json", data))
    config_lib.validate(config)
    return config


def metrics(folder, data):
    _file(folder, run_logging.METRICS_FILE, data)
    return run_logging.MetricsLog(folder, start=5, read_only=True).last


def image(folder, data):
    return images.stored_bytes(_file(folder, "a.png", data))


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _permutations() -> np.ndarray:
    cells = np.empty((6, 1), object)
    for camera in range(6):
        cells[camera, 0] = np.empty((2, 1), object)
        for identity in range(2):
            cells[camera, 0][identity, 0] = np.tile(np.arange(1, 4), (10, 1))
    return cells


def _scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    count = np.arange(4)
    return {
        "query_features": rng.normal(size=(4, 3)),
        "gallery_features": rng.normal(size=(4, 3)),
        "query_ids": count,
        "gallery_ids": count,
        "query_cams": np.full(4, 3),
        "gallery_cams": np.full(4, 1),
        "gallery_index": np.ones(4, int),
        "direction": np.array("infrared->visible"),
    }


def _torch() -> bytes:
    try:
        import torch
    except ImportError:
        return b""
    return _saved(lambda file: torch.save({"conv1.weight": torch.zeros(2, 3)}, file))


_TENSORS = {"conv1.weight": np.zeros((2, 3), np.float32), "bn1.bias": np.ones(2, np.float32)}
_SPLITS = {name: np.arange(1, 2061, dtype=float).reshape(10, 206) for name in ("TrainIdx", "TestIdx")}

# Reader -> bytes that it reads, to start from.
SOUND: dict[Reader, bytes] = {
    split_list: b"Visible/1/a.bmp 0\nVisible\\02\\c.jpg 1\n../x/y.bmp 3\n/etc/passwd 4\n",
    sysu_text: b"1,2,5\n",
    sysu_matlab: _saved(lambda file: scipy.io.savemat(file, {"id": np.array([[1, 2, 5]])})),
    sysu_permutations: _saved(lambda file: scipy.io.savemat(file, {"rand_perm_cam": _permutations()})),
    regdb_matlab: _saved(lambda file: scipy.io.savemat(file, _SPLITS, do_compression=True)),
    llcm_identities: b"2,3\n",
    test_identities: b"anna\nben\n",
    safetensors_weights: safetensors.numpy.save(_TENSORS),
    npz_weights: _saved(lambda file: np.savez(file, **_TENSORS)),
    torch_weights: _torch(),
    scores: _saved(lambda file: np.savez(file, **_scores())),
    saved_config: json.dumps(json.loads(config_lib.default_config().to_json())).encode(),
    metrics: b'{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.0}\n',
    image: _saved(lambda file: Image.new("RGB", (8, 8), (9, 99, 200)).save(file, "PNG")),
}
MATLAB = (sysu_matlab, sysu_permutations, regdb_matlab)
