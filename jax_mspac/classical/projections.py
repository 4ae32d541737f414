"""What the metric learners share: the projection they return, the images they fit on, PCA and shrinkage."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES


class Projection(NamedTuple):
    """An affine map of features for each modality, x -> (x - means[m]) @ matrices[m].

    Its shapes depend on D and `dims` alone: columns for which the data had no direction are zero.

    Attributes:
      means: float32 [2, D], of numpy or of JAX.
      matrices: float32 [2, D, dims], likewise.
    """

    means: Any
    matrices: Any


def project(projection: Projection, features: Any, modality_index: int) -> Any:
    """Projects features [N, D] of one modality to [N, dims]; numpy and JAX arrays alike."""
    return (features - projection.means[modality_index][None]) @ projection.matrices[modality_index]


class Sample(NamedTuple):
    """The images that a metric is fitted on, after PCA.

    Attributes:
      coordinates: float64 [n, k], principal components of the features; their mean is 0.
      ids: int [n] in [0, number of identities).
      modalities: int [n].
      mean: float64 [D], of the features.
      components: float64 [D, k], orthonormal columns: coordinates = (features - mean) @ components.
    """

    coordinates: np.ndarray
    ids: np.ndarray
    modalities: np.ndarray
    mean: np.ndarray
    components: np.ndarray

    def of(self, modality_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates and ids of one modality."""
        chosen = self.modalities == modality_index
        return self.coordinates[chosen], self.ids[chosen]

    def class_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each identity in each modality: number of images float64 [2, I], sum of coordinates float64 [2, I, k]."""
        identities = self.ids.max() + 1
        counts = np.zeros((2, identities))
        sums = np.zeros((2, identities, self.coordinates.shape[1]))
        np.add.at(counts, (self.modalities, self.ids), 1)
        np.add.at(sums, (self.modalities, self.ids), self.coordinates)
        return counts, sums

    @property
    def scale(self) -> float:
        """Mean variance of the coordinates: the unit that shrinkage is given in."""
        return float(np.mean(self.coordinates**2))


def subset(ids: np.ndarray, modalities: np.ndarray, *, max_images: int, seed: int = 0) -> np.ndarray:
    """At most max_images images, spread evenly over the identities and their modalities: sorted int64 positions.

    Round after round takes one more image, at random, from each identity in each modality. A caller that has labels
    before it has features can ask for this first and compute no others: `fit` takes all of these.
    """
    order = np.random.default_rng(seed).permutation(len(ids))
    _, group = np.unique(np.stack([ids, modalities]), axis=1, return_inverse=True)
    order = order[np.argsort(group[order], kind="stable")]
    sizes = np.bincount(group)
    round_of = np.arange(len(ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[np.argsort(round_of, kind="stable")[:max_images]])


def reduce(
    features: np.ndarray, ids: np.ndarray, modalities: np.ndarray, *, pca_dims: int, max_images: int, seed: int
) -> Sample:
    """Picks the images to fit on (see `subset`) and finds their principal components.

    scikit-learn chooses the algorithm: for long features, a randomized SVD from the seed.

    Raises:
      UserError: features that are not finite or all equal, or fewer than two identities with images of both modalities.
    """
    ids, modalities = np.asarray(ids), np.asarray(modalities)
    kept = subset(ids, modalities, max_images=max_images, seed=seed)
    features, modalities = np.asarray(features)[kept], modalities[kept]
    _, ids = np.unique(ids[kept], return_inverse=True)
    _check(features, ids, modalities)
    # It takes most of a second to import, and few runs end with a metric.
    from sklearn import decomposition

    pca = decomposition.PCA(min(pca_dims, *features.shape), random_state=seed).fit(features)
    found = pca.singular_values_ > 1e-6 * pca.singular_values_[0]
    components = pca.components_[found].T.astype(np.float64)
    mean = pca.mean_.astype(np.float64)
    coordinates = features @ components.astype(features.dtype) - pca.mean_ @ components.astype(features.dtype)
    return Sample(coordinates.astype(np.float64), ids, modalities, mean, components)


def metric(pca_dims: int | None) -> Callable[[Callable[..., Projection]], Callable[..., Projection]]:
    """Makes the `fit` of a metric, see `classical`, of a function of a sample; the default of `pca_dims`, None: `dims`.

    Besides the settings of that function, `fit` takes

      features: float [N, D].
      ids, modalities: int [N].
      dims: columns of the projection.
      pca_dims: principal components that the metric is learned on.
      max_images: at most this many are fitted on, see `subset`; 4000 if not given.
      seed: picks those images, and starts the randomized SVD; 0 if not given.

    and raises what `reduce` does.
    """

    def decorated(learn: Callable[..., Projection]) -> Callable[..., Projection]:
        def fit(features, ids, modalities, *, dims, pca_dims=pca_dims, max_images=4000, seed=0, **settings):
            kept = {"pca_dims": pca_dims or dims, "max_images": max_images, "seed": seed}
            return learn(reduce(features, ids, modalities, **kept), dims=dims, **settings)

        fit.__doc__ = learn.__doc__
        return fit

    return decorated


def compose(sample: Sample, matrices: np.ndarray, *, dims: int, centers: np.ndarray | None = None) -> Projection:
    """The PCA of a sample followed by one matrix per modality.

    Of matrices [2, k, r], best columns first, those further than `dims` are dropped and missing ones are zero. The
    centers [2, k], 0 if not given, are subtracted from the coordinates of each modality.
    """
    found = min(dims, matrices.shape[2])
    padded = np.zeros((2, len(sample.mean), dims), np.float32)
    padded[:, :, :found] = sample.components @ matrices[:, :, :found]
    offsets = 0 if centers is None else centers @ sample.components.T
    return Projection(np.broadcast_to(sample.mean + offsets, (2, len(sample.mean))).astype(np.float32), padded)


def shrink(covariance: np.ndarray, amount: float, *, scale: float) -> np.ndarray:
    """(1 - amount) * covariance + amount * scale * I, which has an inverse for every amount above 0."""
    return (1 - amount) * covariance + amount * scale * np.eye(len(covariance))


def _check(features: np.ndarray, ids: np.ndarray, modalities: np.ndarray) -> None:
    for index, name in enumerate(MODALITIES):
        if not np.any(modalities == index):
            raise UserError(
                f"learning a metric: none of the {len(ids)} training images is {name}; "
                "expected images of both modalities: add some"
            )
    paired = np.intersect1d(ids[modalities == 0], ids[modalities == 1])
    if len(paired) < 2:
        raise UserError(
            f"learning a metric: {len(paired)} of {ids.max() + 1} training identities have images of both modalities; "
            "expected 2 or more: add images of the other modality"
        )
    if not np.isfinite(features).all():
        bad = int(np.count_nonzero(~np.isfinite(features).all(axis=1)))
        raise UserError(
            f"learning a metric: the features of {bad} of {len(ids)} images hold NaN or infinity; expected finite "
            "numbers: look at the model or file they come from"
        )
    if np.all(features == features[:1]):
        raise UserError(
            f"learning a metric: the features of all {len(ids)} images are equal; expected features that tell images "
            "apart: look at the images, or choose another descriptor"
        )
