"""A model goes to the Hub and comes back, over HTTP on loopback; what the Hub refuses is told with what to do."""

import socket

import numpy as np
import pytest
from helpers import hub_server, made_runs
from helpers.exports import export, refused
from huggingface_hub import constants

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.models.backbones import BACKBONES

NAME = "someone/reid"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet18", made_runs.SHALLOW)
        yield made_runs.make(tmp_path_factory.mktemp("run") / "run", "two_stream")


@pytest.fixture
def hub(tmp_path):
    with hub_server.serving(tmp_path / "cache") as server:
        yield server


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)


def files_of(run, folder):
    export("--model", run, "--to", "safetensors", "--output", folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The library's own, where a file goes up by Git LFS.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_model_goes_to_the_hub_and_comes_back(hub, login, run, capsys, tmp_path):
    export("--model", run, "--to", "hub", "--repo", NAME, "--private", "--license", "mit")
    told = capsys.readouterr().out
    (commit,) = [name for name in hub.repositories[NAME].commits if name in told]
    assert f'jax_mspac.load("hf://{NAME}")' in told and hub.repositories[NAME].private
    files = hub.repositories[NAME].commits[commit]
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert b"license: mit" in files["README.md"] and f'load("hf://{NAME}")'.encode() in files["README.md"]

    ours, theirs = jax_mspac.load(run), jax_mspac.load(f"hf://{NAME}")
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 3), np.uint8)
    np.testing.assert_array_equal(theirs.embed(images, "infrared"), ours.embed(images, "infrared"))
    assert str(theirs.workdir).startswith(str(tmp_path / "cache")) and commit in str(theirs.workdir)

    # There is something now. A later commit is main, and the first one stays under its name.
    assert f"hf://{NAME} exists and holds README.md, config.json" in refused(
        "--model", run, "--to", "hub", "--repo", NAME
    )
    export("--model", run, "--to", "hub", "--repo", NAME, "--overwrite")
    assert len(hub.repositories[NAME].commits) == 3
    assert b"license: mit" not in hub.repositories[NAME].at("main")[1]["README.md"]
    assert commit in str(jax_mspac.load(f"hf://{NAME}@{commit}").workdir)
    assert commit not in str(jax_mspac.load(f"hf://{NAME}").workdir)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_file_that_does_not_arrive_is_told_and_nothing_is_committed(hub, login, run):
    hub.full = True
    told = refused("--model", run, "--to", "hub", "--repo", NAME)
    assert f"hf://{NAME}: Error while uploading 'model.safetensors'" in told and "nothing was committed" in told
    assert list(hub.repositories[NAME].at("main")[1]) == [".gitattributes"]


def test_what_was_downloaded_is_there_without_a_network(hub, run, tmp_path, monkeypatch):
    hub.repositories[NAME] = hub_server.Repository()
    hub.repositories[NAME].commit(files_of(run, tmp_path / "model"))
    first = jax_mspac.load(f"hf://{NAME}").workdir
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert jax_mspac.load(f"hf://{NAME}").workdir == first and not hub.asked
    with pytest.raises(UserError, match="hf://someone/else: the Hub cannot be reached, and the model is not in"):
        jax_mspac.load("hf://someone/else")


def test_a_hub_that_does_not_answer_is_told(hub, login, run, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    template = f"{nowhere}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the Hub's client waits before it tries again
    with pytest.raises(UserError, match=f"hf://{NAME}: the Hub cannot be reached.*HF_ENDPOINT"):
        jax_mspac.load(f"hf://{NAME}")
    assert "the Hub cannot be reached" in refused("--model", run, "--to", "hub", "--repo", NAME)


def test_repositories_that_are_none_of_ours_are_named(hub, run, tmp_path):
    files = files_of(run, tmp_path / "model")
    others = {
        "no/config": {"README.md": b"", "model.safetensors": b"x" * 1000},
        "no/run": {"config.json": b'{"architectures": ["ResNet"]}', "model.safetensors": b"x" * 1000},
        "no/weights": {"config.json": files["config.json"], "pytorch_model.bin": b"x" * 1000},
    }
    for name, held in others.items():
        hub.repositories[name] = hub_server.Repository()
        hub.repositories[name].commit(held)
    for name, told in {
        "no/config": "it has no config.json",
        "no/run": "its config.json is not the config of a run",
        "no/weights": "it has no model.safetensors",
    }.items():
        with pytest.raises(UserError, match=rf"^hf://{name} is no model of jax_mspac: {told}.*pretrained=hf://{name}"):
            jax_mspac.load(f"hf://{name}")
    # Nothing large was fetched to find that out.
    assert not [line for line in hub.asked if "safetensors" in line or "pytorch_model" in line]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("hf://someone/none", "there is no such repository, or it is private.*hf auth login"),
        ("hf://someone/private", "there is no such repository, or it is private.*hf auth login"),
        ("hf://someone/public@v9", "the repository has no such branch, tag or commit"),
        ("hf://some/one/else", "expected hf://OWNER/NAME"),
        ("hf://", "expected hf://OWNER/NAME"),
    ],
)
def test_names_that_lead_nowhere_are_told(hub, spec, told):
    hub.repositories["someone/private"] = hub_server.Repository(private=True)
    hub.repositories["someone/public"] = hub_server.Repository()
    for repository in hub.repositories.values():
        repository.commit({"config.json": b"{}"})
    with pytest.raises(UserError, match=told):
        jax_mspac.load(spec)


def test_a_token_that_is_missing_or_wrong_is_told_and_nothing_is_written(hub, run, monkeypatch):
    arguments = ("--model", run, "--to", "hub", "--repo", NAME)
    assert "no token of the Hugging Face Hub on this machine: log in by hf auth login" in refused(*arguments)
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert "the Hub refuses the token" in refused(*arguments)
    assert hub.repositories == {}
    assert "--repo is reid; expected OWNER/NAME" in refused(*arguments[:-1], "reid")
