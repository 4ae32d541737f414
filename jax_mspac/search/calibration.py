"""The similarity from which on two images are of one person: from labeled images that the model was not trained on."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_mspac.data.image_set import shortened
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import embed_images
from jax_mspac.metrics.distances import unit
from jax_mspac.metrics.verification import CONFIDENCE, Pairs, Rate, curve, rates, threshold_for
from jax_mspac.modalities import MODALITIES
from jax_mspac.protocols.base import direction
from jax_mspac.runs import provenance
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runs.inference import Model
from jax_mspac.search import sources
from jax_mspac.search.base import Store

# Of each modality; more pairs would say little more, and take much memory.
_MOST_IMAGES = 2000
_SPLIT = "val"


@dataclasses.dataclass(frozen=True, eq=False)
class Labeled:
    """Images of known people.

    Attributes:
      features: float32 [N, D], of length 1.
      identities: str [N].
      cameras: object [N], their names; None where nobody told.
      modalities: str [N].
      origin: what they are, in words.
    """

    features: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    modalities: np.ndarray
    origin: str


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A similarity from which on two images match, and what it is worth.

    Attributes:
      threshold: the similarity.
      wished: the false-match rate that was asked for.
      fmr: the false-match rate, of pairs of images.
      fnmr: the false-non-match rate.
      genuine: pairs of one person that these come from.
      impostor: pairs of two people.
      identities: people.
      confidence: of the intervals of both rates.
      curve: thresholds, FMR and FNMR, ascending.
      origin: which images.
    """

    threshold: float
    wished: float
    fmr: Rate
    fnmr: Rate
    genuine: int
    impostor: int
    identities: int
    confidence: float
    curve: list[list[float]]
    origin: str


def thresholds(labeled: Labeled, false_match_rate: float) -> dict[str, Threshold]:
    """A threshold for each two modalities with pairs enough, under the names of both directions of a search.

    Similarities of two modalities are lower than those of one, so each two have a threshold of their own. Images of one
    modality and camera are of one moment, mostly: where a modality has pairs of one person across cameras, those within
    a camera do not count.

    Raises:
      UserError: the rate is none, no two images are of one person, or nowhere there are enough pairs to tell the rate.
    """
    names, identities = np.unique(labeled.identities, return_inverse=True)
    found: dict[str, Threshold] = {}
    problem = UserError(f"{labeled.origin}: no two images of one person beside one of another; label more images")
    for one, other in itertools.combinations_with_replacement(MODALITIES, 2):
        rows, columns = (_some(np.flatnonzero(labeled.modalities == modality)) for modality in (one, other))
        counted = np.ones((len(rows), len(columns)), bool)
        if one == other:
            counted = np.triu(counted, 1)  # each pair once, and no image with itself
            different = labeled.cameras[rows][:, None] != labeled.cameras[columns][None, :]
            same = identities[rows][:, None] == identities[columns][None, :]
            if (counted & same & different).any():
                counted &= ~same | different
        similarities = labeled.features[rows] @ labeled.features[columns].T
        pairs = Pairs(similarities, identities[rows], identities[columns], counted, len(names))
        genuine, impostor = pairs.genuine(), pairs.impostor()
        if not genuine.size or not impostor.size:
            continue
        try:
            threshold = threshold_for(impostor, false_match_rate)
        except UserError as error:  # other modalities may have more pairs
            problem = UserError(f"{labeled.origin}, {direction(one, other)}: {error}")
            continue
        fmr, fnmr = rates(pairs, threshold)
        result = Threshold(
            threshold=threshold,
            wished=false_match_rate,
            fmr=fmr,
            fnmr=fnmr,
            genuine=len(genuine),
            impostor=len(impostor),
            identities=len(np.unique(np.concatenate([identities[rows], identities[columns]]))),
            confidence=CONFIDENCE,
            curve=curve(genuine, impostor).tolist(),
            origin=labeled.origin,
        )
        found |= {direction(one, other): result, direction(other, one): result}
    if not found:
        raise problem
    return found


def of_validation(model: Model, locations: dict[str, str] | None = None) -> Labeled:
    """The images of the validation identities of a model's run.

    Args:
      model: the model.
      locations: fields of `config.data`, "source" and "data_dir", where the data has moved.

    Raises:
      UserError: the run has none, they are not at hand, or the model was trained on them.
    """
    experiment = Experiment.opened(pathlib.Path(model.workdir), locations=locations)
    if _SPLIT not in experiment.splits:
        raise UserError(
            f"{model.workdir}: its data has no validation identities to calibrate with (config.data.val_fraction); "
            "name people that it was not trained on by --labels"
        )
    images = experiment.images(_SPLIT)
    if trained := provenance.seen(model.provenance, images, data=experiment.config.data):
        raise UserError(
            f"{model.workdir} was trained on {len(trained)} of its {images.num_identities} validation identities, "
            "whose similarities are higher than other people's; name others by --labels"
        )
    features = embed_images(
        images,
        experiment.embed(),
        model.variables,
        image_size=experiment.image_size,
        batch=experiment.evaluation.batch,
    )
    return Labeled(
        features=unit(features[model.config.eval.feature]),
        identities=np.array(images.identity_names)[images.identities],
        cameras=images.cameras.astype(object),
        modalities=np.array(MODALITIES)[images.modalities],
        origin=f"validation identities of {model.workdir}",
    )


def read_labels(table: str | os.PathLike) -> dict[str, str]:
    """Path -> identity of a CSV file with these two columns; paths are absolute, or relative to the file.

    Raises:
      UserError: it cannot be read, or names an image twice or without an identity.
    """
    table = pathlib.Path(table).expanduser()
    found: dict[str, str] = {}
    for number, row in sources.rows(table, required=[sources.PATH, "identity"]):
        path = os.path.abspath(table.parent / os.path.expanduser(row[sources.PATH]))
        if not row["identity"] or path in found:
            problem = "no identity" if not row["identity"] else f"{path} a second time"
            raise UserError(f"{table}, line {number}: {problem}; expected each image once, with its identity")
        found[path] = row["identity"]
    return found


def of_entries(store: Store, labels: str | os.PathLike, model: Model) -> Labeled:
    """The entries of an index that a table names; call it under `reading`.

    Args:
      store: of the index.
      labels: see `read_labels`; images that are not in the index do not count.
      model: the one of the index.

    Raises:
      UserError: the table cannot be read, names no entry, or names images that the model was trained on.
    """
    identities = read_labels(labels)
    there = store.at(list(identities))
    if not there:
        raise UserError(f"{labels}: names none of the {store.count()} entries of the index; list shows their paths")
    rows, entries = zip(*there.values(), strict=True)
    check_untrained([entry.digest for entry in entries], model, labels)
    return Labeled(
        features=store.features_of(rows),
        identities=np.array([identities[path] for path in there]),
        cameras=np.array([entry.camera for entry in entries], object),
        modalities=np.array([entry.modality for entry in entries]),
        origin=str(labels),
    )


def check_untrained(digests: Sequence[str], model: Model, labels: str | os.PathLike) -> None:
    """Raises a UserError where a model was trained on some of the images of these SHA-256 digests."""
    trained = set(model.provenance["image_digests"]) if model.provenance else set()
    known = sum(shortened(digest) in trained for digest in digests)
    if known:
        raise UserError(
            f"{labels}: the model was trained on {known} of these {len(digests)} images, whose similarities are higher "
            "than other people's; label people that it has not seen"
        )


def as_facts(found: dict[str, Threshold]) -> dict[str, Any]:
    """Thresholds as JSON values."""
    return {of: dataclasses.asdict(one) for of, one in found.items()}


def _some(positions: np.ndarray) -> np.ndarray:
    """All positions, or as many of them as count, always the same ones."""
    if len(positions) <= _MOST_IMAGES:
        return positions
    return np.sort(np.random.default_rng(0).choice(positions, _MOST_IMAGES, replace=False))
