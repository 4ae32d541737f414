"""HCML, against a plain transcription of its loss and of its steps."""

import numpy as np
import pytest
from helpers.latent_persons import distances_after, persons, sample_of
from scipy.spatial import distance

from jax_mspac.classical import hcml


def problem_of(data, **options):
    return hcml.pose(sample_of(data), **({"intra": 0.2} | options))[0]


def plain_loss(data, metric, maps):
    """The sum in the module's docstring, from the features of a sample."""
    sample = sample_of(data)
    centers = [
        {i: x[ids == i].mean(axis=0) for i in np.unique(ids)} for x, ids in (sample.of(index) for index in range(2))
    ]
    pairs = [(i, j) for i in centers[0] for j in centers[1]]
    unit = np.sqrt(np.mean([np.sum((centers[0][i] - centers[1][j]) ** 2) for i, j in pairs]))
    same = sum(i == j for i, j in pairs)
    loss = 0.0
    for i, j in pairs:
        difference = (centers[0][i] @ maps[0] - centers[1][j] @ maps[1]) / unit
        sign = 1 if i == j else -1
        weight = 1 / same if i == j else 1 / (len(pairs) - same)
        loss += weight * np.log(1 + np.exp(sign * (difference @ metric @ difference - 1)))
    for index in range(2):
        x, ids = sample.of(index)
        mapped = [(row - centers[index][i]) @ maps[index] / unit for row, i in zip(x, ids, strict=True)]
        loss += 0.2 * np.mean([np.log(1 + np.exp(np.sum(row**2))) for row in mapped])
    return loss


def random_point(size=6, seed=3):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    return root @ root.T / size, np.eye(size) + 0.3 * rng.standard_normal((2, size, size))


def loss_of(problem, metric, maps):
    return hcml.cross_loss(problem, metric, maps)[0] + hcml.intra_loss(problem, maps)[0]


def test_hcml_loss_is_its_plain_transcription():
    data = persons()
    metric, maps = random_point()
    assert loss_of(problem_of(data), metric, maps) == pytest.approx(plain_loss(data, metric, maps), rel=1e-10)


def test_hcml_gradients_are_those_of_finite_differences():
    problem = problem_of(persons())
    metric, maps = random_point()
    _, for_metric, between = hcml.cross_loss(problem, metric, maps)
    for_metric, for_maps = for_metric(), between() + hcml.intra_loss(problem, maps)[1]()
    rng = np.random.default_rng(0)
    for _ in range(4):
        turn = rng.standard_normal((6, 6))
        in_metric, in_maps = turn + turn.T, rng.standard_normal((2, 6, 6))
        ahead, behind = (loss_of(problem, metric + h * in_metric, maps + h * in_maps) for h in (1e-5, -1e-5))
        slope = np.sum(for_metric * in_metric) + np.sum(for_maps * in_maps)
        assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-5)


def test_hcml_alternates_accelerated_proximal_and_gradient_steps():
    problem = problem_of(persons())
    history, maps, lengths = [np.eye(6), np.eye(6)], np.stack([np.eye(6)] * 2), [hcml.FIRST_STEP] * 2
    momenta = [0, 0, 0.618034 / 2.193527, 1.193527 / 2.749791]  # (t_k-1 - 1) / t_k with t_k^2 - t_k = t_k-1^2

    def positive(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(np.clip(values, 0, None)) @ vectors.T

    for momentum in momenta:
        ahead = history[-1] + momentum * (history[-1] - history[-2])
        value, gradient, _ = hcml.cross_loss(problem, ahead, maps)
        gradient = gradient()
        while True:
            metric = positive(ahead - lengths[0] * gradient)
            model = value + np.sum((metric - ahead) * gradient) + np.sum((metric - ahead) ** 2) / 2 / lengths[0]
            if hcml.cross_loss(problem, metric, maps)[0] <= model:
                break
            lengths[0] /= 2
        history.append(metric)
        gradient = hcml.cross_loss(problem, metric, maps)[2]() + hcml.intra_loss(problem, maps)[1]()
        while True:  # without a constraint the model is at -step / 2 |gradient|^2
            tried = maps - lengths[1] * gradient
            if loss_of(problem, metric, tried) <= loss_of(problem, metric, maps) - lengths[1] / 2 * np.sum(gradient**2):
                break
            lengths[1] /= 2
        maps = tried
    found = hcml.optimize(problem, iterations=len(momenta), tolerance=0.0)
    np.testing.assert_allclose(found[0], metric, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], maps, rtol=1e-5, atol=1e-6)


def test_hcml_descends_to_a_stationary_point():
    problem = problem_of(persons(noise=2.0))
    metric, maps, losses = hcml.optimize(problem, iterations=3000, tolerance=0.0)
    assert np.all(np.diff(losses) <= 1e-12) and losses[-1] < 0.9 * losses[0]
    assert losses[-1] == pytest.approx(loss_of(problem, metric, maps), rel=1e-12)

    def residual(metric, maps):
        _, for_metric, between = hcml.cross_loss(problem, metric, maps)
        values, vectors = np.linalg.eigh(metric - for_metric())
        proximal = vectors @ np.diag(np.clip(values, 0, None)) @ vectors.T
        return np.linalg.norm(proximal - metric), np.linalg.norm(between() + hcml.intra_loss(problem, maps)[1]())

    assert np.linalg.eigvalsh(metric)[0] > -1e-10
    start = residual(np.eye(6), np.stack([np.eye(6)] * 2))
    for before, after in zip(start, residual(metric, maps), strict=True):
        assert after < 0.05 * before


def test_hcml_stops_by_its_tolerance():
    problem = problem_of(persons())
    losses = hcml.optimize(problem, iterations=300, tolerance=1e-2)[2]
    assert len(losses) < 301
    assert losses[-2] - losses[-1] < 1e-2 * losses[-2]
    assert len(hcml.optimize(problem, iterations=5, tolerance=0.0)[2]) == 6


def test_hcml_projects_by_the_factor_of_its_metric():
    data = persons()
    features, _, modalities = data
    sample = sample_of(data)
    problem, unit = hcml.pose(sample, intra=0.2)
    metric, maps, _ = hcml.optimize(problem, iterations=300, tolerance=1e-6)
    mapped = [sample.of(index)[0] / unit @ maps[index] for index in (1, 0)]
    expected = distance.cdist(*mapped, "mahalanobis", VI=metric)
    found = distances_after("hcml", hcml.fit(*data, dims=6), features, modalities)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
