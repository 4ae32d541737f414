"""A model as safetensors: what is in the folder, that it embeds as the run does, and what its card says."""

import errno
import json
import pathlib

import jax
import numpy as np
import pytest
from helpers import made_runs
from helpers.exports import export, refused
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import jax_mspac
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.export import weights
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runs import provenance, results, weights_folder
from jax_mspac.runs.checkpoints import FOLDER

SECRET = "/home/someone/private"
SCORES = {"rank1": 0.125, "rank5": 0.25, "rank10": 0.5, "rank20": 0.75, "mAP": 0.0625, "mINP": 0.03125}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of step 3 with records as training leaves them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet18", made_runs.SHALLOW)
        changes = {"model.parts": (3, 1), "data.data_dir": SECRET, "model.pretrained": f"{SECRET}/r18.safetensors"}
        folder = made_runs.make(tmp_path_factory.mktemp("run") / "run", "mspac", **changes)
        splits = {"splits": ["train"], "names": ["person 1", "person 2"], "digest": "0"}
        record = {
            "command": f"main --config.data.data_dir={SECRET}",
            "weights": {"from": f"{SECRET}/r18.safetensors", "sha256": "ab" * 32},
            "source": ["folder", SECRET],
            "train": {"images": 1234, "identities": 56, **splits},
            "test": {"images": 7, "identities": 8, "digest": "1"},
            "image_digests": ["d1"],
        }
        provenance.keep(folder, record)
        row = {"protocol": "all", "mode": "all", "shots": None, "direction": "infrared->visible", "queries": 4}
        scores = {name: {"mean": value, "std": 0.0, "trials": [value]} for name, value in SCORES.items()}
        rows = [{**row, "gallery": 5, "feature": "after_neck", **scores}]
        outcome = {"method": "mspac", "step": 3, "data": {"name": "synthetic", "own": True}, "rows": rows, "primary": 0}
        results.write({**outcome, "notes": ["A note on the data."]}, folder)
        yield folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("safetensors") / "new" / "model"
    export("--model", run, "--to", "safetensors", "--output", output, "--license", "apache-2.0")
    return output


def test_features_are_those_of_the_run_bit_for_bit(run, exported):
    ours, theirs = jax_mspac.load(run), jax_mspac.load(exported)
    assert theirs.step == 3 and theirs.config.method == "mspac" and theirs.provenance is None
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 20, 3), np.uint8)
    for modality in ("visible", "infrared"):
        expected = ours.embed(images, modality)
        np.testing.assert_array_equal(theirs.embed(images, modality), expected)
        assert abs(expected[0] - expected[1]).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(theirs.variables), jax.device_get(ours.variables))


def test_the_folder_holds_three_files_without_code_and_without_paths_of_the_machine(run, exported):
    assert sorted(path.name for path in exported.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    with safe_open(exported / "model.safetensors", framework="numpy") as file:
        names = set(file.keys())
        assert file.metadata() == {"format": "jax_mspac", "jax_mspac": jax_mspac.__version__, "step": "3"}
    assert "embedder/params/neck/scale" in names and not any("heads" in name for name in names)
    for path in exported.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path
    saved, own = (json.loads((folder / "config.json").read_text()) for folder in (exported, run))
    assert saved["data"]["data_dir"] == "" and saved["model"]["pretrained"] == "r18.safetensors"
    assert own["data"]["data_dir"] == SECRET
    assert {**saved["model"], "pretrained": 0} == {**own["model"], "pretrained": 0}


def test_the_card_is_written_from_the_records_of_the_run(run, exported):
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: jax_mspac\n") and "\nlicense: apache-2.0\n" in card
    assert "1,234 images of 56 identities" in card and "r18.safetensors (SHA-256 abab" in card
    assert "**12.50**" in card and "**6.25**" in card and "infrared->visible" in card and "A note on the data." in card
    assert "These numbers are of the checkpoint" not in card and "checkpoint of step 3" in card
    assert f"jax {jax.__version__}" in card and "surveillance" in card and "person 1" not in card
    assert methods.named("mspac").title in card


def test_a_card_tells_numbers_of_another_step_and_what_is_missing(run, tmp_path):
    outcome = json.loads((run / "results.json").read_text())
    for name in ("config.json", FOLDER):
        (tmp_path / name).symlink_to(run / name)
    export("--model", tmp_path, "--to", "safetensors")
    card = (tmp_path / "export" / "safetensors" / "README.md").read_text()
    assert "The run has no results." in card and "provenance.json is missing" in card
    assert "\nlicense:" not in card and "not chosen a license" in card
    (tmp_path / "results.json").write_text(json.dumps({**outcome, "step": 2}))
    export("--model", tmp_path, "--to", "safetensors", "--overwrite")
    card = (tmp_path / "export" / "safetensors" / "README.md").read_text()
    assert "**These numbers are of the checkpoint of step 2; the weights are of step 3.**" in card


def test_whom_it_was_trained_on_is_handed_on_when_asked_for(run, tmp_path):
    export("--model", run, "--to", "safetensors", "--output", tmp_path / "a", "--provenance")
    record = jax_mspac.load(tmp_path / "a").provenance
    assert record["image_digests"] == ["d1"] and record["train"]["names"] == ["person 1", "person 2"]
    assert SECRET not in (tmp_path / "a" / provenance.FILE).read_text()
    # Of what was loaded it can be written again, and is the same.
    export("--model", tmp_path / "a", "--to", "safetensors", "--output", tmp_path / "b", "--provenance")
    for name in ("config.json", provenance.FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_folder_holds_one_checkpoint(exported):
    assert jax_mspac.load(exported, checkpoint="3").step == 3
    for other in ("best", "4"):
        with pytest.raises(UserError, match=rf"checkpoint '{other}': .*model holds one checkpoint, of step 3"):
            jax_mspac.load(exported, checkpoint=other)


def test_what_is_there_is_replaced_only_when_asked_for(run, tmp_path):
    output = tmp_path / "model"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    arguments = ("--model", run, "--to", "safetensors", "--output", output)
    assert f"{output} exists: name another --output, or replace" in refused(*arguments)
    export(*arguments, "--overwrite")
    assert {path.name for path in output.iterdir()} >= {"mine.txt", "model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert "--output names a folder" in refused(*arguments[:-1], output / "mine.txt", "--overwrite")


def test_a_disk_that_fails_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "model.partial" / weights_folder.FILE))

    monkeypatch.setattr(weights_folder, "save", full)
    told = refused("--model", run, "--to", "safetensors", "--output", tmp_path / "model")
    assert "No space left on device" in told and "free some space" in told
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    told = refused("--model", run, "--to", "safetensors", "--output", tmp_path / "file" / "model")
    assert f"{tmp_path / 'file'} is a file; a folder is needed" in told


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "model.safetensors is damaged"),
        (lambda path: save_file({"a": np.zeros(2)}, path), "no model of jax_mspac but of another program"),
        (lambda path: save_file({"a": np.zeros(2)}, path, {"format": "jax_mspac"}), r"damaged \('step'\)"),
        (
            lambda path: save_file({"a": np.zeros(2)}, path, {"format": "jax_mspac", "step": "1"}),
            r"of another model than config.json beside it:\n  a: saved float64\[2\], expected nothing",
        ),
        (lambda path: path.unlink(), "no checkpoint in"),
    ],
)
def test_files_that_are_damaged_or_of_others_are_named(exported, tmp_path, spoil, told):
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=told):
        jax_mspac.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "caffe"), "hub|safetensors|stablehlo|onnx|torch"),
        (("--to", "onnx", "--license", "mit"), "--license is no flag of --to onnx"),
        (("--to", "safetensors", "--license", "mit\nevil: yes"), "expected an identifier of the Hub"),
        (("--to", "hub"), "--repo OWNER/NAME is required"),
        (("--to", "safetensors", "--provenance"), "has no provenance.json"),
        (("--to", "safetensors", "--checkpoint", "9"), "no checkpoint of step 9"),
        (("--to", "torch"), "no layout of public checkpoints of mspac is known"),
        ((), "--model and --to are required"),
    ],
)
def test_flags_that_do_not_fit_are_told(run, tmp_path, arguments, told):
    for name in ("config.json", FOLDER):
        (tmp_path / name).symlink_to(run / name)
    assert told in refused("--model", tmp_path, *arguments)
    assert not (tmp_path / "export").exists() or not list((tmp_path / "export").iterdir())


def test_a_model_of_the_hub_needs_an_output():
    assert "--output is required" in refused("--model", "hf://a/b", "--to", "safetensors")


def test_paths_in_settings_of_a_data_set_are_left_out():
    config = made_runs.config_of("two_stream")
    config.data.memory, config.data.source = "/a/b.npz", "relative"
    config.model.pretrained = "hf://timm/resnet50.tv_in1k"
    public = weights.public(config)
    assert public.data.memory == public.data.source == "" and public.model.pretrained == config.model.pretrained
    assert config.data.memory == "/a/b.npz" and pathlib.Path(config.data.source).name == "relative"
