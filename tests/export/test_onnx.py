"""Every system with a network as ONNX: its features in ONNX Runtime are those of the model."""

import json
import sys

import jax
import numpy as np
import pytest
from helpers import made_runs
from helpers.exports import export, refused

import jax_mspac
from jax_mspac import methods
from jax_mspac.methods.base import Trained
from jax_mspac.models import vit
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runtime import command

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("jax2onnx")

# One of each kind of network: the others are made of the same layers. Each takes its time, as converting compares two
# compiled programs.
SYSTEMS = ("agw", "aligngan", "d2rl", "deen", "mfen", "mpanet", "mspac", "pmt", "rle", "zero_padding")
BATCHES = (1, 3, 8)


@pytest.fixture
def shallow(monkeypatch):
    monkeypatch.setitem(BACKBONES, "resnet18", made_runs.SHALLOW)
    monkeypatch.setitem(BACKBONES, "vit_b16", vit.backbone(depth=2, heads=8))
    # The converter's own forms of Flax's layers promote ranks.
    with jax.numpy_rank_promotion("allow"):
        yield


def features(path, images):
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", *images.shape[1:]])
    assert (made.name, made.type) == ("features", "tensor(float)") and made.shape[0] == "batch"
    return session.run(["features"], {"images": images})[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "changes"),
    [
        *((system, {"model.parts": (3, 1)} if system == "mspac" else {}) for system in SYSTEMS),
        *(("one_stream", {"model.input_form": form}) for form in ("local_normalization", "gradient_orientation")),
    ],
)
def test_each_system_gives_the_features_of_its_model(system, changes, shallow, tmp_path):
    run = made_runs.make(tmp_path / "run", system, **changes)
    assert isinstance(methods.build(made_runs.config_of(system, **changes), num_identities=1), Trained)
    export("--model", run, "--to", "onnx", "--output", tmp_path / "graphs")
    model = jax_mspac.load(run)
    height, width = model.config.data.height, model.config.data.width
    images = np.random.default_rng(1).integers(0, 256, (max(BATCHES), height, width, 3), np.uint8)
    for modality in ("visible", "infrared"):
        expected = model.embed(images, modality)
        for count in BATCHES:
            found = features(tmp_path / "graphs" / f"{modality}.onnx", images[:count])
            np.testing.assert_allclose(found, expected[:count], atol=1e-4)
        assert abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.slow
def test_flips_and_bfloat16_and_what_the_files_say(shallow, tmp_path):
    run = made_runs.make(tmp_path / "run", "two_stream", **{"eval.flip": True, "model.dtype": "bfloat16"})
    export("--model", run, "--to", "onnx", "--output", tmp_path / "graphs")
    exact = made_runs.make(tmp_path / "exact", "two_stream", **{"eval.flip": True})
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 32, 3), np.uint8)
    found = features(tmp_path / "graphs" / "infrared.onnx", images)
    np.testing.assert_allclose(found, jax_mspac.load(exact).embed(images, "infrared"), atol=1e-4)
    # Both pass the same weights: all of them take no more than in the one, and the other's stem is not there.
    size = (tmp_path / "graphs" / "infrared.onnx").stat().st_size
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(jax_mspac.load(exact).variables))
    arrays = [np.prod(one.dims) for one in onnx.load(tmp_path / "graphs" / "infrared.onnx").graph.initializer]
    assert 4 * sum(arrays) < weights + 2000 and size > weights / 2
    told = json.loads((tmp_path / "graphs" / "model.onnx.json").read_text())
    assert told["graphs"]["visible"]["opset"] == {"ai.onnx": 18} and told["horizontal_flip_averaged"]
    assert 0 <= told["graphs"]["visible"]["largest_difference"] < 1e-4
    inside = {entry.key: entry.value for entry in onnx.load(tmp_path / "graphs" / "infrared.onnx").metadata_props}
    assert inside["modality"] == "infrared" and json.loads(inside["jax_mspac"])["input"] == told["input"]


@pytest.mark.slow
def test_a_graph_that_differs_is_not_written(shallow, tmp_path, monkeypatch):
    from jax_mspac.export import onnx as form

    monkeypatch.setattr(form, "TOLERANCE", 1e-12)
    run = made_runs.make(tmp_path / "run", "two_stream")
    told = refused("--model", run, "--to", "onnx", "--output", tmp_path / "graphs")
    assert "the ONNX graph of visible images gives features that differ" in told
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("library", "told"),
    [("onnx", command.installing("onnx")), ("jax2onnx", "pip install --no-deps 'jax2onnx>=0.17,<0.18'")],
)
def test_a_library_that_is_missing_is_told(library, told, shallow, tmp_path, monkeypatch):
    run = made_runs.make(tmp_path / "run", "two_stream")
    monkeypatch.setitem(sys.modules, library, None)
    assert f"error: {library} is not installed, which this needs: {told}" in refused("--model", run, "--to", "onnx")
    assert not list((run / "export").iterdir())
