"""Decoded images in one file: the same images, batches and runs as from a prepared set, without TensorFlow."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers import sets, small_runs
from helpers.trees import draw_folder_tree, draw_regdb_tree, draw_sysu_tree

from jax_mspac import prepare
from jax_mspac.data import memory
from jax_mspac.data.batches import in_order, training_batches
from jax_mspac.data.registry import named
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.errors import UserError
from jax_mspac.runs import provenance

SIZE = {"height": 32, "width": 16}
# All that a run from memory does without.
ABSENT = "tensorflow tensorflow_datasets tensorboard ml_collections safetensors huggingface_hub skimage sklearn".split()


def exported(name, folder, **fields):
    data_set, fields = named(name), {**named(name).fields, **fields, **SIZE}
    memory.write(folder / "set.npz", data_set, data_set.look(fields), fields)
    return memory.opened(folder / "set.npz", data_set, fields)


@pytest.fixture(scope="module", params=["folder", "sysu_mm01"])
def both(request, tmp_path_factory):
    """A prepared set (PNG or JPEG files) and the file of it."""
    name, folder = request.param, tmp_path_factory.mktemp("set")
    {"folder": draw_folder_tree, "sysu_mm01": draw_sysu_tree}[name](folder / "tree")
    source = str(folder / "tree")
    builder = sets.build(name, source=source, data_dir=folder / "tfds")
    builder.download_and_prepare()
    return builder, exported(name, folder, source=source)


def test_labels_paths_and_provenance_are_those_of_the_prepared_set(both):
    builder, file = both
    assert set(file.splits) == set(builder.info.splits)
    for splits in [(split,) for split in file.splits] + [tuple(reversed(file.splits))]:
        expected, held = sets.load_split(builder, "+".join(splits)), file.images(splits)
        for column in ("identities", "cameras", "modalities", "paths"):
            np.testing.assert_array_equal(getattr(held, column), getattr(expected, column))
            assert getattr(held, column).dtype == getattr(expected, column).dtype
        assert held.identity_names == expected.identity_names
        assert provenance.summary(held) == provenance.summary(expected)
        some = np.arange(len(held))[::2]
        assert held.select(some).digests == expected.select(some).digests
        np.testing.assert_array_equal(held.picture(1).shape, (32, 16, 3))


@pytest.mark.parametrize("devices", [1, 2])
def test_batches_are_equal_bit_for_bit(both, devices):
    builder, file = both
    made = []
    for image_set in (sets.load_split(builder, "train"), file.images(["train"])):
        sampler = IdentitySampler(image_set, seed=5, identities=2, images=(2, 1))
        made.append(list(training_batches(sampler, **SIZE, start=1, stop=6, devices=devices)))
    assert len(made[0]) == len(made[1]) == 5
    for one, other in zip(*made, strict=True):
        for modality in one:
            for name, values in one[modality].items():
                np.testing.assert_array_equal(other[modality][name], values)
                assert other[modality][name].dtype == values.dtype


def test_images_of_an_evaluation_are_equal_and_the_last_ones_are_fewer(both):
    builder, file = both
    positions = np.arange(7)[::-1]
    decoded, held = (
        list(in_order(image_set, positions, **SIZE, batch=3))
        for image_set in (sets.load_split(builder, "test"), file.images(["test"]))
    )
    assert [len(batch) for batch in held] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(held), np.concatenate(decoded))
    with pytest.raises(UserError, match="32x16 pixels, and 64x32"):
        in_order(file.images(["test"]), positions, height=64, width=32, batch=3)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The config of a small run, and that of the same run from memory."""
    small_runs.draw(tmp_path)
    monkeypatch.setitem(small_runs.methods.METHODS, "linear", None)
    small_runs.register()
    config = small_runs.config_of(tmp_path, **CHANGES)
    exported("folder", tmp_path, **{name: config.data[name] for name in (*named("folder").fields, "source")})
    return config, small_runs.config_of(tmp_path, **CHANGES, **{"data.memory": str(tmp_path / "set.npz")})


CHANGES = {"train.steps": 8, "eval.every": 4}
PROGRAM = """
import json, pathlib, sys
folder, helpers, absent, changes = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(absent))
sys.path[:0] = [helpers]
from helpers import small_runs
from jax_mspac.runs.evaluate import evaluate_checkpoint
small_runs.register()
config = small_runs.config_of(pathlib.Path(folder), **changes)
small_runs.loop.train(config, f"{folder}/without")
evaluate_checkpoint(config, pathlib.Path(folder) / "without")
"""


def test_a_run_from_memory_is_the_run_of_the_prepared_set(run, tmp_path):
    for config, workdir in zip(run, ("prepared", "memory"), strict=True):
        small_runs.loop.train(config, tmp_path / workdir)
    small_runs.assert_equal_runs(run[1], tmp_path / "prepared", tmp_path / "memory")
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("prepared", "memory")]
    assert results[0] == results[1]


def test_training_and_evaluation_need_no_tensorflow(run, tmp_path):
    small_runs.loop.train(run[1], tmp_path / "here")
    changes = {**CHANGES, "data.memory": run[1].data.memory}
    tests = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps([str(tmp_path), str(tests), ABSENT, changes])],
        cwd=tests.parent,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # Another process may round otherwise.
    for one, other in zip(*(small_runs.metrics_of(tmp_path / name) for name in ("here", "without")), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert {path.name for path in (tmp_path / "without").iterdir()} >= {"results.json", "checkpoints"}
    assert not (tmp_path / "without" / "tensorboard").exists()


def test_files_of_other_fields_or_none_are_refused(tmp_path):
    draw_folder_tree(tmp_path / "tree")
    folder = named("folder")
    fields = {**folder.fields, "source": str(tmp_path / "tree"), **SIZE}
    exported("folder", tmp_path, source=fields["source"])
    path = tmp_path / "set.npz"
    with pytest.raises(UserError, match="height 32, where config.data.height is 288"):
        memory.opened(path, folder, {**fields, "height": 288})
    with pytest.raises(UserError, match="test_fraction .*, where config.data.test_fraction is 0.9"):
        memory.opened(path, folder, {**fields, "test_fraction": 0.9})
    with pytest.raises(UserError, match="name 'folder', where config.data.name is 'sysu_mm01'"):
        memory.opened(path, named("sysu_mm01"), {**fields, **named("sysu_mm01").fields})
    with pytest.raises(UserError, match="split nowhere: .* has only"):
        memory.opened(path, folder, fields).images(["nowhere"])
    with pytest.raises(UserError, match="no such file; python -m jax_mspac.prepare --export"):
        memory.opened(tmp_path / "absent.npz", folder, fields)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"some text"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="or damaged"):
            memory.opened(path, folder, fields)


def test_the_command_exports_one_set_and_says_how_to_train(tmp_path, capsys):
    draw_folder_tree(tmp_path / "tree")
    options = {"source": str(tmp_path / "tree"), "data_dir": ""}
    path = tmp_path / "set.npz"
    prepare.prepare("folder", **options, export=path, size=(32, 16))
    output = capsys.readouterr().out
    told = f"--config.data.memory={path} --config.data.height=32 --config.data.width=16"
    assert f"written: {path}" in output and told in output
    file = memory.opened(path, named("folder"), {**named("folder").fields, **SIZE})
    assert sum(len(file.images([split])) for split in file.splits) == int(output.split("written: ")[1].split()[1])
    assert [child.name for child in tmp_path.iterdir() if "partial" in child.name] == []

    draw_regdb_tree(tmp_path / "regdb")
    with pytest.raises(UserError, match="--export writes one of the .* choose it with --trial"):
        prepare.prepare("regdb", source=str(tmp_path / "regdb"), data_dir="", export=path)
