"""Reading files of weights, and where a file comes from."""

import os
import pathlib
import sys

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from jax_mspac.errors import UserError
from jax_mspac.models import weight_files


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".pt"])
def test_load_tensors_reads_what_was_written(tmp_path, suffix):
    tensors = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1.5])}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    elif suffix == ".npz":
        np.savez(path, **tensors)
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)
    loaded = weight_files.load_tensors(path)
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(loaded[name], value)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights.npz").touch()
    assert weight_files.resolve("~/weights.npz") == tmp_path / "weights.npz"


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "absent"])
def test_damaged_file_is_named(tmp_path, suffix, damage):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file({"a": np.ones(100, np.float32)}, path)
    elif suffix == ".npz":
        np.savez(path, a=np.ones(100, np.float32))
    else:
        torch = pytest.importorskip("torch")
        torch.save({"a": torch.ones(100)}, path)
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"<html>not found</html>", "half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(UserError, match=rf"weights\{suffix}: cannot be read"):
        weight_files.load_tensors(path)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_never_run(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": Bomb(tmp_path / "run_by_torch")}, tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", **{"conv1.weight": np.array([Bomb(tmp_path / "run_by_numpy")], object)})
    for name in ("w.pth", "w.npz"):
        with pytest.raises(UserError, match=name):
            weight_files.load_tensors(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.npz", "w.pth"]


@pytest.mark.parametrize("nest", ["net", "state_dict", "model"])
def test_tensors_are_found_in_a_checkpoint_beside_scores_of_numpy(tmp_path, nest):
    torch = pytest.importorskip("torch")
    tensors = {"module.a": torch.ones(2), "module.b.module.c": torch.zeros(1, dtype=torch.float16)}
    scores = {"mAP": np.float64(0.5), "mINP": np.float32(0.25), "cmc": np.arange(3.0), "rank": np.int64(3), "epoch": 3}
    torch.save({**scores, nest: tensors}, tmp_path / "w.t")
    loaded = weight_files.load_tensors(tmp_path / "w.t")
    assert {name: value.tolist() for name, value in loaded.items()} == {"a": [1, 1], "b.module.c": [0]}
    assert {value.dtype for value in loaded.values()} == {np.dtype(np.float32)}


def test_file_of_other_things_than_tensors_is_told_from_a_damaged_one(tmp_path):
    torch = pytest.importorskip("torch")
    for held, told in (
        ({"epoch": 3, "weights": {"a": torch.ones(2)}}, "a mapping of epoch, weights.*under one of net, state_dict"),
        ([torch.ones(2)], "no named tensors but a list"),
        (torch.nn.Linear(2, 2), r"holds Python objects \(torch\.nn\.modules\.linear\.Linear\)"),
    ):
        torch.save(held, tmp_path / "w.pth")
        with pytest.raises(UserError, match=rf"w\.pth: .*{told}") as caught:
            weight_files.load_tensors(tmp_path / "w.pth")
        assert "cut short" not in str(caught.value)


def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"w\.pkl: .*\.safetensors, \.npz, \.pth, \.pt"):
        weight_files.load_tensors(tmp_path / "w.pkl")


def test_missing_torch_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").touch()
    with pytest.raises(UserError, match=r"w\.pth: .*pip install torch"):
        weight_files.load_tensors(tmp_path / "w.pth")


def test_resolve_returns_an_existing_file(tmp_path):
    path = tmp_path / "w.npz"
    path.touch()
    assert weight_files.resolve(str(path)) == path


def test_resolve_downloads_from_the_hub(monkeypatch):
    calls = []

    def download(repo_id, filename, revision=None):
        calls.append((repo_id, filename, revision))
        return "/cache/model.safetensors"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert weight_files.resolve("hf://owner/name") == pathlib.Path("/cache/model.safetensors")
    weight_files.resolve("hf://owner/name@v1.0")
    assert calls == [("owner/name", "model.safetensors", None), ("owner/name", "model.safetensors", "v1.0")]


@pytest.mark.parametrize("error", [OSError("no route to host\nmore"), ValueError("offline"), RuntimeError()])
def test_failed_download_says_how_to_go_on(monkeypatch, error):
    def download(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError) as caught:
        weight_files.resolve("hf://owner/name")
    message = str(caught.value)
    assert "hf://owner/name" in message and "\n" not in message
    assert (str(error).partition("\n")[0] or "RuntimeError") in message
    assert "model.pretrained=/path/model.safetensors" in message and "model.pretrained=none" in message


@pytest.mark.parametrize("spec", ["hf://a/b/c", "nowhere/w.npz", "."])
def test_bad_spec_says_how_to_go_on(spec):
    with pytest.raises(UserError, match="model.pretrained=none"):
        weight_files.resolve(spec)
