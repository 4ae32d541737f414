"""Checkpoints of public PyTorch code become runs with the same features, and go back; what does not fit is named."""

import functools
import json

import jax
import numpy as np
import pytest
from flax import traverse_util
from helpers.public_networks import NETWORKS, generated
from helpers.trees import draw_sysu_tree
from safetensors.numpy import save_file

import jax_mspac
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.data.images import read_rgb, resize
from jax_mspac.errors import UserError
from jax_mspac.models import layouts
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.report import report
from jax_mspac.runs import conversion, provenance
from jax_mspac.runs.evaluate import evaluate_checkpoint

torch = pytest.importorskip("torch")
HEIGHT, WIDTH = 96, 48
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def weights_of(system):
    tensors = generated(NETWORKS[system].shapes)
    if "bottleneck.bias" in tensors:
        tensors["bottleneck.bias"][:] = 0
    return tensors


def in_torch(tensors):
    return {name: torch.from_numpy(value) for name, value in tensors.items()}


def config_for(system, **changes):
    config = config_lib.default_config("sysu_mm01")
    config.method = system
    config.data.height, config.data.width = HEIGHT, WIDTH
    config.eval.batch = 8
    config.eval.flip = False
    config.update_from_flattened_dict(changes)
    return config


def expected(system, tensors, pixels, modality):
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    return NETWORKS[system].features(in_torch(tensors), images, modality).numpy()


def written(path, system, form):
    """A file as public code, or those who pass it on, write it."""
    tensors = weights_of(system)
    if form == "scores":  # as the training scripts do, beside scores of numpy
        scores = {"cmc": np.float32([0.5, 0.75]), "mAP": np.float64(0.25), "mINP": np.float32(0.125), "epoch": 7}
        torch.save({"net": in_torch(tensors), **scores}, path)
    elif form == "wrapped":
        torch.save({"state_dict": in_torch({f"module.{name}": value for name, value in tensors.items()})}, path)
    else:
        save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """System -> the folder of a converted run; each is made once."""
    root = tmp_path_factory.mktemp("converted")
    tree = draw_sysu_tree(root / "tree")
    forms = {
        "agw": ("agw_best.t", "scores"),
        "caj": ("caj_best.t", "scores"),
        "hetero_center": ("hc.pth", "wrapped"),
        "hetero_center_triplet": ("hct.safetensors", "flat"),
    }

    def make(system):
        folder = root / system
        if not folder.exists():
            name, form = forms[system]
            data = {"data.source": str(tree), "data.data_dir": str(root / "tfds")}
            conversion.from_torch(written(root / name, system, form), folder, config_for(system, **data))
        return folder

    return make


SYSTEMS = ["hetero_center_triplet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hetero_center", "agw"))]


@pytest.mark.parametrize("system", SYSTEMS)
def test_features_are_those_of_the_public_network_there_and_back(converted, system, tmp_path):
    model, tensors = jax_mspac.load(converted(system)), weights_of(system)
    assert model.step == 0
    pixels = np.random.default_rng(3).normal(size=(2, HEIGHT, WIDTH, 3)).astype(np.float32)
    conversion.to_torch(converted(system), "latest", tmp_path / "new" / "back.t")
    back = torch.load(tmp_path / "new" / "back.t", weights_only=True)["net"]
    assert {name: value.shape for name, value in back.items()} == NETWORKS[system].shapes
    assert {value.dtype for value in back.values()} == {torch.float32, torch.int64}
    found = {}
    for modality in ("visible", "infrared"):
        wanted = expected(system, tensors, pixels, modality)
        found[modality] = model.embed_normalized(pixels, modality)
        np.testing.assert_allclose(found[modality], wanted, atol=1e-5)
        assert abs(wanted[0] - wanted[1]).max() > 1e-3  # or the images would not matter
        again = expected(system, {name: value.numpy() for name, value in back.items()}, pixels, modality)
        np.testing.assert_allclose(again, wanted, atol=1e-6)
    assert abs(found["visible"] - found["infrared"]).max() > 1e-3
    names = [name for name in tensors if "classifier" in name or "fc_list" in name]
    assert len(names) in (1, 12)
    for name in names:
        np.testing.assert_array_equal(back[name], tensors[name])


def test_image_files_embed_as_in_the_public_code(converted):
    system = "hetero_center_triplet"
    folder = converted(system)
    path = sorted(folder.parent.glob("tree/cam1/*/*.jpg"))[0]
    pixels = resize(read_rgb(path), HEIGHT, WIDTH).astype(np.float32)[None]
    wanted = expected(system, weights_of(system), (pixels / 255 - MEAN) / DEVIATION, "visible")
    np.testing.assert_allclose(jax_mspac.load(folder).embed(path, "visible"), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("agw", "agw_best.t"),
        ("caj", "caj_best.t"),
        ("hetero_center", "hc.pth"),
        ("hetero_center_triplet", "hct.safetensors"),
    ],
)
def test_a_converted_run_is_evaluated_and_reported_and_says_what_is_not_known(converted, system, name):
    folder = converted(system)
    saved, config = json.loads((folder / "config.json").read_text()), config_for("mspac")
    config.data.source, config.data.data_dir = saved["data"]["source"], saved["data"]["data_dir"]
    outcome = evaluate_checkpoint(config, folder)
    assert outcome["method"] == system and outcome["rows"] and outcome["data"]["own"]
    (note,) = [note for note in outcome["notes"] if "not known" in note]
    assert name in note
    assert (folder / "results.json").exists()
    page = report(folder).read_text()
    assert "not known" in page and "that training has not seen" not in page


def test_a_converted_run_is_neither_overwritten_nor_trained_on(converted):
    folder = converted("hetero_center_triplet")
    with pytest.raises(UserError, match=r"hct\.safetensors: whether .* is not known"):
        jax_mspac.load(folder).trained_on([])
    with pytest.raises(UserError, match=r"converted from .*hct\.safetensors.*--config\.model\.pretrained="):
        provenance.resumed(folder, None)
    with pytest.raises(UserError, match="holds a run already"):
        conversion.from_torch(folder.parent / "hct.safetensors", folder, config_for("hetero_center_triplet"))


@pytest.fixture(scope="module")
def networks():
    """System -> its networks, all zeros, the layout, and the names of its backbone."""

    def make(system):
        layout, tensors = methods.named(system).layout, weights_of(system)
        config = methods.configured(config_for(system))
        config.update_from_flattened_dict(layout.settings(tensors))
        shapes = jax.eval_shape(methods.build(config, num_identities=5).init, jax.random.key(0))
        made = {**shapes.variables, **shapes.training["networks"]}
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), made)
        return zeros, layout, BACKBONES[config.model.backbone].torch_names

    return functools.cache(make)


def test_every_leaf_of_agw_and_caj_comes_from_the_file_and_goes_back(networks):
    assert methods.named("caj").layout is methods.named("agw").layout
    given, (zeros, layout, names) = weights_of("agw"), networks("agw")
    loaded = layouts.load(zeros, given, layout, names, source="w")
    leaves = traverse_util.flatten_dict(loaded, sep="/")
    assert all(np.any(leaf) for leaf in leaves.values())
    block = {name: given[f"NL_3.1.{name}"] for name in ("theta.weight", "W.0.bias", "W.1.running_mean")}
    ours = "embedder/{}/backbone/shared/nonlocal3_4/{}".format
    np.testing.assert_array_equal(leaves[ours("params", "theta/kernel")], block["theta.weight"][:, :, 0, 0].T)
    mean = block["W.1.running_mean"] - block["W.0.bias"]
    np.testing.assert_array_equal(leaves[ours("batch_stats", "bn/mean")], mean)
    back = layouts.tensors_of(loaded, layout, names, source="run")
    assert {name: value.shape for name, value in back.items()} == NETWORKS["agw"].shapes
    for name in ("visible_module.visible.conv1.weight", "base_resnet.base.layer3.2.conv2.weight", "NL_2.1.phi.bias"):
        np.testing.assert_array_equal(back[name], given[name])


# How many tensors the public networks hold, and some of their names.
@pytest.mark.parametrize(
    ("system", "count", "names"),
    [
        ("rle", 1296, ("middle_module.middle.layer3.5.bn2.weight", "bottleneck2.bias", "classifierg.weight")),
        ("mpanet", 334, ("backbone.MAM3.channel_attention.2.weight", "infrared_classifier_.weight", "bn_neck.bias")),
        ("deen", 1048, ("MFA3.PNL.W.1.running_var", "DEE.FC23.weight", "MFA1.CNL.W.0.bias", "bottleneck.bias")),
    ],
)
def test_networks_of_rle_mpanet_and_deen_go_to_their_names_and_back(system, count, names):
    config = config_for(system, **{"model.backbone": "resnet50", "model.width": 4})
    config = methods.configured(config)
    layout, torch_names = methods.named(system).layout, BACKBONES["resnet50"].torch_names
    shapes = jax.eval_shape(methods.build(config, num_identities=5).init, jax.random.key(0))
    rng = np.random.default_rng(0)
    networks = {**shapes.variables, **shapes.training["networks"]}
    networks = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), networks)
    tensors = layouts.tensors_of(networks, layout, torch_names, source="run")
    assert len(tensors) == count and set(names) <= set(tensors)
    assert layout.lacks(tensors) == [] and layout.classes(tensors) == 5
    held = {"model.modality_alleviation": 2, "model.pattern_masks": 6} if system == "mpanet" else {}
    assert layout.settings(tensors) == {"model.backbone": "resnet50", "model.width": 4, **held}
    zeros = jax.tree.map(np.zeros_like, networks)
    jax.tree.map(np.testing.assert_array_equal, layouts.load(zeros, tensors, layout, torch_names, source="w"), networks)
    others = [name for name, other in conversion.convertible().items() if not other.lacks(tensors)]
    assert system in others


NAME = "local_conv_list.3.0.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop(NAME), f"missing: {NAME}"),
        (lambda t: t.update({NAME: t[NAME][:2]}), rf"of another shape: {NAME} \[2, 32, 1, 1\], .* \[3, 32, 1, 1\]"),
        (lambda t: t.update({NAME: t[NAME] * np.nan}), f"not finite: {NAME}"),
        (lambda t: t.update({"local_conv_list.3.0.scale": t[NAME]}), r"unexpected: local_conv_list\.3\.0\.scale"),
    ],
)
def test_each_tensor_that_does_not_fit_is_named(networks, change, told):
    tensors = weights_of("hetero_center_triplet")
    change(tensors)
    zeros, layout, names = networks("hetero_center_triplet")
    with pytest.raises(UserError, match=rf"^a\.t: the tensors are not those of the model:\n  {told}$"):
        layouts.load(zeros, tensors, layout, names, source="a.t")


def test_a_bias_that_agw_freezes_at_zero_has_to_be_zero(networks):
    tensors = weights_of("agw")
    tensors["bottleneck.bias"][1] = 0.5
    zeros, layout, names = networks("agw")
    with pytest.raises(UserError, match=r"not zero.*model\.neck=affine.*: bottleneck\.bias$"):
        layouts.load(zeros, tensors, layout, names, source="a.t")


def test_parts_that_a_file_cannot_hold_are_named_both_ways(networks):
    zeros, layout, names = networks("hetero_center_triplet")
    params = {**zeros["embedder"]["params"], "attention": {"channel": {"kernel": np.ones((2, 2))}}}
    more = {**zeros, "embedder": {**zeros["embedder"], "params": params}}
    with pytest.raises(UserError, match="does not hold.*: embedder/attention/channel/kernel"):
        layouts.load(more, weights_of("hetero_center_triplet"), layout, names, source="a.t")
    with pytest.raises(UserError, match="^run: the public code has no place for embedder/attention/channel/kernel"):
        layouts.tensors_of(more, layout, names, source="run")


def test_the_other_index_of_hetero_center_s_classifiers_is_known(networks):
    layout, tensors = networks("hetero_center")[1], weights_of("hetero_center")
    dropped = {name.replace("classifier.1.", "classifier.2."): value for name, value in tensors.items()}
    assert dropped.keys() != tensors.keys()
    assert layout.renamed(dropped).keys() == tensors.keys()


@pytest.mark.parametrize(
    ("system", "of", "told"),
    [
        (
            "agw",
            "hetero_center_triplet",
            "begins with classifier.weight.*looks like one of hetero_center_triplet: ",
        ),
        ("hetero_center", "agw", r"begins with visible_net\.visible\..*one of agw or caj or caj_plus: --from agw"),
        ("agw", {"conv1.weight": (4, 3, 7, 7)}, r"looks like a backbone.*--config\.model\.pretrained=FILE"),
        ("caj", {"encoder.0.weight": (3,)}, "its names begin with encoder"),
        ("mspac", "agw", "of mspac is known.*agw, caj"),
    ],
)
def test_a_file_of_another_code_is_told_from_a_damaged_one(tmp_path, system, of, told):
    shapes = NETWORKS[of].shapes if isinstance(of, str) else of
    save_file(generated(shapes), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=told) as caught:
        conversion.from_torch(tmp_path / "w.safetensors", tmp_path / "run", config_for(system))
    assert "damaged" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_setting_that_contradicts_the_file_is_named(tmp_path):
    path = written(tmp_path / "w.safetensors", "hetero_center", "flat")
    with pytest.raises(UserError, match=r"config\.model\.embedding_dim is 7, the file holds 3$"):
        conversion.from_torch(path, tmp_path / "run", config_for("hetero_center", **{"model.embedding_dim": 7}))


@pytest.mark.parametrize(
    ("pixels", "modality", "told"),
    [
        (np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), "visible", "images are uint8"),
        (np.zeros((1, WIDTH, HEIGHT, 3), np.float32), "visible", r"expected normalized float32 \[N, 96, 48, 3\]"),
        (np.full((1, HEIGHT, WIDTH, 3), np.inf, np.float32), "visible", "not finite"),
        (np.zeros((0, HEIGHT, WIDTH, 3), np.float32), "visible", "no images"),
        (np.zeros((1, HEIGHT, WIDTH, 3), np.float32), "thermal", "modality is 'thermal'"),
    ],
)
def test_pixels_that_are_not_normalized_images_are_named(converted, pixels, modality, told):
    model = jax_mspac.load(converted("hetero_center_triplet"))
    with pytest.raises(UserError, match=told):
        model.embed_normalized(pixels, modality)
