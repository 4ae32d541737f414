"""Every figure of the tables of SYSU-MM01, LLCM and RegDB against the plain transcription of the rules."""

import numpy as np
import pytest
from helpers import plain_protocols as plain
from helpers.sets import PROTOCOLS

from jax_mspac.data.sysu_mm01 import load_permutations
from jax_mspac.metrics import cosine_distances, evaluate_protocol

NUMBERS = [6, 10, 17, 120, 333]
TOLERANCE = 1e-9


def drawn_set(cameras, absent, seed=0):
    """Identities and cameras in path order, 3 to 12 images each; some identities are absent from some cameras."""
    rng = np.random.default_rng(seed)
    places = [(i, c) for c in range(1, cameras + 1) for i in range(len(NUMBERS)) if (i, c) not in absent]
    ids, cams = np.repeat(np.array(places), rng.integers(3, 13, len(places)), axis=0).T
    return ids, cams


def drawn_features(kind, ids, cameras):
    """Features, and their table of distances by the plain rules, which both arithmetics rank alike."""
    for seed in range(100):
        features = features_of(kind, ids, cameras, np.random.default_rng(seed))
        table = plain.cosine_table(features.astype(np.float64), range(ids.size))
        if kind == "tied" or is_clear(table, ids):
            return features, table
    raise AssertionError("no draw is clear of near-ties")


def features_of(kind, ids, cameras, rng):
    if kind == "tied":
        # Four entries of one half: unit length and every cosine are exact in any arithmetic.
        features = np.repeat([[0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0]], ids.size, axis=0)
        return rng.permuted(features * rng.choice([-1, 1], features.shape), axis=1).astype(np.float32)
    features = rng.standard_normal((ids.size, 12))
    if kind == "structured":
        features = rng.standard_normal((ids.max() + 1, 12))[ids] + rng.standard_normal((10, 12))[cameras] + features / 2
    return features.astype(np.float32)


def is_clear(table, ids):
    """Whether no match is so near to another image that float32 could swap them."""
    rows = ((np.array(table[q]), ids == ids[q]) for q in range(ids.size))
    return all(np.abs(np.subtract.outer(row[same], row[~same])).min() > 5e-7 for row, same in rows)


def assert_table(rows, figures):
    """Rows of `evaluate_protocol` against as many figures of `plain_protocols`, in the same order."""
    assert len(rows) == len(figures)
    for row, (which, expected) in zip(rows, figures.items(), strict=True):
        assert row["queries"] == round(expected["queries"]) and row["gallery"] == round(expected["gallery"])
        for metric in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP"):
            found = (row[metric]["mean"], row[metric]["std"], *row[metric]["trials"])
            mean, deviation, trials = expected[metric]
            np.testing.assert_allclose(found, (mean, deviation, *trials), rtol=0, atol=TOLERANCE, err_msg=f"{which}")


def rows_of(name, distances, ids, cameras, modalities, **options):
    return [
        evaluate_protocol(distances, ids, cameras, protocol)
        for protocol in PROTOCOLS[name](ids, cameras, modalities, **options)
    ]


@pytest.mark.parametrize("kind", ["random", "structured", "tied"])
def test_sysu_table(kind):
    # Identity 0 was filmed by no RGB camera, 1 by no indoor one, 2 indoors only where camera 3 looks too.
    ids, cameras = drawn_set(6, {(0, 1), (0, 2), (0, 4), (0, 5), (1, 1), (1, 2), (2, 1), (3, 6)})
    features, table = drawn_features(kind, ids, cameras)
    modalities = np.isin(cameras, (3, 6)).astype(int)
    rng = np.random.default_rng(1)
    lists = {
        (camera, NUMBERS[identity]): [(rng.permutation(n) + 1).tolist() for _ in range(10)]
        for identity, camera in {*zip(ids.tolist(), cameras.tolist(), strict=True)}
        if (n := np.sum((ids == identity) & (cameras == camera)))
    }
    permutations = {camera: {} for camera in range(1, 7)}
    for (camera, number), places in lists.items():
        permutations[camera][number] = np.array(places) - 1
    galleries = ("official", "seeded")
    expected = plain.sysu_table(table, ids.tolist(), cameras.tolist(), NUMBERS, lists, galleries=galleries)
    assert 0 < expected["official", "indoor", 1]["queries"] < expected["official", "all", 1]["queries"]
    assert expected["official", "all", 1]["queries"] < modalities.sum()
    rows = rows_of(
        "sysu_mm01",
        cosine_distances(features),
        ids,
        cameras,
        modalities,
        galleries=galleries,
        shots=(1, 10),
        permutations=permutations,
        identity_numbers=NUMBERS,
    )
    assert [(row["protocol"], row["mode"], row["shots"]) for row in rows] == [*expected]
    assert_table(rows, expected)


@pytest.mark.parametrize("kind", ["random", "structured", "tied"])
def test_llcm_and_regdb_tables(kind):
    # Identity 0 was filmed by camera 4 only, so no image of it counts; 1 by no camera above 5.
    absent = {(0, c) for c in range(1, 10) if c != 4} | {(1, c) for c in range(6, 10)}
    ids, cameras = drawn_set(9, absent)
    features, table = drawn_features(kind, ids, cameras)
    modalities = np.arange(ids.size) % 2 * (cameras != 3)  # camera 3 has no infrared image
    distances = cosine_distances(features)
    labels = ids.tolist(), cameras.tolist(), modalities.tolist()
    expected = plain.llcm_table(table, *labels)
    assert expected["visible->infrared"]["queries"] < np.sum(modalities == 0)
    assert_table(rows_of("llcm", distances, ids, cameras, modalities), expected)
    assert_table(rows_of("regdb", distances, ids, cameras, modalities), plain.regdb_table(table, labels[0], labels[2]))


@pytest.mark.parametrize("tied", [False, True])
def test_sysu_table_of_the_official_lists(reference_data, tied):
    """Whole galleries of the real lists, searched with a few queries."""
    folder = reference_data / "sysu_mm01"
    numbers = [int(number) for number in (folder / "test_id.txt").read_text().split(",")]
    lists = plain.read_lists(folder / "rand_perm_cam.mat")
    images = np.array(
        [
            (rank, camera)
            for camera in range(1, 7)
            for rank, number in enumerate(numbers)
            for _ in lists.get((camera, number), [[]])[0]
        ]
    )
    infrared = np.isin(images[:, 1], (3, 6))
    ids, cameras = images[~infrared | (np.cumsum(infrared) % 211 == 1)].T
    modalities = np.isin(cameras, (3, 6)).astype(int)
    queries = np.flatnonzero(modalities)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((queries.size, ids.size)) + 2 * (ids[queries, None] != ids)
    table = np.full((ids.size, ids.size), np.nan, np.float32)
    table[queries] = np.round(4 * rows) if tied else rows
    found = rows_of(
        "sysu_mm01",
        lambda q, g: table[np.ix_(q, g)],
        ids,
        cameras,
        modalities,
        galleries=("official", "seeded"),
        shots=(1, 10),
        permutations=load_permutations(folder / "rand_perm_cam.mat"),
        identity_numbers=numbers,
    )
    distances = {q: table[q].tolist() for q in queries.tolist()}
    expected = plain.sysu_table(
        distances, ids.tolist(), cameras.tolist(), numbers, lists, galleries=("official", "seeded")
    )
    assert [expected["official", mode, shots]["gallery"] for mode in ("all", "indoor") for shots in (1, 10)] == [
        301,
        3010,
        112,
        1120,
    ]
    assert_table(found, expected)
