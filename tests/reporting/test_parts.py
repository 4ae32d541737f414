"""The parts of the report on small data whose answer is known."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.data import image_set, published
from jax_mspac.data.registry import named
from jax_mspac.metrics.distances import cosine_distances
from jax_mspac.metrics.retrieval import evaluate, evaluate_protocol
from jax_mspac.protocols import folder
from jax_mspac.protocols.base import RetrievalProtocol, Trial, same_identity_and_camera
from jax_mspac.reporting import (
    cameras,
    curves,
    embedding_map,
    heatmaps,
    histograms,
    rankings,
    records,
    scores,
    sections,
    style,
)
from jax_mspac.runs.results import SCORES


def unit(rng, *shape):
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_average_precision_by_hand():
    # Matches at counted ranks 1 and 3 once the second image is excluded: (1 / 1 + 2 / 3) / 2.
    found = rankings.search(
        distances=np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]),
        queries=np.array([7, 8]),
        gallery=np.array([0, 2, 4, 6]),
        matches=np.array([[True, True, False, True], [False, False, False, True]]),
        excluded=np.array([[False, True, False, False], [False, False, False, True]]),
    )
    np.testing.assert_allclose(found.average_precision, [(1 + 2 / 3) / 2, np.nan])
    np.testing.assert_array_equal(found.gallery, [[0, 2, 4, 6], [6, 4, 2, 0]])
    shown = rankings.places(found, 0)
    assert [(p.position, p.rank, p.match) for p in shown] == [
        (0, 1, True),
        (2, None, True),
        (4, 2, False),
        (6, 3, True),
    ]


def test_average_precision_is_that_of_the_metrics():
    rng = np.random.default_rng(0)
    ids, gallery_ids = rng.integers(0, 5, 40), rng.integers(0, 5, 60)
    table = rng.random((40, 60)).round(1)  # many ties
    excluded = rng.random((40, 60)) < 0.3
    matches = ids[:, None] == gallery_ids
    found = rankings.search(table, np.arange(40), np.arange(60), matches, excluded)
    expected = evaluate(table, ids, gallery_ids, excluded=excluded).mAP
    np.testing.assert_allclose(np.nanmean(found.average_precision), expected)


def test_strip_ends_with_the_tenth_image_that_counts_and_is_never_endless():
    table, nobody = np.arange(40.0)[None], np.zeros((1, 40), bool)
    for number, length, last in ((0, 10, 10), (3, 13, 10), (30, 15, None)):
        excluded = np.arange(40)[None] < number
        found = rankings.search(table, np.array([0]), np.arange(40), nobody, excluded)
        shown = rankings.places(found, 0)
        assert len(shown) == length and shown[-1].rank == last
    few = rankings.search(table[:, :4], np.array([0]), np.arange(4), nobody[:, :4], None)
    assert [place.rank for place in rankings.places(few, 0)] == [1, 2, 3, 4]


def test_choice_takes_the_ends_and_the_middle_one_identity_each():
    precision = np.array([0.9, 0.95, 0.1, np.nan, 0.47, 0.52, 0.2, 0.6, 0.0])
    identities = np.array([1, 1, 2, 3, 4, 5, 2, 6, 7])
    chosen = rankings.choose(precision, identities, count=2)
    # The median is 0.495. Query 0 shares its identity with 1, and 2 with 6.
    assert chosen == {"best": [1, 7], "typical": [4, 5], "worst": [8, 2]}
    assert chosen == rankings.choose(precision, identities, count=2)


def test_choice_is_small_where_queries_are_few():
    assert rankings.choose(np.array([np.nan]), np.array([0]), count=3) == {"best": [], "typical": [], "worst": []}
    chosen = rankings.choose(np.array([0.5, 0.7]), np.array([0, 0]), count=3)
    assert chosen == {"best": [1], "typical": [], "worst": [0]}


def test_frames_tell_matches_and_excluded_images_are_gray_and_pale():
    red = np.zeros((20, 10, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    shown = [rankings.Place(0, 1, True, 0.1), rankings.Place(1, None, True, 0.2), rankings.Place(2, 2, False, 0.3)]
    sheet = np.asarray(rankings.strip(red, [red] * 3, shown)).astype(int)
    _, match, excluded, miss = np.split(sheet, 4, axis=1)
    middle = (sheet.shape[0] // 2, match.shape[1] // 2)
    np.testing.assert_array_equal(match[middle], [200, 0, 0])
    np.testing.assert_array_equal(miss[middle], [200, 0, 0])
    gray = excluded[middle]
    assert np.ptp(gray) == 0 and gray[0] > 150

    def has(cell, color):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        return bool((cell == wanted).all(axis=-1).any())

    assert has(match, style.MATCH) and not has(match, style.MISS)
    assert has(miss, style.MISS) and not has(miss, style.MATCH)
    assert not has(excluded, style.MATCH) and not has(excluded, style.MISS) and has(excluded, style.EXCLUDED)


def test_camera_scores_by_hand():
    # Images 0 and 1 are queries of cameras 1 and 2; the gallery is 2 (identity 0) and 3 (identity 1), cameras 3 and 4.
    identities, numbers = np.array([0, 1, 0, 1]), np.array([1, 2, 3, 4])
    table = np.array([[0, 0, 0.1, 0.2], [0, 0, 0.3, 0.4]])
    protocol = RetrievalProtocol(
        "p", "-", None, "infrared->visible", (Trial(np.array([0, 1]), np.array([2, 3])),), None, "identity"
    )
    found = cameras.scores(lambda q, g: table[np.ix_(q, g)], identities, numbers, protocol)
    assert {pair: (row["queries"], row["rank1"]["mean"], row["mAP"]["mean"]) for pair, row in found.items()} == {
        (1, None): (1, 1.0, 1.0),
        (1, 3): (1, 1.0, 1.0),
        (2, None): (1, 0.0, 0.5),
        (2, 4): (1, 1.0, 1.0),
    }
    table = scores.camera_table(found, "mAP")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["camera 1", "1", "100.00", "100.00", "–"],
        ["camera 2", "1", "50.00", "–", "100.00"],
    ]


def test_camera_scores_add_up_to_the_protocol():
    rng = np.random.default_rng(1)
    modalities, numbers = np.repeat([0, 1], 60), rng.integers(1, 4, 120)
    identities = np.tile(np.arange(6), 20)
    (_, protocol) = folder.protocols(identities, numbers, modalities, shots=(1,), trials=3, exclude_same_camera=True)
    distances = cosine_distances(unit(rng, 120, 8))
    found = cameras.scores(distances, identities, numbers, protocol)
    row = evaluate_protocol(distances, identities, numbers, protocol)
    whole = [found[camera, None] for camera in (1, 2, 3)]
    weights = [score["queries"] for score in whole]
    assert sum(weights) == row["queries"]
    for name in ("rank1", "mAP"):
        np.testing.assert_allclose(
            np.average([score[name]["mean"] for score in whole], weights=weights), row[name]["mean"]
        )
    # The pairs of one camera hold excluded images alone: there is no search in them.
    assert protocol.excluded is same_identity_and_camera and (1, 1) not in found and (1, 2) in found


@pytest.mark.parametrize("count", [7, 600])  # 600 images are more than a block
def test_histograms_are_those_of_numpy(count):
    rng = np.random.default_rng(2)
    features, identities, modalities = unit(rng, count, 6), rng.integers(0, 4, count), rng.integers(0, 2, count)
    counted = histograms.counts(features, identities, modalities, bins=16)
    first, second = np.triu_indices(count, 1)
    distances = 1 - np.einsum("nd,nd->n", features[first], features[second])
    for (where, sign), histogram in counted.items():
        chosen = (modalities[first] != modalities[second]) == (where == "inter")
        chosen &= (identities[first] == identities[second]) == (sign == "positive")
        expected, _ = np.histogram(distances[chosen], bins=16, range=(0, 2))
        # A distance at the edge of a bin may fall on either side.
        assert np.abs(histogram - expected).sum() <= 2 and histogram.sum() == chosen.sum()


def test_overlap_and_mean_of_histograms():
    one, two, none = np.array([2, 2, 0, 0]), np.array([0, 1, 1, 0]), np.zeros(4, int)
    assert histograms.overlap(one, one) == 1.0
    assert histograms.overlap(one, two) == 0.5
    assert np.isnan(histograms.overlap(one, none)) and np.isnan(histograms.mean(none))
    assert histograms.mean(one) == 0.5  # bins of half a unit: centers 0.25 and 0.75


def test_map_holds_few_identities_with_both_modalities_and_is_repeatable():
    rng = np.random.default_rng(3)
    identities, modalities = np.repeat(np.arange(30), 40), np.tile(np.repeat([0, 1], 20), 30)
    modalities[identities == 4] = 0
    chosen = embedding_map.choose(identities, modalities)
    assert len(chosen) <= embedding_map.MAX_POINTS
    assert len(set(identities[chosen])) == embedding_map.MAX_IDENTITIES and 4 not in identities[chosen]
    np.testing.assert_array_equal(chosen, embedding_map.choose(identities, modalities))
    assert embedding_map.choose(np.array([0, 1]), np.array([0, 1])).size == 0
    # Two far groups stay apart, whichever way the map turns out.
    groups = np.concatenate([unit(rng, 12, 5) * 0.01, 10 + unit(rng, 12, 5) * 0.01])
    points = embedding_map.embed(groups)
    np.testing.assert_array_equal(points, embedding_map.embed(groups))
    within = max(np.ptp(points[:12], axis=0).max(), np.ptp(points[12:], axis=0).max())
    assert np.linalg.norm(points[:12].mean(axis=0) - points[12:].mean(axis=0)) > within


def test_attention_of_the_method_explains_its_final_map():
    config = config_lib.default_config()
    config.data.height, config.data.width = 64, 32
    config.model.backbone, config.model.width, config.model.parts = "resnet10", 4, (2, 1)
    method = methods.build(config, num_identities=2)
    variables = jax.jit(method.init)(jax.random.key(0, impl="rbg")).variables
    images = np.random.default_rng(4).integers(0, 256, (3, 64, 32, 3)).astype(np.uint8)
    outputs = method.attention(variables, images, "infrared")
    seen = heatmaps.from_method(outputs)
    assert seen.activation.shape == (3, 4, 2)
    assert [gates.shape for gates in seen.spatial] == [(3, 4, 2)] * 2
    assert [gates.shape for gates in seen.channel] == [(3, 2, 32), (3, 1, 32)]
    # Without the cascade the activation is that of the backbone, which both levels multiply by 1 + CH * SP.
    config.model.parts = ()
    plain = methods.build(config, num_identities=2)
    _, captured = plain.embedder.apply(
        {name: {k: v for k, v in tree.items() if k != "attention"} for name, tree in variables["embedder"].items()},
        {"infrared": plain_input(images)},
        train=False,
        capture_intermediates=lambda module, _: module.name == "attention",
    )
    x = np.asarray(captured["intermediates"]["attention"]["__call__"][0])
    for spatial, channel in zip(seen.spatial, seen.channel, strict=True):
        x = x * (1 + spatial[..., None] * np.repeat(channel, 4 // channel.shape[1], axis=1)[:, :, None])
    np.testing.assert_allclose(np.square(x).mean(axis=-1), seen.activation, rtol=1e-4)


def plain_input(images):
    """ImageNet's normalization."""
    return ((images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)


def test_heat_maps_choose_pairs_and_glow_where_the_map_is_high():
    identities, modalities = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(heatmaps.choose(identities, modalities, count=5), [0, 1, 5, 4])
    heat = np.zeros((2, 2))
    heat[1, 1] = 1
    shown = heatmaps.overlay(np.full((40, 40, 3), 100, np.uint8), heat).astype(int).sum(axis=-1)
    assert shown[-1, -1] > shown[0, 0] + 200 and shown[0, 0] == shown[0, 10]


def test_figures_without_a_second_run_or_gates_are_drawn():
    images = np.random.default_rng(5).integers(0, 256, (2, 16, 8, 3)).astype(np.uint8)
    plain = heatmaps.Attention(activation=np.ones((2, 2, 1)))
    for drawing in (
        heatmaps.figure(images, ["$a", "b"], plain),
        curves.figure({"loss": {1: 2.0, 2: float("nan")}, "val/mAP": {2: 0.5}}),
        embedding_map.figure({"this run": np.eye(6)[:, :2]}, np.arange(6) // 2, np.arange(6) % 2),
        histograms.figure({"this run": dict.fromkeys(histograms.KINDS, np.zeros(4, int))}),
    ):
        assert style.png(drawing, dpi=40).startswith(b"\x89PNG")
    assert style.png(Image.new("L", (4, 4))).startswith(b"\x89PNG")


def test_panels_put_the_loss_first_and_join_the_scores_of_a_split():
    logged = dict.fromkeys(("learning_rate", "val/mAP", "val/rank1", "mecen", "loss", "identity"), {1: 0.0})
    assert curves.panels(logged, {"triplet": {1: 0.0}}) == [
        "loss",
        "identity",
        "mecen",
        "triplet",
        "val/",
        "learning_rate",
    ]


def row(**fields):
    scored = {score: {"mean": 0.5, "std": 0.0, "trials": [0.5]} for score in SCORES}
    of = {"protocol": "seeded", "mode": "all", "shots": 1, "direction": "infrared->visible", "feature": "after_neck"}
    return {**of, "queries": 3803, "gallery": 301, **scored, **fields}


def test_slides_stand_beside_their_own_protocol_only():
    results = {"rows": [row(), row(mode="indoor"), row(shots=3)], "primary": 1}
    indoor, everywhere, neither = scores.tables(results, None, data_set=named("sysu_mm01"))
    assert "primary" in indoor.caption
    texts = [[cell.text for cell in line] for line in everywhere.rows]
    assert texts[-1] == ["slides: MSPAC-MeCen", "46.62", "–", "87.59", "95.77", "47.26", "–"]
    assert len(texts) == 1 + 19
    assert [cell.text for cell in indoor.rows[-1]][1:6:4] == ["51.63", "61.54"]
    assert len(neither.rows) == 1
    assert all(len(table.rows) == 1 for table in scores.tables(results, None, data_set=named("folder")))


def test_a_part_of_a_data_set_is_not_compared_with_the_slides():
    def told(data_set, images, identities):
        split = image_set.ImageSet(*[np.zeros(images)] * 5, ("",) * identities)
        return [(block.kind, block.text) for block in sections._about_slides(named(data_set), split)]

    (whole,) = told("sysu_mm01", 6775 + 3803, 96)
    assert whole[0] == "paragraph" and "SYSU-MM01" in whole[1]
    (_, part) = told("regdb", 4119, 206)
    assert part[0] == "missing" and "4,119 images of 206 identities" in part[1] and "4,120 of 206" in part[1]
    assert "none is shown" in told("folder", 3, 1)[0][1]


def test_published_rows_are_plausible_and_complete():
    sizes = {}
    for mode, shots in (("all", 1), ("all", 10), ("indoor", 1), ("indoor", 10)):
        rows = published.sysu_mm01(mode=mode, shots=shots, direction="infrared->visible")
        sizes[mode, shots] = len(rows)
        for of in rows:
            assert 0 < of.scores["rank1"] < of.scores["rank10"] < of.scores["rank20"] < 100 and of.scores["mAP"] > 0
    assert sizes == {("all", 1): 19, ("all", 10): 15, ("indoor", 1): 18, ("indoor", 10): 15}
    regdb = {of.system: of.scores for of in published.regdb(mode="-", shots=None, direction="visible->infrared")}
    assert len(regdb) == 11 and regdb["AlignGAN"] == {"rank1": 57.9, "mAP": 53.6}
    assert regdb["MSPAC-MeCen"] == {"rank1": 49.61, "rank10": 72.28, "rank20": 80.63, "mAP": 53.64}
    assert published.regdb(mode="-", shots=None, direction="infrared->visible") == ()
    assert named("llcm").published is None


@pytest.mark.parametrize(
    "damage", ['{"rows": [', "[]", "{}", '{"rows": [{"rank1": {}}]}', '{"rows": [], "primary": 0}', "\xff"]
)
def test_damaged_results_are_no_results(tmp_path, damage):
    (tmp_path / "results.json").write_bytes(damage.encode("latin-1"))
    read = records.read(tmp_path)
    assert read.results is None and "--mode evaluate" in read.problems["results.json"]


def test_whole_records_are_read_and_broken_lines_counted(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"rows": [row()], "primary": 0}))
    (tmp_path / "versions.json").write_text('{"jax": "1"}')
    lines = ['{"step": 2, "loss": 1.5}', '{"step": 1, "loss": 2}', "[3]", '{"loss": 3}', '{"step": 3, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    read = records.read(tmp_path)
    assert read.results["primary"] == 0 and read.versions == {"jax": "1"}
    assert read.curves == {"loss": {2: 1.5, 1: 2.0}}
    assert list(read.problems) == ["metrics.jsonl"] and "3 of its lines" in read.problems["metrics.jsonl"]


def test_missing_logs_are_told(tmp_path):
    read = records.read(tmp_path)
    assert set(read.problems) == {"metrics.jsonl", "results.json", "versions.json"} and read.curves == {}
    assert "nothing was logged" in read.problems["metrics.jsonl"]
