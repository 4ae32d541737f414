"""Whom a run was trained on: kept in its folder, and compared when it resumes, is evaluated or shown."""

import hashlib
import json
import shlex
import shutil
import sys

import numpy as np
import pytest
from helpers import small_runs
from helpers.trees import draw_folder_tree
from PIL import Image

import jax_mspac
from jax_mspac import main
from jax_mspac.data import image_set
from jax_mspac.errors import UserError
from jax_mspac.runs import provenance
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.training import loop, series

CHANGES = {"train.steps": 2, "eval.every": 0, "eval.trials": 1, "checkpoint.every": 1}


def images_of(contents):
    """An image set of identity -> its images, each an arbitrary text."""
    return image_set.from_examples(
        {"image": text.encode(), "identity": name, "camera": 1, "modality": 0, "path": f"{name}/{i}"}
        for name, texts in contents.items()
        for i, text in enumerate(texts)
    )


def record_of(contents, source=""):
    data = {"name": "folder", "source": source, "train_splits": ("train",)}
    return provenance.record(images_of(contents), images_of({"z": "z"}), data=data, weights="none")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on 13 drawn persons: its config and folder."""
    small_runs.register()
    folder = small_runs.draw(tmp_path_factory.mktemp("provenance"))
    config = small_runs.config_of(folder, **CHANGES)
    loop.train(config, folder / "run")
    return config, folder / "run"


@pytest.fixture
def copied(trained, tmp_path):
    config, workdir = trained
    return config.copy_and_resolve_references(), shutil.copytree(workdir, tmp_path / "run")


def test_an_identity_is_seen_by_its_images_or_by_its_name_in_the_same_source(tmp_path):
    record = record_of({"a": "1234", "b": "56"}, source=str(tmp_path))
    elsewhere, same = {"name": "folder", "source": ""}, {"name": "folder", "source": str(tmp_path / "." / "..") + "/"}
    same["source"] += tmp_path.name
    # Half of its images; a single copy among three is an accident.
    assert provenance.seen(record, images_of({"x": "17", "y": "589"}), data=elsewhere) == ["x"]
    assert provenance.seen(record, images_of({"a": "7", "c": "8"}), data=elsewhere) == []
    assert provenance.seen(record, images_of({"a": "7", "c": "8"}), data=same) == ["a"]
    assert provenance.seen(record, images_of({"a": "7"}), data={**same, "name": "regdb"}) == []


@pytest.mark.parametrize(("known", "expected"), [("12", ["x"]), ("1", []), ("ab", ["x"])])
def test_an_identity_is_seen_by_half_of_its_images_of_one_modality(tmp_path, known, expected):
    """Of three visible and eight infrared images, where infrared may be simulated by another law than in training."""
    test = image_set.from_examples(
        {"image": text.encode(), "identity": "x", "camera": 1, "modality": text > "9", "path": text}
        for text in ("123abcd" if known == "ab" else "123abcdefgh")
    )
    data = {"name": "folder", "source": ""}
    assert provenance.seen(record_of({"a": known}), test, data=data) == expected


def test_those_that_the_weights_were_trained_on_count(tmp_path):
    provenance.keep(tmp_path, record_of({"a": "12"}))
    data = {"name": "folder", "source": "", "train_splits": ("train",)}
    record = provenance.record(images_of({"b": "3"}), images_of({"z": "z"}), data=data, weights=str(tmp_path))
    assert provenance.seen(record, images_of({"x": "1", "y": "3", "n": "4"}), data=data) == ["x", "y"]


def test_doubt_about_the_weights_is_doubt_about_the_run(tmp_path):
    data = {"name": "folder", "source": "", "train_splits": ("train",)}
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    for folder in (known, unknown):
        folder.mkdir()
    (tmp_path / "w.npz").write_bytes(b"weights")
    provenance.keep(known, record_of({"a": "12"}))
    provenance.keep(unknown, provenance.imported(tmp_path / "w.npz"))
    images = images_of({"b": "3"})
    for folder, why in ((known, ""), (unknown, "converted from"), (tmp_path, "is missing")):
        record = provenance.record(images, images, data=data, weights=str(folder))
        assert why in provenance.unknown(record) and bool(why) == bool(provenance.unknown(record))
        # And of a run that starts from that one.
        (tmp_path / "next").mkdir(exist_ok=True)
        provenance.keep(tmp_path / "next", record)
        following = provenance.record(images, images, data=data, weights=str(tmp_path / "next"))
        assert provenance.unknown(following) == provenance.unknown(record)


def test_a_digest_tells_contents_paths_names_and_labels_apart():
    base = images_of({"a": "12", "b": "34"})
    others = [
        images_of({"a": "12", "b": "35"}),
        images_of({"a": "12", "c": "34"}),
        images_of({"a": "12", "b": "34", "c": "5"}),
    ]
    moved = base.select(np.arange(4))
    moved.cameras[0] = 2
    digests = [provenance.summary(one)["digest"] for one in (base, *others, moved)]
    assert len(set(digests)) == 5
    assert provenance.summary(images_of({"b": "34", "a": "12"}))["digest"] == digests[0]


def test_a_run_tells_what_it_was_made_from_without_the_data(trained):
    config, workdir = trained
    found = json.loads((workdir / provenance.FILE).read_text())
    tree = workdir.parent / "tree"
    assert found["train"]["names"] == sorted(found["train"]["names"]) and found["weights"] == {"from": "none"}
    assert found["source"] == ["folder", str(tree)] and found["train"]["splits"] == list(config.data.train_splits)
    known = set(found["image_digests"])
    for person in tree.glob("*/*"):
        of_person = {hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in person.iterdir()}
        assert of_person <= known if person.name in found["train"]["names"] else not of_person & known
    assert found["train"]["images"] == len(known) and found["command"] == shlex.join(sys.argv)


def test_a_loaded_model_knows_the_files_that_it_was_trained_on(trained, tmp_path):
    model = jax_mspac.load(trained[1])
    files = sorted((trained[1].parent / "tree").glob("*/*/*"))
    known = [path.parent.name in model.provenance["train"]["names"] for path in files]
    assert any(known) and not all(known)
    np.testing.assert_array_equal(model.trained_on(files), known)
    with pytest.raises(UserError, match="gone.png: No such file"):
        model.trained_on([tmp_path / "gone.png"])


def test_weights_of_a_file_are_named_with_their_digest(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"weights")
    data = {"name": "folder", "train_splits": ("train",)}
    images, weights = images_of({"a": "1"}), str(tmp_path / "w.npz")
    found = provenance.record(images, images, data=data, weights=weights)["weights"]
    assert found == {"from": weights, "sha256": hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize(
    "changes",
    [{"data.seed": 5}, {"data.test_fraction": 0.75, "data.val_fraction": 0.0}, {"data.folds": 2, "data.fold": 2}],
)
def test_evaluation_on_trained_people_is_refused(copied, changes):
    config, workdir = copied
    before = (workdir / "results.json").read_bytes()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=r"was trained on \d of the \d+ test identities .*allow_trained_identities"):
        evaluate_checkpoint(config, workdir)
    assert (workdir / "results.json").read_bytes() == before


def test_who_means_it_gets_rows_that_say_so_beside_the_run_s_own(copied):
    config, workdir = copied
    before = (workdir / "results.json").read_bytes()
    config.data.seed, config.eval.allow_trained_identities = 5, True
    outcome = evaluate_checkpoint(config, workdir)
    count = outcome["rows"][0]["trained_identities"]
    assert count >= 1 and not outcome["data"]["own"]
    (folder,) = (workdir / "evaluations").iterdir()
    table = [line for line in (folder / "results.md").read_text().splitlines() if "->" in line]
    told = f"(trained on {count} of the {outcome['data']['identities']} identities)"
    assert len(table) == len(outcome["rows"]) and all(told in line for line in table)
    assert json.loads((folder / "results.json").read_text()) == outcome
    assert (workdir / "results.json").read_bytes() == before


def test_evaluation_on_another_data_set_leaves_the_run_s_results_alone(copied, tmp_path):
    config, workdir = copied
    before = (workdir / "results.json").read_bytes()
    draw_folder_tree(tmp_path / "other", identities=[f"stranger {i}" for i in range(8)], images=2, suffix=".jpg")
    config.data.source, config.data.test_fraction, config.data.val_fraction = str(tmp_path / "other"), 1.0, 0.0
    outcome = evaluate_checkpoint(config, workdir)
    assert outcome["data"]["identities"] == 8 and any("not those which the run recorded" in n for n in outcome["notes"])
    assert (workdir / "results.json").read_bytes() == before
    assert [path.name for path in (workdir / "evaluations").iterdir()] == [f"folder-{outcome['data']['digest'][:8]}"]


def test_a_run_resumes_on_its_own_images_alone(trained, tmp_path):
    config, workdir = trained
    workdir = shutil.copytree(workdir, tmp_path / "run")
    tree = shutil.copytree(trained[1].parent / "tree", tmp_path / "tree")
    moved = config.copy_and_resolve_references()
    moved.data.source = str(tree)
    assert loop.train(moved, workdir)["data"]["own"]
    # Of a person who was trained on, one image is exchanged; then a person comes who is trained on.
    name = provenance.read(workdir)["train"]["names"][0]
    image = next((tree / "rgb" / name).iterdir())
    kept = image.read_bytes()
    Image.new("RGB", (24, 48)).save(image)
    with pytest.raises(UserError, match="files or labels have changed"):
        loop.train(moved, workdir)
    image.write_bytes(kept)
    for modality in ("rgb", "ir"):
        shutil.copytree(tree / modality / name, tree / modality / "person 99")
    with pytest.raises(UserError, match=r"not those that the run began with: .* Give the data back as it was"):
        loop.train(moved, workdir)


def test_a_run_resumes_without_the_weights_that_it_began_with(tmp_path):
    small_runs.register()
    folder = small_runs.draw(tmp_path)
    np.savez(tmp_path / "w.npz", weight=np.ones(2))
    config = small_runs.config_of(folder, **CHANGES, **{"model.pretrained": str(tmp_path / "w.npz")})
    before = loop.train(config, folder / "run")
    (tmp_path / "w.npz").unlink()
    assert loop.train(config, folder / "run")["rows"] == before["rows"]
    assert "sha256" in provenance.read(folder / "run")["weights"]


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / provenance.FILE).write_text("{}")
    with pytest.raises(UserError, match=r"provenance.json is damaged"):
        provenance.read(tmp_path)
    assert provenance.read(tmp_path / "elsewhere") is None


def test_scores_of_features_and_a_run_do_not_share_a_folder(copied, tmp_path):
    config, workdir = copied
    with pytest.raises(UserError, match="run holds a training run, whose results stay its own"):
        main.run(config, workdir, "score", features=tmp_path / "given.npz")
    (tmp_path / "scores").mkdir()
    shutil.copy(workdir / "results.json", tmp_path / "scores")
    with pytest.raises(UserError, match="scores holds results of something else than a training run"):
        series.train(config, tmp_path / "scores")
