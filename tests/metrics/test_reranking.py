"""Re-ranking against plain transcriptions of the equations, under ties, and one trial at a time."""

import numpy as np
import pytest

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError
from jax_mspac.metrics import cosine_distances, evaluate, evaluate_protocol
from jax_mspac.metrics.reranking import POSTPROCESSING, gallery_affinity, k_reciprocal, reranked_distances
from jax_mspac.protocols import RetrievalProtocol, Trial
from jax_mspac.protocols.base import same_identity_and_camera


def unit_rows(features):
    features = np.asarray(features, np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def nearest_first(distances, image):
    """Itself, then the others in ascending distance, the lower position first."""
    others = [other for other in range(len(distances)) if other != image]
    return [image, *sorted(others, key=lambda other: (distances[image][other], other))]


def k_reciprocal_transcription(query, gallery, k1=20, k2=6, original_weight=0.3):
    unit = unit_rows(np.concatenate([query, gallery]))
    images = range(len(unit))
    squared = [[float(np.sum((unit[p] - unit[g]) ** 2)) for g in images] for p in images]
    distances = [[d / max(row) for d in row] for row in squared]
    rankings = [nearest_first(distances, p) for p in images]

    def reciprocal(p, k):
        return {q for q in rankings[p][: k + 1] if p in rankings[q][: k + 1]}

    encodings = []
    for p in images:
        expanded = set(reciprocal(p, k1))
        for q in reciprocal(p, k1):
            candidates = reciprocal(q, round(k1 / 2))
            if 3 * len(reciprocal(p, k1) & candidates) > 2 * len(candidates):
                expanded |= candidates
        encoding = np.zeros(len(unit))
        for g in expanded:
            encoding[g] = np.exp(-distances[p][g])
        encodings.append(encoding / encoding.sum())
    averaged = [np.mean([encodings[q] for q in rankings[p][:k2]], axis=0) for p in images]
    result = np.empty((len(query), len(gallery)))
    for p in range(len(query)):
        for j in range(len(gallery)):
            g = len(query) + j
            overlap = np.minimum(averaged[p], averaged[g]).sum() / np.maximum(averaged[p], averaged[g]).sum()
            result[p, j] = (1 - original_weight) * (1 - overlap) + original_weight * distances[p][g]
    return result


def gallery_affinity_transcription(query, gallery, k=6, temperature=0.2, original_weight=0.5):
    query, gallery = unit_rows(query), unit_rows(gallery)
    apart = [[1 - float(g @ h) for h in gallery] for g in gallery]
    result = np.empty((len(query), len(gallery)))
    for i in range(len(query)):
        for g in range(len(gallery)):
            neighbors = nearest_first(apart, g)[:k]
            weights = [np.exp(gallery[g] @ gallery[h] / temperature) for h in neighbors]
            mean = sum(w * (query[i] @ gallery[h]) for w, h in zip(weights, neighbors, strict=True)) / sum(weights)
            result[i, g] = 1 - (1 - original_weight) * mean - original_weight * (query[i] @ gallery[g])
    return result


TRANSCRIPTIONS = {"k_reciprocal": k_reciprocal_transcription, "gallery_affinity": gallery_affinity_transcription}


def two_modalities(seed, *, identities=12, queries=3, images=6, noise=1.0):
    """Queries and gallery with a common shift between them: (query, gallery, query ids, gallery ids)."""
    rng = np.random.default_rng(seed)
    centers, shift = rng.standard_normal((identities, 24)), rng.standard_normal(24)
    query_ids, gallery_ids = np.arange(identities).repeat(queries), np.arange(identities).repeat(images)
    query = centers[query_ids] + shift + 2 * noise * rng.standard_normal((query_ids.size, 24))
    gallery = centers[gallery_ids] + noise * rng.standard_normal((gallery_ids.size, 24))
    return query.astype(np.float32), gallery.astype(np.float32), query_ids, gallery_ids


CASES = [
    ("k_reciprocal", {}),
    ("k_reciprocal", {"k1": 6, "k2": 1, "original_weight": 0.0}),
    ("k_reciprocal", {"k1": 11, "k2": 3, "original_weight": 0.5}),
    ("k_reciprocal", {"k1": 3, "k2": 7, "original_weight": 0.1}),
    ("k_reciprocal", {"k1": 1000, "k2": 500}),
    ("gallery_affinity", {}),
    ("gallery_affinity", {"k": 1, "original_weight": 0.2}),
    ("gallery_affinity", {"k": 9, "temperature": 0.02, "original_weight": 0.0}),
    ("gallery_affinity", {"k": 1000, "temperature": 1.0}),
]


@pytest.mark.parametrize("name, parameters", CASES)
def test_agrees_with_transcription(name, parameters):
    query, gallery, *_ = two_modalities(0, identities=7)
    measured = POSTPROCESSING[name](query, gallery, **parameters)
    assert measured.dtype == np.float32
    np.testing.assert_allclose(measured, TRANSCRIPTIONS[name](query, gallery, **parameters), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name, parameters", CASES)
def test_ties_rank_by_position(name, parameters):
    """Signs of four coordinates: all distances are exact, and there are more duplicates than neighbors."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (80, 4)).astype(np.float32)
    assert len(np.unique(signs, axis=0)) == 16
    query, gallery = signs[:30], signs[30:]
    measured = POSTPROCESSING[name](query, gallery, **parameters)
    np.testing.assert_allclose(measured, TRANSCRIPTIONS[name](query, gallery, **parameters), rtol=0, atol=1e-6)


def test_hand_computed_k_reciprocal():
    """Two pairs at right angles: each image has its pair as the one reciprocal neighbor."""
    query = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    gallery = np.array([[0, 3, 0, 0], [2, 0, 0, 0]])
    # Itself and its pair, both at distance 0: the encodings of a pair are equal, those of different pairs disjoint.
    expected = [[1, 0], [0, 1]]
    assert k_reciprocal(query, gallery, k1=1, k2=1).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_reranking_helps_clustered_features(seed):
    query, gallery, *ids = two_modalities(seed, identities=30, images=10, noise=0.8)
    positions = np.arange(len(query)), np.arange(len(query), len(query) + len(gallery))
    plain = evaluate(cosine_distances(np.concatenate([query, gallery]))(*positions), *ids)
    assert 0.2 < plain.mAP < 0.9
    for name, rerank in POSTPROCESSING.items():
        assert evaluate(rerank(query, gallery), *ids).mAP > plain.mAP + 0.02, name


@pytest.mark.parametrize("rerank", POSTPROCESSING.values(), ids=POSTPROCESSING)
def test_only_the_direction_of_features_counts(rerank):
    query, gallery, *_ = two_modalities(2)
    expected = rerank(query, gallery)
    lengths = np.float32(2) ** np.random.default_rng(0).integers(-60, 60, len(gallery))
    np.testing.assert_allclose(rerank(query * np.float32(1e30), gallery * lengths[:, None]), expected, atol=1e-5)
    for value in (0, 1):
        assert np.isfinite(rerank(np.full((2, 4), value), np.full((3, 4), value))).all()


def test_other_queries_count_for_k_reciprocal_only():
    query, gallery, *_ = two_modalities(3)
    assert not np.allclose(k_reciprocal(query[:5], gallery), k_reciprocal(query, gallery)[:5], atol=1e-4)
    np.testing.assert_allclose(gallery_affinity(query[:5], gallery), gallery_affinity(query, gallery)[:5], atol=1e-6)


def searches():
    """Three random galleries, where same-camera images do not count and one identity has no gallery image."""
    query, gallery, query_ids, gallery_ids = two_modalities(4, noise=1.5)
    features, rng = np.concatenate([query, gallery]), np.random.default_rng(5)
    identities = np.concatenate([query_ids, np.where(gallery_ids == 3, 4, gallery_ids)])
    cameras = rng.integers(1, 4, identities.size)
    queries, images = np.arange(len(query)), np.arange(len(query), len(features))
    trials = tuple(Trial(queries, np.sort(rng.choice(images, 40, replace=False))) for _ in range(3))
    rule = {"name": "seeded", "mode": "-", "shots": 1, "direction": "infrared->visible", "rank_unit": "identity"}
    return features, identities, cameras, RetrievalProtocol(trials=trials, excluded=same_identity_and_camera, **rule)


@pytest.mark.parametrize("name", POSTPROCESSING)
def test_each_trial_is_searched_alone(name):
    features, identities, cameras, protocol = searches()
    row = evaluate_protocol(reranked_distances(name, features), identities, cameras, protocol, per_trial=True)
    for number, trial in enumerate(protocol.trials):
        queries, gallery = trial.queries, trial.gallery
        excluded = (identities[queries][:, None] == identities[gallery]) & (
            cameras[queries][:, None] == cameras[gallery]
        )
        distances = POSTPROCESSING[name](features[queries], features[gallery])
        alone = evaluate(distances, identities[queries], identities[gallery], excluded=excluded)
        measured = [row[metric]["trials"][number] for metric in ("rank1", "rank20", "mAP", "mINP")]
        assert measured == [alone.cmc[0], alone.cmc[19], alone.mAP, alone.mINP]
        assert alone.queries < queries.size
    # What is in the galleries of other trials would count otherwise.
    assert row != evaluate_protocol(reranked_distances(name, features), identities, cameras, protocol)


def test_trials_give_pairwise_distances_the_same_row():
    features, identities, cameras, protocol = searches()
    plain, asked = cosine_distances(features), []

    def distances(queries, gallery):
        asked.append((queries.tolist(), gallery.tolist()))
        return plain(queries, gallery)

    row = evaluate_protocol(distances, identities, cameras, protocol, per_trial=True)
    assert row == evaluate_protocol(plain, identities, cameras, protocol)
    # Queries without a match too: the labels do not choose the queries.
    assert asked == [(trial.queries.tolist(), trial.gallery.tolist()) for trial in protocol.trials]


def test_a_gallery_array_of_its_own():
    query, gallery, *_ = two_modalities(6)
    queries, images = np.array([4, 0, 7]), np.array([1, 2, 5, 11, 30])
    joint = reranked_distances("k_reciprocal", np.concatenate([query, gallery]))(queries, images + len(query))
    apart = reranked_distances("k_reciprocal", query, gallery)(queries, images)
    np.testing.assert_array_equal(apart, joint)


def test_the_config_knows_the_names():
    config = config_lib.default_config()
    assert config.eval.postprocessing == ()
    config.eval.postprocessing = tuple(POSTPROCESSING)
    config_lib.validate(config)
    config.eval.postprocessing = ("k_reciprocal", "query_expansion")
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    assert "config.eval.postprocessing is ('k_reciprocal', 'query_expansion'); expected" in str(error.value)
    assert all(name in str(error.value) for name in POSTPROCESSING)
