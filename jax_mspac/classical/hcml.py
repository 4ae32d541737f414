"""Hierarchical cross-modality metric learning, HCML (Ye, Lan, Li and Yuen, AAAI 2018).

A map for each modality, V and T, draws the images of a person together; a metric M = P P^T, shared, compares the mapped
modalities. With x_c and z_c the mean visible and infrared features of identity c, minimized are

    sum_ij w_ij log(1 + exp(y_ij (d_ij - mu))),   d_ij = (x_i V - z_j T) M (x_i V - z_j T)^T
    + intra * mean_n log(1 + exp(|(x_n - x_c(n)) V|^2)) + the same for T,

y_ij = 1 for the same identity and -1 for others, w_ij = 1 / number of pairs with that sign; mu is the mean of d_ij
where M, V and T are the identity, which is where the search starts. M is learned by accelerated proximal gradient, the
proximal map being the nearest positive semi-definite matrix; V and T, between two steps of M, by a gradient step.

Readings of ours: the step of V and T is found by backtracking like that of M (the original's shrinks on a schedule),
and features are scaled to mu = 1, as a logistic loss has a unit. The loss has no minimum, only an infimum: smaller V
and T with a larger M leave d as it is and lower the losses within the modalities. The number of steps is therefore a
hyper-parameter, as for a network.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from jax_mspac.classical import projections

FIRST_STEP = 256.0  # Steps are only ever halved.
SMALLEST_STEP = 1e-12


@projections.metric(pca_dims=600)
def fit(
    sample: projections.Sample,
    *,
    dims: int,
    intra: float = 0.2,
    iterations: int = 300,
    tolerance: float = 1e-6,
) -> projections.Projection:
    """The projections V P and T P, P the leading eigenvectors of M times the roots of its eigenvalues.

    Args:
      intra: weight of the two losses within a modality.
      iterations: at most this many steps.
      tolerance: the search ends after a step that lowers the loss by less than this part of it.
    """
    problem, unit = pose(sample, intra=intra)
    metric, maps, _ = optimize(problem, iterations=iterations, tolerance=tolerance)
    values, vectors = np.linalg.eigh(metric)
    factor = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    return projections.compose(sample, maps @ factor / unit, dims=dims)


class Problem(NamedTuple):
    """What the loss depends on besides M, V and T.

    Attributes:
      means: [I_v, k] and [I_i, k], of each identity in each modality.
      deviations: [n_v, k] and [n_i, k], of each image from the mean of its identity in its modality.
      signs: [I_v, I_i], y.
      weights: [I_v, I_i], w.
      threshold: mu.
      intra: weight of the two losses within a modality.
    """

    means: tuple[np.ndarray, np.ndarray]
    deviations: tuple[np.ndarray, np.ndarray]
    signs: np.ndarray
    weights: np.ndarray
    threshold: float
    intra: float


def pose(sample: projections.Sample, *, intra: float) -> tuple[Problem, float]:
    """The problem of a sample, and the number that its coordinates were divided by to have mu = 1."""
    counts, sums = sample.class_sums()
    seen = counts > 0
    centers = sums / np.maximum(counts, 1)[:, :, None]
    means = centers[0][seen[0]], centers[1][seen[1]]
    unit = float(np.sqrt(np.mean(_distances(*means, np.eye(centers.shape[2])))))
    visible, infrared = (x - centers[index][ids] for index, (x, ids) in enumerate(map(sample.of, range(2))))
    deviations = visible, infrared
    same = np.nonzero(seen[0])[0][:, None] == np.nonzero(seen[1])[0]
    weights = np.where(same, 1 / np.sum(same), 1 / np.sum(~same))
    means, deviations = ((pair[0] / unit, pair[1] / unit) for pair in (means, deviations))
    return Problem(means, deviations, np.where(same, 1.0, -1.0), weights, 1.0, intra), unit


def cross_loss(
    problem: Problem, metric: np.ndarray, maps: np.ndarray
) -> tuple[float, Callable[[], np.ndarray], Callable[[], np.ndarray]]:
    """The loss between the modalities, for a symmetric metric M [k, k] and maps V and T [2, k, k].

    Returns:
      its value, and functions that compute its gradient for M [k, k] and for V and T [2, k, k].
    """
    a, b = (mean @ each for mean, each in zip(problem.means, maps, strict=True))
    exponents = problem.signs * (_distances(a, b, metric) - problem.threshold)
    slopes = problem.weights * problem.signs * expit(exponents)
    pull_a = slopes.sum(axis=1)[:, None] * a - slopes @ b
    pull_b = slopes.sum(axis=0)[:, None] * b - slopes.T @ a

    def for_metric() -> np.ndarray:
        return a.T @ pull_a + b.T @ pull_b

    def for_maps() -> np.ndarray:
        return np.stack([2 * problem.means[0].T @ (pull_a @ metric), 2 * problem.means[1].T @ (pull_b @ metric)])

    return float(np.sum(problem.weights * np.logaddexp(0, exponents))), for_metric, for_maps


def intra_loss(problem: Problem, maps: np.ndarray) -> tuple[float, Callable[[], np.ndarray]]:
    """The weighted loss within the modalities, and a function that computes its gradient for V and T [2, k, k]."""
    mapped = [deviation @ each for deviation, each in zip(problem.deviations, maps, strict=True)]
    squares = [np.sum(each**2, axis=1) for each in mapped]

    def for_maps() -> np.ndarray:
        slopes = [2 * problem.intra / len(each) * expit(each) for each in squares]
        return np.stack([(x.T * s) @ y for x, s, y in zip(problem.deviations, slopes, mapped, strict=True)])

    return problem.intra * float(sum(np.mean(np.logaddexp(0, each)) for each in squares)), for_maps


def optimize(problem: Problem, *, iterations: int, tolerance: float) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """M [k, k], V and T [2, k, k], and the loss at the start and after each step."""
    identity = np.eye(problem.means[0].shape[1])
    metric, maps = identity, np.stack([identity, identity])
    before, pace, metric_step, maps_step = metric, 0.0, FIRST_STEP, FIRST_STEP
    losses = [_loss_of_maps(maps, problem, metric)[0]]
    for _ in range(iterations):
        previous_pace, pace = pace, (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = metric + (previous_pace - 1) / pace * (metric - before)
        before = metric
        metric, _, metric_step = _descend(
            _loss_of_metric, ahead, problem, maps, step=metric_step, proximal=_positive_part
        )
        maps, loss, maps_step = _descend(_loss_of_maps, maps, problem, metric, step=maps_step)
        losses.append(loss)
        if losses[-2] - loss < tolerance * losses[-2]:
            break
    return metric, maps, losses


def _loss_of_metric(metric: np.ndarray, problem: Problem, maps: np.ndarray) -> tuple[float, Callable[[], np.ndarray]]:
    """The part of the loss that depends on M, and its gradient."""
    return cross_loss(problem, metric, maps)[:2]


def _loss_of_maps(maps: np.ndarray, problem: Problem, metric: np.ndarray) -> tuple[float, Callable[[], np.ndarray]]:
    """The whole loss, and its gradient for V and T."""
    between, _, for_between = cross_loss(problem, metric, maps)
    inside, for_inside = intra_loss(problem, maps)
    return between + inside, lambda: for_between() + for_inside()


def _descend(
    loss: Callable[..., tuple[float, Callable[[], np.ndarray]]],
    point: np.ndarray,
    *fixed: Any,
    step: float,
    proximal: Callable[[np.ndarray], np.ndarray] = lambda point: point,
) -> tuple[np.ndarray, float, float]:
    """A proximal gradient step, halved until its quadratic model bounds the loss: the new point, its loss, the step."""
    value, gradient_of = loss(point, *fixed)
    gradient = gradient_of()
    while True:
        found = proximal(point - step * gradient)
        change = found - point
        reached = loss(found, *fixed)[0]
        # At a minimum the change is below the rounding of the loss, which must not halve the step for ever.
        model = value + np.sum(change * gradient) + np.sum(change**2) / (2 * step) + 1e-14 * abs(value)
        if reached <= model or step < SMALLEST_STEP:
            return found, reached, step
        step /= 2


def _positive_part(matrix: np.ndarray) -> np.ndarray:
    """The nearest positive semi-definite matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, 0)) @ vectors.T


def _distances(a: np.ndarray, b: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """(a_i - b_j) M (a_i - b_j)^T: [n, m]."""
    product = a @ metric
    norms_a, norms_b = np.sum(product * a, axis=1), np.sum(b @ metric * b, axis=1)
    return norms_a[:, None] + norms_b - 2 * product @ b.T
