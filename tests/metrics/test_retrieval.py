"""The metrics against hand-computed cases, a plain transcription of the rules, and scikit-learn."""

import numpy as np
import pytest
from helpers.plain_protocols import transcription
from helpers.sets import PROTOCOLS

from jax_mspac.errors import UserError
from jax_mspac.metrics import cosine_distances, counting, evaluate, evaluate_protocol, ranking
from jax_mspac.protocols import RetrievalProtocol, Trial
from jax_mspac.protocols.base import same_identity_and_camera
from jax_mspac.protocols.sysu_mm01 import same_place


def assert_same(result, expected):
    cmc, mean_average_precision, mean_inverse_negative_penalty, queries = expected
    np.testing.assert_allclose(result.cmc, cmc, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.mAP, mean_average_precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.mINP, mean_inverse_negative_penalty, rtol=0, atol=1e-9)
    assert result.queries == queries


def test_hand_computed_ranking():
    distances = np.array([[0.3, 0.1, 0.2, 0.25, 0.5]])
    gallery = np.array([0, 1, 1, 2, 0])  # ranked: 1 1 2 0 0
    images = evaluate(distances, np.array([0]), gallery, rank_unit="image")
    assert images.cmc[:5].tolist() == [0, 0, 0, 1, 1]
    identities = evaluate(distances, np.array([0]), gallery, rank_unit="identity")
    assert identities.cmc[:4].tolist() == [0, 0, 1, 1]
    for result in (images, identities):
        assert result.mAP == pytest.approx((1 / 4 + 2 / 5) / 2)
        assert result.mINP == pytest.approx(2 / 5)


def test_hand_computed_exclusion_drops_pairs_and_queries_without_match():
    distances = np.array([[0.3, 0.1, 0.2, 0.25, 0.5], [0.0, 0.1, 0.2, 0.3, 0.4]])
    excluded = np.array([[False, True, True, False, False], [False, False, False, True, False]])
    result = evaluate(distances, np.array([0, 2]), np.array([0, 1, 1, 2, 0]), excluded=excluded, rank_unit="image")
    assert result.queries == 1
    assert result.cmc[:3].tolist() == [0, 1, 1]
    assert result.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.mINP == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank_unit", ["identity", "image"])
@pytest.mark.parametrize("levels", [None, 1, 4])
def test_agrees_with_transcription(dtype, rank_unit, levels):
    rng = np.random.default_rng(0)
    query_ids, gallery_ids = rng.integers(0, 9, 300), rng.integers(2, 14, 61)  # more than one block; some unmatched
    distances = rng.normal(size=(300, 61)) + 0.8 * (query_ids[:, None] != gallery_ids)
    if levels is not None:  # Many ties, negative distances and both zeros.
        distances = np.floor(distances * levels) * rng.choice([-1, 1], distances.shape)
    distances = distances.astype(dtype)
    for excluded in (None, rng.random((300, 61)) < 0.5):
        result = evaluate(distances, query_ids, gallery_ids, excluded=excluded, rank_unit=rank_unit)
        expected = transcription(distances.tolist(), query_ids, gallery_ids, excluded, rank_unit)
        assert_same(result, expected)
        assert result.queries < 300


def test_average_precision_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    query_ids, gallery_ids = np.arange(6).repeat(3), np.arange(6).repeat(5)
    distances = rng.normal(size=(18, 30))
    expected = np.mean(
        [metrics.average_precision_score(gallery_ids == q, -row) for q, row in zip(query_ids, distances, strict=True)]
    )
    assert evaluate(distances, query_ids, gallery_ids).mAP == pytest.approx(expected, abs=1e-9)


def test_only_the_order_of_distances_counts():
    rng = np.random.default_rng(2)
    query_ids, gallery_ids, distances = rng.integers(0, 5, 20), np.arange(5).repeat(4), rng.normal(size=(20, 20))
    near, far = evaluate(distances, query_ids, gallery_ids), evaluate(np.exp(distances), query_ids, gallery_ids)
    np.testing.assert_array_equal(near.cmc, far.cmc)
    assert (near.mAP, near.mINP) == (far.mAP, far.mINP)
    infinite = np.where(distances > 0, np.inf, distances)
    assert_same(evaluate(infinite, query_ids, gallery_ids), transcription(infinite, query_ids, gallery_ids))


@pytest.mark.parametrize("rank_unit", ["identity", "image"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 1, 5])
def test_counting_is_ranking_to_the_bit(rank_unit, dtype, levels):
    rng = np.random.default_rng(1)
    query_codes, gallery_codes = rng.integers(0, 9, 40), rng.integers(2, 14, 300)  # some have no match
    distances = rng.normal(size=(40, 300)) + 0.8 * (query_codes[:, None] != gallery_codes)
    if levels is not None:  # Many ties, negative distances, both zeros and infinity.
        distances = np.floor(distances * levels) * rng.choice([-1, 1], distances.shape)
        distances[distances > 2 * levels] = np.inf
    distances = distances.astype(dtype)
    some = rng.random((40, 300)) < 0.5
    some[3] = True  # nothing is left of it
    for excluded in (None, some, np.ones_like(some)):
        counted = counting.score(distances, excluded, query_codes, gallery_codes, 14, rank_unit)
        _, ranked = ranking.rank(distances, gallery_codes, excluded)
        for found, expected in zip(counted, ranking.score(ranked, query_codes, 14, rank_unit), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("per_identity, counted", [(4, True), (2_000, False)])
def test_large_galleries_are_counted_where_matches_are_few(per_identity, counted, monkeypatch):
    rng = np.random.default_rng(2)
    ids = np.arange(20_000) // per_identity
    rng.shuffle(ids)
    features = rng.normal(size=(ids.size, 8))
    images = np.arange(ids.size)
    trial = Trial(images[:5], images[5:])
    protocol = RetrievalProtocol("folder", "-", None, "-", (trial,), same_identity_and_camera, "identity")
    calls = []
    monkeypatch.setattr(counting, "score", lambda *args, score=counting.score: calls.append(1) or score(*args))
    row = evaluate_protocol(cosine_distances(features), ids, images % 3, protocol)
    assert bool(calls) == counted
    distances = cosine_distances(features)(trial.queries, trial.gallery)
    excluded = same_identity_and_camera(ids[:5], images[:5] % 3, ids[5:], images[5:] % 3)
    _, mean_average_precision, _, queries = transcription(distances, ids[:5], ids[5:], excluded, "identity")
    assert row["mAP"]["mean"] == pytest.approx(mean_average_precision) and row["queries"] == queries


def test_perfect_and_worst_search():
    ids = np.arange(30)
    apart = (ids[:, None] != ids[None, :]).astype(np.float32)
    perfect = evaluate(apart, ids, ids)
    assert perfect.cmc.tolist() == [1.0] * 20 and perfect.mAP == perfect.mINP == 1
    worst = evaluate(-apart, ids, ids, max_rank=40)
    assert worst.cmc.tolist() == [0.0] * 29 + [1.0] * 11 and worst.mAP == pytest.approx(1 / 30)


def test_mistakes_are_named():
    distances, ids = np.zeros((2, 3), np.float32), np.array([0, 1])
    gallery = np.array([0, 1, 1])
    broken = distances.copy()
    broken[1, 2] = np.nan
    with pytest.raises(ValueError, match="query 1 and gallery image 2 is NaN"):
        evaluate(broken, ids, gallery)
    with pytest.raises(ValueError, match="rank_unit is 'person'; expected 'identity' or 'image'"):
        evaluate(distances, ids, gallery, rank_unit="person")
    trial = Trial(np.arange(1), np.arange(1, 3))
    with pytest.raises(ValueError, match="rank_unit is 'person'; expected 'identity' or 'image'"):
        RetrievalProtocol("folder", "-", None, "-", (trial,), None, "person")
    with pytest.raises(ValueError, match=r"distances has shape \(2, 3\)"):
        evaluate(distances, ids, ids)
    with pytest.raises(ValueError, match="excluded has shape"):
        evaluate(distances, ids, gallery, excluded=np.zeros((1, 3), bool))
    with pytest.raises(ValueError, match="'images'"):
        evaluate(distances, ids, gallery, rank_unit="images")
    for no_match in (gallery + 5, np.zeros(0, int)):
        with pytest.raises(UserError, match="no query has an image of its identity"):
            evaluate(np.zeros((2, no_match.size)), ids, no_match)


def test_cosine_distances_of_any_scale():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(12, 7))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    queries, gallery = np.array([3, 0, 5]), np.array([11, 2, 3, 7])
    for scale in (1, 1e-30, 1e30):
        measured = cosine_distances((features * scale).astype(np.float32))(queries, gallery)
        np.testing.assert_allclose(measured, 1 - unit[queries] @ unit[gallery].T, atol=1e-6)
    features[2] = 0
    assert cosine_distances(features)(queries, gallery)[:, 1].tolist() == [1, 1, 1]
    for value in (np.nan, np.inf):
        features[[4, 8], 1] = value
        with pytest.raises(UserError, match="2 of 12 images .* position 4"):
            cosine_distances(features)


def test_cosine_distances_between_two_arrays_and_of_rows_in_any_order():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(30, 7)).astype(np.float32)
    joint, apart = cosine_distances(features), cosine_distances(features[:10], features[10:])
    queries = np.array([7, 2])
    for gallery in (np.arange(12, 20), np.arange(10, 30), rng.permutation(np.arange(10, 30)), np.array([29, 10, 17])):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        for measured in (joint(queries, gallery), apart(queries, gallery - 10)):
            np.testing.assert_allclose(measured, 1 - unit[queries] @ unit[gallery].T, atol=1e-6)
    features[13] = np.nan
    with pytest.raises(UserError, match="1 of 20 images .* position 3"):
        cosine_distances(features[:10], features[10:])


def test_blocks_follow_the_budget_and_change_no_figure(monkeypatch):
    rng = np.random.default_rng(5)
    ids, cameras = rng.integers(0, 8, 90), rng.integers(1, 4, 90)
    # Four entries of one half: every cosine is exact, so equal distances are ties whatever is multiplied at a time.
    halves = np.repeat([[0.5] * 4 + [0] * 5], 90, axis=0) * rng.choice([-1, 1], (90, 9))
    features = rng.permuted(halves, axis=1).astype(np.float32)
    gallery = np.arange(40, 90)
    protocol = RetrievalProtocol(
        "own", "-", None, "-", (Trial(np.arange(40), gallery),), same_identity_and_camera, "identity"
    )

    def outcome(budget):
        sizes = []
        monkeypatch.setattr("jax_mspac.metrics.distances.BUDGET", budget)
        cosine = cosine_distances(features)

        def distances(queries, gallery):
            sizes.append(queries.size)
            return cosine(queries, gallery)

        row = evaluate_protocol(distances, ids, cameras, protocol)
        return sizes, row, evaluate(cosine(np.arange(40), gallery), ids[:40], ids[40:])

    whole, row, result = outcome(2**24)
    assert whole == [40]
    for budget, step in ((50 * 40, 40), (50 * 40 - 1, 39), (50 * 7 + 49, 7), (99, 1), (1, 1)):
        sizes, same_row, same_result = outcome(budget)
        assert sizes == [min(step, 40 - start) for start in range(0, 40, step)]
        assert same_row == row
        np.testing.assert_array_equal(same_result.cmc, result.cmc)
        assert (same_result.mAP, same_result.mINP) == (result.mAP, result.mINP)


def small_set(seed=0, identities=6):
    """A small test set in the manner of SYSU-MM01: some identities are missing in some cameras."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 13, (6, identities)) * (rng.random((6, identities)) < 0.8)
    cameras, ids = (place.repeat(counts.ravel()) for place in np.indices(counts.shape).reshape(2, -1))
    return ids, cameras + 1, np.isin(cameras + 1, (3, 6)).astype(int)


def protocols_of(name, ids, cameras, modalities):
    if name != "sysu_mm01":
        return PROTOCOLS[name](ids, cameras, modalities)
    rng = np.random.default_rng(7)
    permutations = {
        camera: {
            100 + i: np.array([rng.permutation(n) for _ in range(10)])
            for i in range(6)
            if (n := np.sum((ids == i) & (cameras == camera)))
        }
        for camera in range(1, 7)
    }
    return PROTOCOLS[name](
        ids,
        cameras,
        modalities,
        galleries=("official", "seeded"),
        shots=(1, 10),
        modes=("all", "indoor", "validation"),
        permutations=permutations,
        identity_numbers=range(100, 106),
    )


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@pytest.mark.parametrize("tied", [False, True])
def test_protocol_agrees_with_transcription(name, tied):
    ids, cameras, modalities = small_set()
    rng = np.random.default_rng(4)
    table = rng.normal(size=(ids.size, ids.size)) + (ids[:, None] != ids)
    if tied:
        table = np.round(table)
    for protocol in protocols_of(name, ids, cameras, modalities):
        row = evaluate_protocol(lambda q, g: table[np.ix_(q, g)], ids, cameras, protocol)
        trials = []
        for trial in protocol.trials:
            pairs = [(q, g) for q in trial.queries for g in trial.gallery]
            if name == "sysu_mm01":
                hidden = [cameras[g] == cameras[q] or {cameras[q], cameras[g]} == {2, 3} for q, g in pairs]
            elif name == "llcm":
                hidden = [ids[g] == ids[q] and cameras[g] == cameras[q] for q, g in pairs]
            else:
                hidden = [False] * len(pairs)
            trials.append(
                transcription(
                    table[np.ix_(trial.queries, trial.gallery)].tolist(),
                    ids[trial.queries],
                    ids[trial.gallery],
                    np.reshape(hidden, (trial.queries.size, trial.gallery.size)),
                    "image" if name == "regdb" else "identity",
                )
            )
        columns = {f"rank{rank}": [cmc[rank - 1] for cmc, *_ in trials] for rank in (1, 5, 10, 20)}
        columns |= {"mAP": [trial[1] for trial in trials], "mINP": [trial[2] for trial in trials]}
        for metric, expected in columns.items():
            np.testing.assert_allclose(row[metric]["trials"], expected, rtol=0, atol=1e-9)
            np.testing.assert_allclose(row[metric]["mean"], np.mean(expected), rtol=0, atol=1e-9)
            np.testing.assert_allclose(row[metric]["std"], np.sqrt(np.var(expected)), rtol=0, atol=1e-9)
        assert row["queries"] == trials[0][3] and row["gallery"] == protocol.trials[0].gallery.size
        assert [row[key] for key in ("protocol", "mode", "shots", "direction")] == [
            protocol.name,
            protocol.mode,
            protocol.shots,
            protocol.direction,
        ]


def test_trials_may_differ_in_queries_and_sizes():
    ids, cameras, _ = small_set(seed=1)
    rng = np.random.default_rng(5)
    table = rng.normal(size=(ids.size, ids.size))
    trials = tuple(
        Trial(rng.permutation(ids.size)[: 10 + t], np.sort(rng.permutation(ids.size)[: 40 + t])) for t in range(4)
    )
    protocol = RetrievalProtocol("own", "-", None, "-", trials, same_identity_and_camera, "image")
    row = evaluate_protocol(lambda q, g: table[np.ix_(q, g)], ids, cameras, protocol)
    for t, trial in enumerate(trials):
        q, g = trial.queries, trial.gallery
        excluded = same_identity_and_camera(ids[q], cameras[q], ids[g], cameras[g])
        _, precision, penalty, _ = transcription(table[np.ix_(q, g)].tolist(), ids[q], ids[g], excluded)
        np.testing.assert_allclose([row["mAP"]["trials"][t], row["mINP"]["trials"][t]], [precision, penalty], atol=1e-9)


def test_protocol_on_features_matches_evaluate_on_its_trials():
    ids, cameras, modalities = small_set()
    # Four entries of one half: unit length and every cosine are exact, so equal distances are ties in any arithmetic.
    rng = np.random.default_rng(6)
    features = np.zeros((ids.size, 9), np.float32)
    for row in features:
        row[rng.permutation(9)[:4]] = rng.choice([-0.5, 0.5], 4)
    for protocol in PROTOCOLS["sysu_mm01"](ids, cameras, modalities, trials=2):
        row = evaluate_protocol(cosine_distances(3 * features), ids, cameras, protocol)
        for t, trial in enumerate(protocol.trials):
            q, g = trial.queries, trial.gallery
            excluded = same_place(ids[q], cameras[q], ids[g], cameras[g])
            result = evaluate(1 - features[q] @ features[g].T, ids[q], ids[g], excluded=excluded)
            assert [row[m]["trials"][t] for m in ("rank1", "mAP", "mINP")] == [result.cmc[0], result.mAP, result.mINP]


def test_protocol_names_the_images_of_a_nan_and_a_hopeless_search():
    ids, cameras = np.array([9, 0, 0, 1, 0]), np.array([1, 1, 1, 1, 2])
    protocol = RetrievalProtocol(
        "own", "-", None, "-", (Trial(np.array([0, 4]), np.array([1, 2, 3])),), same_identity_and_camera, "image"
    )

    def distances(queries, gallery):
        return np.where((queries[:, None] == 4) & (gallery == 2), np.nan, 0.0)

    with pytest.raises(ValueError, match="query 4 and gallery image 2 is NaN"):
        evaluate_protocol(distances, ids, cameras, protocol)
    for hopeless in (np.array([9, 0, 0, 1, 7]), np.array([9, 1, 1, 1, 0])):
        with pytest.raises(UserError, match="nothing to score"):
            evaluate_protocol(distances, hopeless, cameras, protocol)
    with pytest.raises(UserError, match="nothing to score"):
        evaluate_protocol(lambda q, g: np.zeros((q.size, g.size)), ids, np.ones(5, int), protocol)
