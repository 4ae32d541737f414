"""Metric learners, against pairs listed one by one, other implementations and plain transcriptions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from helpers.latent_persons import distances_after, pairs_of, persons, sample_of
from scipy.spatial import distance
from sklearn import cross_decomposition, decomposition

from jax_mspac.classical import METRICS, cca, craft, kissme, lfda, projections
from jax_mspac.errors import UserError

LEARNT = [name for name in METRICS if name != "pca"]


# What all learners share.


def test_subset_takes_turns_among_identities_and_modalities():
    ids, modalities = np.repeat([5, 5, 6, 6], [10, 2, 5, 30]), np.repeat([0, 1, 0, 1], [10, 2, 5, 30])
    chosen = projections.subset(ids, modalities, max_images=13)
    groups = [
        np.count_nonzero((ids[chosen] == i) & (modalities[chosen] == m)) for i, m in ((5, 0), (5, 1), (6, 0), (6, 1))
    ]
    assert groups[1] == 2 and sum(groups) == 13 and min(groups[0], *groups[2:]) >= 3 and max(groups) <= 4
    assert np.all(np.diff(chosen) > 0)
    np.testing.assert_array_equal(chosen, projections.subset(ids, modalities, max_images=13))
    assert not np.array_equal(chosen, projections.subset(ids, modalities, max_images=13, seed=1))
    np.testing.assert_array_equal(projections.subset(ids, modalities, max_images=47), np.arange(47))


@pytest.mark.parametrize("dim", [6, 90])
def test_reduce_is_principal_component_analysis(dim):
    features, *rest = persons(dim=dim)
    sample = sample_of((features, *rest), pca_dims=5)
    centerd = features - features.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centerd, full_matrices=False)
    np.testing.assert_allclose(sample.components @ sample.components.T, axes[:5].T @ axes[:5], atol=1e-8)
    np.testing.assert_allclose(sample.coordinates, centerd @ sample.components, atol=1e-8)
    np.testing.assert_allclose(np.sum(sample.coordinates**2, axis=0), lengths[:5] ** 2, rtol=1e-8)
    assert sample.scale == pytest.approx(np.sum(lengths[:5] ** 2) / 5 / len(features))


def test_pca_is_scikit_learns():
    features, ids, modalities = persons()
    projection = METRICS["pca"].fit(features, ids, modalities, dims=3)
    expected = decomposition.PCA(3).fit_transform(features)
    for index in range(2):
        chosen = modalities == index
        projected = projections.project(projection, features[chosen], index)
        np.testing.assert_allclose(np.abs(projected), np.abs(expected[chosen]), atol=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_shapes_depend_on_the_sizes_alone(name):
    features, ids, modalities = persons()
    features = np.concatenate([features, features], axis=1)  # 12 numbers, 6 directions
    for dims in (2, 20):
        projection = METRICS[name].fit(features, ids, modalities, dims=dims)
        assert projection.means.shape == (2, 12) and projection.matrices.shape == (2, 12, dims)
        assert projection.means.dtype == projection.matrices.dtype == np.float32
        assert np.isfinite(projection.matrices).all() and np.any(projection.matrices[:, :, :2])
    assert not np.any(projection.matrices[:, :, 12:])
    assert jax.tree.structure(projection).num_leaves == 2


@pytest.mark.parametrize("name", LEARNT)
def test_fewer_dims_are_the_first_columns(name):
    data = persons()
    few, many = (METRICS[name].fit(*data, dims=dims) for dims in (2, 5))
    np.testing.assert_array_equal(few.matrices, many.matrices[:, :, :2])


def test_project_is_the_same_for_numpy_and_jax():
    features, ids, modalities = persons()
    projection = cca.fit(features, ids, modalities, dims=4)
    features = features.astype(np.float32)
    for index in range(2):
        expected = (features - projection.means[index]) @ projection.matrices[index]
        np.testing.assert_array_equal(projections.project(projection, features, index), expected)
        on_device = jax.tree.map(jnp.asarray, projection)
        projected = jax.jit(projections.project, static_argnums=2)(on_device, jnp.asarray(features), index)
        np.testing.assert_allclose(projected, expected, atol=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_max_images_fits_on_that_subset(name):
    data = persons(images=5)
    chosen = projections.subset(data[1], data[2], max_images=40, seed=4)
    expected = METRICS[name].fit(*(each[chosen] for each in data), dims=4)
    found = METRICS[name].fit(*data, dims=4, max_images=40, seed=4)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", LEARNT)
def test_units_axes_names_and_order_do_not_matter(name):
    features, ids, modalities = persons()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    order = np.random.default_rng(2).permutation(len(ids))
    plain = METRICS[name].fit(features, ids, modalities, dims=4)
    changed = 7 * features @ turn + 3
    other = METRICS[name].fit(changed[order], 1000 - ids[order], modalities[order], dims=4)
    np.testing.assert_allclose(
        distances_after(name, other, changed, modalities),
        distances_after(name, plain, features, modalities),
        rtol=2e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", LEARNT)
def test_new_persons_are_found_better_than_by_pca_alone(name):
    features, ids, modalities = persons(80, 4, 20)  # 4 of 20 directions tell persons
    train = ids < np.median(ids)

    def rank1(method):
        projection = METRICS[method].fit(*(each[train] for each in (features, ids, modalities)), dims=4)
        nearest = distances_after(method, projection, features[~train], modalities[~train]).argmin(axis=1)
        visible, infrared = (ids[~train][modalities[~train] == index] for index in range(2))
        return np.mean(visible[nearest] == infrared)

    assert rank1(name) > rank1("pca") + 0.3


# Mistakes.


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_a_modality_is_missing(name, modality):
    features, ids, modalities = persons()
    modalities[:] = modality == "visible"
    with pytest.raises(UserError, match=f"none of the {len(ids)} training images is {modality}; expected"):
        METRICS[name].fit(features, ids, modalities, dims=2)


@pytest.mark.parametrize("name", METRICS)
def test_too_few_identities_are_seen_in_both_modalities(name):
    features, ids, modalities = persons(identities=3)
    ids[(modalities == 1) & (ids == 13)] = 77
    with pytest.raises(UserError, match="1 of 4 training identities have images of both modalities; expected 2"):
        METRICS[name].fit(features, ids, modalities, dims=2)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_are_not_finite(name, value):
    features, ids, modalities = persons()
    features[[2, 5], 3] = value
    with pytest.raises(UserError, match=f"features of 2 of {len(ids)} images hold NaN or infinity"):
        METRICS[name].fit(features, ids, modalities, dims=2)


@pytest.mark.parametrize("name", METRICS)
def test_features_are_all_equal(name):
    features, ids, modalities = persons()
    features[:] = 4.5
    with pytest.raises(UserError, match=f"features of all {len(ids)} images are equal"):
        METRICS[name].fit(features, ids, modalities, dims=2)


@pytest.mark.parametrize("name", METRICS)
def test_singular_covariances_are_regularized(name):
    """Images of a person are copies of one, fewer persons than directions: no scatter within has an inverse."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((5, 30))
    ids, modalities = np.tile(np.arange(5), 6), np.repeat([0, 1], 15)
    projection = METRICS[name].fit(features[ids], ids, modalities, dims=8)
    found = distances_after(name, projection, features[ids].astype(np.float32), modalities).argmin(axis=1)
    np.testing.assert_array_equal(ids[modalities == 0][found], ids[modalities == 1])


# KISSME.


def test_kissme_moments_are_those_of_the_listed_pairs():
    data = persons()
    sample = sample_of(data)
    for moment, pairs in zip(kissme.pair_moments(sample), pairs_of(data[1], data[2]), strict=True):
        differences = np.array([sample.coordinates[i] - sample.coordinates[j] for i, j in pairs])
        np.testing.assert_allclose(moment, differences.T @ differences / len(pairs), atol=1e-10)


def test_kissme_is_its_closed_form():
    features, ids, modalities = persons()
    moments = []
    for pairs in pairs_of(ids, modalities):
        differences = np.array([features[i] - features[j] for i, j in pairs])
        moments.append(differences.T @ differences / len(pairs))
    values, vectors = np.linalg.eigh(np.linalg.inv(moments[0]) - np.linalg.inv(moments[1]))
    assert values[0] < 0, "the data must have something to clip"
    metric = vectors @ np.diag(np.maximum(values, 0)) @ vectors.T
    projection = kissme.fit(features, ids, modalities, dims=6, shrinkage=0.0)
    expected = distance.cdist(features[modalities == 1], features[modalities == 0], "mahalanobis", VI=metric)
    np.testing.assert_allclose(distances_after("kissme", projection, features, modalities), expected, rtol=1e-4)


# LFDA.


def plain_local_scatters(x, ids, neighbor):
    n = len(x)
    within, between = np.zeros((2, x.shape[1], x.shape[1]))
    scales = []
    for i in range(n):
        near = sorted(np.linalg.norm(x[i] - x[j]) for j in range(n) if ids[j] == ids[i])
        scales.append(near[min(neighbor, len(near) - 1)])
    for i, j in itertools.product(range(n), repeat=2):
        outer = np.outer(x[i] - x[j], x[i] - x[j]) / 2
        size = np.count_nonzero(ids == ids[i])
        if ids[i] == ids[j]:
            affinity = np.exp(-(np.linalg.norm(x[i] - x[j]) ** 2) / (scales[i] * scales[j]))
            within += affinity / size * outer
            between += affinity * (1 / n - 1 / size) * outer
        else:
            between += outer / n
    return within / n, between / n


@pytest.mark.parametrize("neighbor", [2, 7])
def test_lfda_is_its_plain_transcription(neighbor):
    features, ids, modalities = persons(identities=6)
    expected = plain_local_scatters(features, ids, neighbor)
    for found, plain in zip(lfda.local_scatters(features, ids, neighbor=neighbor), expected, strict=True):
        np.testing.assert_allclose(found, plain, atol=1e-10)
    within, between = expected
    values, vectors = scipy.linalg.eig(between, within)
    best = np.argsort(-values.real)[:3]
    directions = vectors[:, best].real
    directions *= np.sqrt(values.real[best] / np.einsum("dr,de,er->r", directions, within, directions))
    projection = lfda.fit(features, ids, modalities, dims=3, neighbor=neighbor, shrinkage=0.0)
    for index in range(2):
        np.testing.assert_allclose(np.abs(projection.matrices[index]), np.abs(directions), rtol=1e-3, atol=1e-4)


def test_lfda_takes_many_equal_images():
    data = persons()
    copies = [np.concatenate([each, np.repeat(each[:1], 9, axis=0)]) for each in data]
    within, between = lfda.local_scatters(copies[0], copies[1], neighbor=7)
    assert np.isfinite(within).all() and np.isfinite(between).all()
    assert np.linalg.eigvalsh(within)[0] > -1e-12 and np.linalg.eigvalsh(between)[0] > -1e-12


# CCA.


def test_cca_covariances_are_those_of_the_listed_pairs():
    data = persons()
    sample = sample_of(data)
    pairs, _ = pairs_of(data[1], data[2])
    x, y = (np.array([sample.coordinates[pair[index]] for pair in pairs]) for index in range(2))
    means, auto, cross = cca.pair_covariances(sample)
    np.testing.assert_allclose(means, [x.mean(axis=0), y.mean(axis=0)], atol=1e-10)
    joint = np.cov(x.T, y.T, bias=True)
    np.testing.assert_allclose(np.block([[auto[0], cross], [cross.T, auto[1]]]), joint, atol=1e-10)


def test_cca_is_scikit_learns_where_each_person_has_one_pair():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((200, 3))
    views = [latent @ rng.standard_normal((3, 4)) + rng.standard_normal((200, 4)) for _ in range(2)]
    ids, modalities = np.tile(np.arange(200), 2), np.repeat([0, 1], 200)
    projection = cca.fit(np.concatenate(views), ids, modalities, dims=3, shrinkage=0.0)
    ours = [projections.project(projection, view, index) for index, view in enumerate(views)]
    theirs = cross_decomposition.CCA(3, scale=False, tol=1e-12, max_iter=10000).fit(*views).transform(*views)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.abs(np.corrcoef(our.T, their.T)[:3, 3:]), np.eye(3), atol=1e-3)
        np.testing.assert_allclose(np.cov(our.T, bias=True), np.eye(3), atol=1e-4)
        np.testing.assert_allclose(our.mean(axis=0), 0, atol=1e-5)
    correlations = np.diag(np.corrcoef(ours[0].T, ours[1].T)[:3, 3:])
    assert correlations[0] > correlations[1] > correlations[2] > 0


def test_cca_has_fewer_directions_than_persons():
    projection = cca.fit(*persons(identities=4), dims=6)  # three of them are seen in both modalities
    np.testing.assert_array_equal(np.any(projection.matrices, axis=1), [[True] * 2 + [False] * 4] * 2)


# CRAFT.


def plain_omega(sample, dims):
    axes = [decomposition.PCA(dims).fit(sample.of(index)[0]).components_.T for index in range(2)]
    likeness = np.mean(np.cos(scipy.linalg.subspace_angles(*axes)))
    return np.array([[2 - likeness, likeness], [likeness, 2 - likeness]])


@pytest.mark.parametrize("dims", [2, 50])
def test_craft_augments_by_principal_angles(dims):
    sample = sample_of(persons())
    found = craft.augmentation(sample, subspace_dims=dims, discrepancy=0.6)
    omega = plain_omega(sample, min(dims, 3))
    whitening = np.linalg.inv(scipy.linalg.sqrtm(np.array([[1, -0.6], [-0.6, 1]])))
    np.testing.assert_allclose(found, omega @ whitening, atol=1e-8)


def test_craft_does_not_augment_equal_modalities():
    """Subspaces that are the same have cosines of 1: both blocks weigh the same, and modalities cannot differ."""
    features, ids, modalities = persons()
    twice = np.concatenate([features, features]), np.tile(ids, 2), np.repeat([0, 1], len(ids))
    found = craft.augmentation(sample_of(twice), subspace_dims=3, discrepancy=0.0)
    np.testing.assert_allclose(found, np.ones((2, 2)), atol=1e-8)


def test_craft_is_its_plain_transcription():
    data = persons()
    features, ids, modalities = data
    n, near, far, shrinkage = len(ids), 2, 3, 0.05
    x = sample_of(data).coordinates
    omega = plain_omega(sample_of(data), 3)
    augmented = np.stack([np.kron(omega[m], x[i]) for i, m in enumerate(modalities)])
    penalty = np.kron(np.array([[1, -0.6], [-0.6, 1]]), np.eye(6))
    y = augmented @ np.linalg.inv(scipy.linalg.sqrtm(penalty))
    scatters = []
    for wanted, count in ((True, near), (False, far)):
        edges = set()
        for i in range(n):
            mates = [j for j in range(n) if modalities[j] != modalities[i] and (ids[j] == ids[i]) == wanted]
            for j in sorted(mates, key=lambda j, i=i: np.linalg.norm(x[i] - x[j]))[:count]:
                edges |= {(i, j), (j, i)}
        scatters.append(sum(np.outer(y[i] - y[j], y[i] - y[j]) for i, j in edges) / (2 * len(edges)))
    within = (1 - shrinkage) * scatters[0] + shrinkage * np.mean(y**2) * np.eye(12)
    _, vectors = scipy.linalg.eigh(scatters[1], within)
    expected = distance.cdist(*(y[modalities == index] @ vectors[:, ::-1][:, :4] for index in (1, 0)))
    options = {"same_neighbors": near, "other_neighbors": far, "shrinkage": shrinkage, "subspace_dims": 3}
    projection = craft.fit(*data, dims=4, **options)
    np.testing.assert_allclose(distances_after("craft", projection, features, modalities), expected, rtol=1e-3)


def test_craft_joins_neighbors_across_blocks_of_rows(monkeypatch):
    rng = np.random.default_rng(0)
    x, ids = rng.standard_normal((40, 3)), rng.integers(0, 5, 40)
    same = ids[:, None] == ids
    whole = craft.neighbor_graph(x, same, count=3).toarray()
    monkeypatch.setattr(craft, "_ROWS", 7)
    np.testing.assert_array_equal(craft.neighbor_graph(x, same, count=3).toarray(), whole)
    assert not np.any(whole[~same]) and not np.any(np.diag(whole)) and np.array_equal(whole, whole.T)
