"""Scoring features from a file: against the evaluation of the same images, and every kind of bad file."""

import json

import numpy as np
import pytest
from helpers.feature_files import (
    DIRECTIONS,
    GALLERY,
    NUMBERS,
    QUERIES,
    contents,
    rows_of,
    save,
    score,
    shuffled_gallery,
    small_features,
    small_set,
    sysu_config,
)
from helpers.sets import PROTOCOLS

from jax_mspac import config as config_lib
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.sysu_mm01 import load_permutations
from jax_mspac.errors import UserError
from jax_mspac.metrics import cosine_distances, evaluate_protocol
from jax_mspac.runs.experiment import Experiment


def test_official_table_of_random_features(reference_data, tmp_path, capsys):
    """Through the command line's function: the sizes of the galleries and the published baselines, in percent."""
    from jax_mspac import main

    folder = reference_data / "sysu_mm01"
    permutations = load_permutations(folder / "rand_perm_cam.mat")
    numbers = [int(number) for number in (folder / "test_id.txt").read_text().split(",")]
    images = np.array(
        [
            (number, camera, place)
            for camera in range(1, 7)
            for number in numbers
            if number in permutations[camera]
            for place in range(1, permutations[camera][number].shape[1] + 1)
        ]
    )
    features = np.random.default_rng(0).standard_normal((len(images), 128), dtype=np.float32)
    path = save(tmp_path, contents(images, features))
    config = sysu_config(galleries=("official", "seeded"), sysu_lists=str(folder), shots=(1, 10), trials=4)
    main.run(config, tmp_path / "new" / "out", "score", features=path)

    saved = json.loads((tmp_path / "new" / "out" / "results.json").read_text())
    baselines = {
        ("all", 1): (3803, 301, 1.08, 10.7, 21.3, 2.97),
        ("all", 10): (3803, 3010, 0.99, 10.7, 21.0, 1.32),
        ("indoor", 1): (2208, 112, 1.79, 17.9, 36.0, 6.92),
        ("indoor", 10): (2208, 1120, 1.78, 17.8, 36.5, 2.61),
    }
    assert [(row["protocol"], row["mode"], row["shots"]) for row in saved["rows"]] == [
        (name, *which) for name in ("official", "seeded") for which in baselines
    ]
    for row in saved["rows"]:
        queries, gallery, *baseline = baselines[row["mode"], row["shots"]]
        assert (row["queries"], row["gallery"], row["feature"]) == (queries, gallery, "given")
        for metric, expected in zip(("rank1", "rank10", "rank20"), baseline, strict=False):
            deviation = 100 * np.sqrt(expected / 100 * (1 - expected / 100) / queries)
            assert abs(100 * row[metric]["mean"] - expected) < 4 * deviation, (row["mode"], row["shots"], metric)
        assert 100 * row["mAP"]["mean"] == pytest.approx(baseline[-1], rel=0.06)
    table = (tmp_path / "new" / "out" / "results.md").read_text()
    assert table in capsys.readouterr().out and "3803 query and 6775 gallery images" in table
    assert "Not the test set" not in table and "Without gallery_index" not in table


def test_sysu_scores_equal_an_evaluation_of_the_same_images(tmp_path, lists, keys):
    """The evaluator sees the images in path order; the file holds its gallery in any order."""
    images = small_set()
    config = sysu_config(galleries=("official", "seeded"), sysu_lists=str(lists), shots=(1, 10))
    empty = np.full(len(images), b"", object)
    identities, modalities = np.searchsorted(NUMBERS, images[:, 0]), np.isin(images[:, 1], (3, 6)).astype(int)
    names = tuple(f"{number:04d}" for number in NUMBERS)
    evaluator = Experiment(config).evaluator_of(ImageSet(empty, identities, images[:, 1], modalities, empty, names))
    assert [protocol.name for protocol in evaluator.protocols] == ["official"] * 4 + ["seeded"] * 4
    expected = evaluator.rows({"given": small_features(images)})
    for given in (keys, shuffled_gallery(keys)):
        assert rows_of(tmp_path, given, config) == expected
    # Trial t of the official galleries is row t of the lists.
    trial, rows = evaluator.protocols[0].trials[3], load_permutations(lists / "exp" / "rand_perm_cam.mat")
    drawn = {(number, camera, place - 1) for number, camera, place in images[trial.gallery].tolist()}
    assert drawn == {(n, c, r[3, 0]) for c in (1, 2, 4, 5) for n, r in rows[c].items()}


@pytest.mark.parametrize("name", ["folder", "synthetic", "llcm", "regdb"])
@pytest.mark.parametrize("swap", [False, True])
def test_other_data_sets_score_one_direction(tmp_path, name, swap):
    images = small_set()
    features = small_features(images)
    config = config_lib.default_config(name)
    if name != "regdb":
        config.eval.trials = 3
    direction = DIRECTIONS[not swap]
    given = shuffled_gallery(contents(images, features, swap=swap)) | {"direction": direction}
    labels = images[:, 0], images[:, 1], np.isin(images[:, 1], (3, 6)).astype(int)
    options = {} if name == "regdb" else {"trials": 3}
    expected = [
        evaluate_protocol(cosine_distances(features), *labels[:2], protocol) | {"feature": "given"}
        for protocol in PROTOCOLS[name](*labels, **options)
        if protocol.direction == direction
    ]
    rows = rows_of(tmp_path, given, config)
    assert rows == expected and len(rows) == 1
    # Without the key the config says which direction the file has.
    config.eval.direction = direction
    del given["direction"]
    assert rows_of(tmp_path, given, config) == expected


def test_distances_and_features_give_the_same_rows(tmp_path, keys):
    config = sysu_config(shots=(1, 10))
    query, gallery = (keys[f"{role}_features"].astype(np.float64) for role in ("query", "gallery"))
    query, gallery = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (query, gallery))
    rest = {name: values for name, values in shuffled_gallery(keys).items() if not name.endswith("features")}
    order = np.random.default_rng(2).permutation(len(gallery))
    expected = rows_of(tmp_path, keys, config)
    assert rows_of(tmp_path, rest | {"distances": 1 - query @ gallery[order].T}, config) == expected
    assert rows_of(tmp_path, rest | {"distances": np.float32(1) - query @ gallery[order].T}, config) == expected
    assert rows_of(tmp_path, rest | {"distances": query @ gallery[order].T}, config) != expected


def test_without_index_the_file_order_counts(tmp_path, keys):
    config = sysu_config()
    expected = rows_of(tmp_path, keys, config)
    del keys["gallery_index"]
    assert rows_of(tmp_path, keys, config) == expected
    assert rows_of(tmp_path, shuffled_gallery(keys), config) != expected
    assert "Without gallery_index" in (tmp_path / "out" / "results.md").read_text()


def test_reranked_rows_follow_and_equal_an_evaluation(tmp_path, keys):
    images, names = small_set(), ("k_reciprocal", "gallery_affinity")
    config = sysu_config(shots=(1, 10), trials=2, modes=("all",))
    plain = rows_of(tmp_path, keys, config)
    assert "re-ranked" not in (tmp_path / "out" / "results.md").read_text()
    config.eval.postprocessing = names
    empty = np.full(len(images), b"", object)
    identities, modalities = np.searchsorted(NUMBERS, images[:, 0]), np.isin(images[:, 1], (3, 6)).astype(int)
    identity_names = tuple(f"{number:04d}" for number in NUMBERS)
    evaluator = Experiment(config).evaluator_of(
        ImageSet(empty, identities, images[:, 1], modalities, empty, identity_names)
    )
    expected = evaluator.rows({"given": small_features(images)})
    for given in (keys, shuffled_gallery(keys)):
        outcome = score(config, save(tmp_path, given), tmp_path / "out")
        assert outcome["rows"] == expected and outcome["primary"] == 0
    assert [row["feature"] for row in expected] == ["given", *(f"given+{name}" for name in names)] * 2
    assert expected[::3] == plain
    table = (tmp_path / "out" / "results.md").read_text()
    assert "given+k_reciprocal" in table and "Features with a + are re-ranked" in table


def test_distances_cannot_be_reranked(tmp_path, keys):
    rest = {name: values for name, values in keys.items() if not name.endswith("features")}
    config = sysu_config(postprocessing=("k_reciprocal",))
    with pytest.raises(UserError, match=r"config.eval.postprocessing is .*given.npz has distances, .*query_features"):
        rows_of(tmp_path, rest | {"distances": np.zeros((QUERIES, GALLERY))}, config)
    assert not (tmp_path / "out").exists()


def test_results_name_the_file_and_a_part_of_the_test_set(tmp_path, keys):
    outcome = score(sysu_config(), save(tmp_path, keys), tmp_path / "out")
    assert outcome["features"] == str(tmp_path / "given.npz") and outcome["primary"] == 0
    assert any("which has 3803 query and 6775 gallery images" in note for note in outcome["notes"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "results.md"}


def broken_row(values, row=5):
    values = values.copy()
    values[row, 1] = np.nan
    return values


def repeated_place(keys):
    index = keys["gallery_index"].copy()
    index[np.flatnonzero((keys["gallery_ids"] == 17) & (keys["gallery_cams"] == 4))[2]] = 1
    return index


@pytest.mark.parametrize(
    "change, messages",
    [
        (lambda k: {"gallery_cams": None}, ["gallery_cams is missing; expected integers [G]"]),
        (
            lambda k: {"query_features": None, "gallery_index": None, "query_ids": None},
            ["query_features is missing; expected floats [Q, D]", "query_ids is missing", "gallery_index is missing"],
        ),
        (lambda k: {"query_ids": k["query_ids"] * 1.0}, [f"query_ids is float64 [{QUERIES}]; expected integers [Q]"]),
        (lambda k: {"query_features": k["query_features"][0]}, ["is float32 [16]; expected floats [Q, D]"]),
        (
            lambda k: {"gallery_features": np.ones((GALLERY, 16), int)},
            [f"is int64 [{GALLERY}, 16]; expected floats [G, D]"],
        ),
        (
            lambda k: {"query_cams": k["query_cams"][:-1], "gallery_features": k["gallery_features"][:, :9]},
            [
                f"query_cams is int64 [{QUERIES - 1}]; expected integers [Q] with Q = {QUERIES} as in query_features",
                "with D = 16 as in",
            ],
        ),
        (lambda k: {"query_features": broken_row(k["query_features"])}, ["NaN or infinity in 1 rows, first in row 5"]),
        (
            lambda k: {
                "query_features": None,
                "gallery_features": None,
                "distances": broken_row(np.zeros((QUERIES, GALLERY))),
            },
            ["distances has NaN in 1 rows, first in row 5"],
        ),
        (lambda k: {"distances": np.zeros((QUERIES, GALLERY))}, ["gallery_features and distances are both given"]),
        (lambda k: {"gallery_ids": np.array([{}] * GALLERY)}, ["gallery_ids cannot be read", "expected integers [G]"]),
        (
            lambda k: {name: values[:0] for name, values in k.items() if name.startswith("query")},
            ["query_features is float32 [0, 16]; expected floats [Q, D] with Q of 1 or more"],
        ),
        (
            lambda k: {"gallery_index": repeated_place(k)},
            ["gallery_index of identity 17, camera 4 is 1, 1, 2, 4,", "expected 1 to 13, each once"],
        ),
        (lambda k: {"gallery_index": k["gallery_index"] - 1}, ["identity 6, camera 1 is 0, 1, 2", "expected 1 to"]),
        (
            lambda k: {"gallery_cams": k["gallery_cams"] + 1, "query_cams": k["query_cams"] + 1},
            ["query_cams has cameras [4, 7]; expected some of [3, 6]", "gallery_cams has cameras [3, 6]"],
        ),
        (lambda k: {"direction": "rgb->ir"}, ["direction is 'rgb->ir'; expected visible->infrared or"]),
        (lambda k: {"direction": 1}, ["direction is int64 []; expected a string"]),
        (lambda k: {"direction": "visible->infrared"}, ["is visible->infrared; sysu_mm01 has infrared->visible only"]),
        (
            lambda k: {"gallery_ids": np.where(k["gallery_ids"] == 6, 7, k["gallery_ids"])},
            ["given.npz and config.eval", "identity 7, camera 1: the test set has"],
        ),
    ],
)
def test_bad_files(tmp_path, lists, keys, change, messages):
    changed = {name: values for name, values in (keys | change(keys)).items() if values is not None}
    with pytest.raises(UserError) as error:
        rows_of(tmp_path, changed, sysu_config(galleries=("official",), sysu_lists=str(lists)))
    assert "given.npz" in str(error.value)
    for message in messages:
        assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_damaged_files(tmp_path, keys):
    whole = save(tmp_path, keys).read_bytes()
    damaged = tmp_path / "damaged.npz"
    for content in (b"", b"id,camera\n", whole[:1000], whole[:-30], whole[30:]):
        damaged.write_bytes(content)
        with pytest.raises(UserError, match="damaged.npz is damaged"):
            score(sysu_config(), damaged, tmp_path / "out")
    # One byte of one array.
    damaged.write_bytes(whole[:400] + bytes([whole[400] ^ 1]) + whole[401:])
    with pytest.raises(UserError, match="query_features cannot be read"):
        score(sysu_config(), damaged, tmp_path / "out")
    with open(damaged, "wb") as file:
        np.save(file, keys["query_ids"])
    with pytest.raises(UserError, match="not a .npz file"):
        score(sysu_config(), damaged, tmp_path / "out")
    with pytest.raises(UserError, match="absent.npz does not exist"):
        score(sysu_config(), tmp_path / "absent.npz", tmp_path / "out")


def test_missing_lists_are_named(tmp_path, keys):
    for folder in ("", str(tmp_path)):
        with pytest.raises(UserError) as error:
            rows_of(tmp_path, keys, sysu_config(galleries=("official",), sysu_lists=folder))
        for text in (f"config.eval.sysu_lists is {folder!r}", "rand_perm_cam.mat", "seeded needs none"):
            assert text in str(error.value)
