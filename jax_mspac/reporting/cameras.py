"""Scores of each query camera, against the whole gallery and against each of its cameras."""

import dataclasses

import numpy as np

from jax_mspac.metrics.distances import Distances
from jax_mspac.metrics.retrieval import evaluate
from jax_mspac.protocols.base import RetrievalProtocol, Trial


@dataclasses.dataclass(frozen=True)
class Score:
    """A search by the queries of one camera, the mean over the trials.

    Attributes:
      queries: how many count.
      rank1: fraction.
      mAP: fraction.
    """

    queries: int
    rank1: float
    mAP: float


def scores(
    distances: Distances, identities: np.ndarray, cameras: np.ndarray, protocol: RetrievalProtocol
) -> dict[tuple[int, int | None], Score]:
    """Scores by camera.

    Args:
      distances: see `metrics.retrieval.evaluate_protocol`.
      identities: int [N] of the test set.
      cameras: int [N] of the test set.
      protocol: what to search.

    Returns:
      (query camera, gallery camera or None for the whole gallery) -> scores; pairs of cameras in which no query has a
      match are missing.
    """
    pairs: dict[tuple[int, int | None], list[Score]] = {}
    for trial in protocol.trials:
        for camera in np.unique(cameras[trial.queries]).tolist():
            queries = trial.queries[cameras[trial.queries] == camera]
            for other in (None, *np.unique(cameras[trial.gallery]).tolist()):
                gallery = trial.gallery if other is None else trial.gallery[cameras[trial.gallery] == other]
                score = _score(distances, identities, cameras, protocol, Trial(queries, gallery))
                if score:
                    pairs.setdefault((camera, other), []).append(score)
    return {
        pair: Score(
            queries=round(np.mean([score.queries for score in trials])),
            rank1=float(np.mean([score.rank1 for score in trials])),
            mAP=float(np.mean([score.mAP for score in trials])),
        )
        for pair, trials in pairs.items()
    }


def _score(
    distances: Distances, identities: np.ndarray, cameras: np.ndarray, protocol: RetrievalProtocol, trial: Trial
) -> Score | None:
    queries, gallery = trial.queries, trial.gallery
    matches = identities[queries][:, None] == identities[gallery][None]
    excluded = None
    if protocol.excluded is not None:
        excluded = protocol.excluded(identities[queries], cameras[queries], identities[gallery], cameras[gallery])
        matches &= ~excluded
    if not matches.any():
        return None
    found = evaluate(
        distances(queries, gallery),
        identities[queries],
        identities[gallery],
        excluded=excluded,
        rank_unit=protocol.rank_unit,
        max_rank=1,
    )
    return Score(found.queries, float(found.cmc[0]), found.mAP)
