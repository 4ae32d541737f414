"""Scores of each query camera, against the whole gallery and against each of its cameras."""

import dataclasses
from typing import Any

import numpy as np

from jax_mspac.metrics.distances import Distances
from jax_mspac.metrics.retrieval import evaluate_protocol
from jax_mspac.protocols.base import RetrievalProtocol, Trial

# Query camera, and gallery camera or None for the whole gallery -> a row of `metrics.retrieval.evaluate_protocol`.
Scores = dict[tuple[int, int | None], dict[str, Any]]


def scores(distances: Distances, identities: np.ndarray, cameras: np.ndarray, protocol: RetrievalProtocol) -> Scores:
    """Scores of a protocol by camera, means over the trials; without pairs of cameras in which no query has a match.

    `distances`, `identities` and `cameras` are as for `metrics.retrieval.evaluate_protocol`.
    """
    trials: dict[tuple[int, int | None], list[Trial]] = {}
    for trial in protocol.trials:
        for camera in np.unique(cameras[trial.queries]).tolist():
            queries = trial.queries[cameras[trial.queries] == camera]
            for other in (None, *np.unique(cameras[trial.gallery]).tolist()):
                gallery = trial.gallery if other is None else trial.gallery[cameras[trial.gallery] == other]
                matches = identities[queries][:, None] == identities[gallery]
                excluded = protocol.excluded_pairs(identities, cameras, queries, gallery)
                if np.any(matches if excluded is None else matches & ~excluded):
                    trials.setdefault((camera, other), []).append(Trial(queries, gallery))
    searches = {pair: dataclasses.replace(protocol, trials=tuple(of_pair)) for pair, of_pair in trials.items()}
    return {pair: evaluate_protocol(distances, identities, cameras, search) for pair, search in searches.items()}
