"""A model as a StableHLO program: one file for three platforms, run by JAX alone, in another process."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import made_runs, pages
from helpers.exports import export, refused

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.export import program
from jax_mspac.export.source import Source
from jax_mspac.methods import METHODS
from jax_mspac.methods.base import State, System
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runs import workdir
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints

ROOT = pathlib.Path(__file__).parents[2]
BATCHES = (1, 3, 8)
# What another program does: by this package's own function, and by JAX without it.
READER = """
import json, sys
import numpy as np
from jax_mspac.export import program
folder, images = sys.argv[1], np.load(sys.argv[2])
ours = program.load(folder)
features = {f"{m}{n}": ours.embed(images[:n], m) for m in ("visible", "infrared") for n in (1, 3, 8)}
loaded = [name for name in sys.modules if name.startswith("jax_mspac.")]
assert not [name for name in loaded if name.split(".")[1] in ("models", "methods", "kernels", "runs", "config")], loaded
assert "flax" not in sys.modules

import jax
from jax import export
with open(folder + "/model.stablehlo", "rb") as file:
    alone = export.deserialize(bytearray(file.read()))
assert alone.platforms == ("cpu", "cuda", "tpu"), alone.platforms
features["alone"] = alone.call(images[:3], np.bool_(True))
np.savez(sys.argv[3], **features)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet18", made_runs.SHALLOW)
        changes = {"model.parts": (3, 1), "eval.flip": True}
        yield made_runs.make(tmp_path_factory.mktemp("run") / "run", "mspac", **changes)


@pytest.fixture(scope="module")
def exported(run):
    export("--model", run, "--to", "stablehlo")
    return run / "export" / "stablehlo"


def test_another_process_gets_the_features_of_the_model(run, exported, tmp_path):
    images = Source.opened(str(run)).images(max(BATCHES))
    np.save(tmp_path / "images.npy", images)
    arguments = [exported, tmp_path / "images.npy", tmp_path / "features.npz"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", READER, *arguments], cwd=tmp_path, env=environment, text=True)
    assert done.returncode == 0
    model = jax_mspac.load(run)
    with np.load(tmp_path / "features.npz") as found:
        for modality in ("visible", "infrared"):
            expected = model.embed(images, modality)
            for count in BATCHES:
                np.testing.assert_allclose(found[f"{modality}{count}"], expected[:count], atol=1e-5)
            assert abs(expected[0] - expected[1]).max() > 1e-3
        np.testing.assert_allclose(found["alone"], found["infrared3"], atol=1e-6)
        assert abs(found["infrared3"] - found["visible3"]).max() > 1e-3


def test_the_example_of_the_page_runs(exported):
    (code,) = pages.blocks_of("export.md", "StableHLO")
    given = {"runs/demo/export/stablehlo": str(exported), "96, 48": "96, 32"}
    for theirs, ours in given.items():
        assert theirs in code
        code = code.replace(theirs, ours)
    names = {}
    exec(code, names)
    assert names["features"].shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(names["features"], axis=1), 1, rtol=1e-5)


def test_the_description_says_what_the_program_takes_and_gives(exported):
    told = json.loads((exported / program.DESCRIPTION).read_text())
    assert told["input"]["dtype"] == "uint8" and told["input"]["shape"] == ["batch", 96, 32, 3]
    mean, deviation = (told["input"]["normalization"][name] for name in ("mean", "standard_deviation"))
    np.testing.assert_allclose(mean, 255 * np.array([0.485, 0.456, 0.406]), rtol=1e-6)
    np.testing.assert_allclose(deviation, 255 * np.array([0.229, 0.224, 0.225]), rtol=1e-6)
    assert told["output"]["shape"] == ["batch", 32] and told["step"] == 3 and told["horizontal_flip_averaged"]
    assert told["versions"]["jax"] == jax.__version__ and told["date"].endswith("+00:00")
    with (exported / program.FILE).open("rb") as file:
        raw = jax.export.deserialize(bytearray(file.read()))
    assert told["program"]["platforms"] == list(raw.platforms) == ["cpu", "cuda", "tpu"]
    assert told["program"]["calling_convention_version"] == raw.calling_convention_version
    assert [str(aval) for aval in raw.in_avals] == ["uint8[batch,96,32,3]", "bool[]"]
    assert [str(aval) for aval in raw.out_avals] == ["float32[batch,32]"]


def test_images_that_are_none_and_files_that_are_damaged_are_named(exported, tmp_path):
    loaded = program.load(exported)
    for images in (np.zeros((1, 32, 96, 3), np.uint8), np.zeros((1, 96, 32, 3)), np.zeros((0, 96, 32, 3), np.uint8)):
        with pytest.raises(UserError, match=r"images are .*expected uint8 \[N, 96, 32, 3\]"):
            loaded.embed(images, "visible")
    with pytest.raises(UserError, match="modality is 'thermal'"):
        loaded.embed(np.zeros((1, 96, 32, 3), np.uint8), "thermal")
    with pytest.raises(UserError, match=r"model\.stablehlo\.json: No such file.*expected model\.stablehlo and"):
        program.load(tmp_path)
    description = json.loads((exported / program.DESCRIPTION).read_text())
    (tmp_path / program.FILE).write_bytes((exported / program.FILE).read_bytes()[:-1])
    (tmp_path / program.DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"model\.stablehlo is damaged or of another export"):
        program.load(tmp_path)
    (tmp_path / program.FILE).write_bytes(b"of the future")
    description["program"]["sha256"] = hashlib.sha256(b"of the future").hexdigest()
    (tmp_path / program.DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(UserError, match=rf"cannot be read by JAX .* written on 20.* by JAX {jax.__version__}"):
        program.load(tmp_path)
    (tmp_path / program.DESCRIPTION).write_text("{")
    with pytest.raises(UserError, match=r"model\.stablehlo\.json is damaged"):
        program.load(tmp_path)


class Pixels:
    """A method of numpy alone, as the hand-crafted ones are."""

    features = ("before_neck", "after_neck")

    def init(self, key):
        return State(np.int32(0), {"metric": np.zeros(2, np.float32)}, {})

    def embed(self, variables, images, modality):
        return {name: images.reshape(len(images), -1).astype(np.float32) for name in self.features}


@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_a_method_without_a_network_is_refused_and_named(tmp_path, monkeypatch, form):
    pytest.importorskip("onnx")
    monkeypatch.setitem(METHODS, "pixels", System(title="Pixels", build=lambda config, *, num_identities: Pixels()))
    config = made_runs.config_of("pixels")
    with workdir.opened(config, tmp_path) as folder, Checkpoints(folder / FOLDER) as checkpoints:
        checkpoints.save(Pixels().init(None))
    told = refused("--model", tmp_path, "--to", form)
    assert "pixels has no network but computes with numpy" in told and "--to safetensors" in told
    assert not (tmp_path / "export" / form).exists()
    export("--model", tmp_path, "--to", "safetensors")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 32, 3), np.uint8)
    again = jax_mspac.load(tmp_path / "export" / "safetensors").embed(images, "visible")
    np.testing.assert_array_equal(again, jax_mspac.load(tmp_path).embed(images, "visible"))
