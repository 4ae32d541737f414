"""CMC, mAP and mINP of a search, and of every trial of a protocol.

The ranking of a query orders the gallery by distance, equal distances by gallery position, and leaves out the pairs
that a protocol excludes. Then

    AP  = mean over the query's matches k = 1..n of k / rank_k          mAP  = mean AP
    INP = n / rank_n                                                    mINP = mean INP
    CMC(r) = share of queries whose first match is within rank r

over the queries that have a match left. AP and INP count images. CMC counts images or identities; an identity stands
at the place of its nearest image.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.metrics import counting, ranking
from jax_mspac.metrics.distances import Distances, blocks
from jax_mspac.metrics.ranking import Scores
from jax_mspac.protocols.base import RankUnit, RetrievalProtocol, Trial, check_rank_unit

RANKS = (1, 5, 10, 20)
METRICS = (*(f"rank{rank}" for rank in RANKS), "mAP", "mINP")
# Counting takes a quarter of the memory that ranking takes for a pair: it has as many times more of them in a block.
_PER_PAIR = 4
# Distances of a block of queries, float [Q, G], and which do not count, bool [Q, G] or None where all do.
Pairs = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieval:
    """The metrics of one search, as fractions: `cmc[r - 1]`, float64 [max_rank], is rank-r.

    `queries` is how many queries have a match and therefore count.
    """

    cmc: np.ndarray
    mAP: float
    mINP: float
    queries: int


def evaluate(
    distances: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    *,
    excluded: np.ndarray | None = None,
    rank_unit: RankUnit = "identity",
    max_rank: int = max(RANKS),
) -> Retrieval:
    """Scores one search.

    Args:
      distances: float [Q, G], smaller is more alike.
      query_ids, gallery_ids: int [Q] and [G].
      excluded: bool [Q, G], pairs that do not count.
      rank_unit: "identity" or "image", what a rank of the CMC is.
      max_rank: length of the CMC.

    Raises:
      UserError: no query has a match left.
      ValueError: shapes do not fit, `rank_unit` is unknown, or a distance is NaN.
    """
    distances, query_ids, gallery_ids = np.asarray(distances), np.asarray(query_ids), np.asarray(gallery_ids)
    shape = (query_ids.size, gallery_ids.size)
    for name, table in (("distances", distances), ("excluded", excluded)):
        if table is not None and table.shape != shape:
            raise ValueError(f"{name} has shape {table.shape}, expected [queries, gallery] = {shape}")
    count, (query_codes, gallery_codes) = _codes(query_ids, gallery_ids)
    check_rank_unit(rank_unit)
    query_positions, gallery_positions = np.arange(query_ids.size), np.arange(gallery_ids.size)

    def pairs(rows: slice) -> Pairs:
        _refuse_nan(distances[rows], query_positions[rows], gallery_positions)
        return distances[rows], None if excluded is None else excluded[rows]

    scores = _scores(pairs, query_codes, gallery_codes, count, rank_unit)
    return _retrieval(scores, max_rank)


def evaluate_protocol(
    distances: Distances,
    identities: np.ndarray,
    cameras: np.ndarray,
    protocol: RetrievalProtocol,
    *,
    per_trial: bool = False,
) -> dict[str, Any]:
    """Scores every trial of a protocol: one row of a results table.

    Each query is ranked once, against the union of the galleries; the ranking of a trial is that ranking with the other
    images left out. So the distance of a pair must not depend on what else is in the gallery; distances that do, such
    as re-ranked ones, need `per_trial`.

    Args:
      distances: function of query positions [Q] and gallery positions [G] that gives float [Q, G], such as
        `cosine_distances(features)`. It is called with blocks of queries; with `per_trial`, with whole trials.
      identities: int [N] of the test set.
      cameras: int [N] of the test set.
      protocol: what to search.
      per_trial: score each trial alone, for distances that depend on all of its queries and its gallery.

    Returns:
      The keys protocol, mode, shots, direction; queries (those that count) and gallery, the mean sizes over the trials;
      and for each of `METRICS` a dictionary with mean, std (over the trials, population form) and trials (list of
      float), as fractions.

    Raises:
      UserError: no query has a match left.
      ValueError: a distance is NaN.
    """
    identities, cameras = np.asarray(identities), np.asarray(cameras)
    results: list[Retrieval] = []
    if per_trial:
        for queries, gallery in ((trial.queries, trial.gallery) for trial in protocol.trials):
            # Of all queries, also those that cannot have a match: labels must not choose what the distances depend on.
            table = distances(queries, gallery)
            excluded = protocol.excluded_pairs(identities, cameras, queries, gallery)
            ids = identities[queries], identities[gallery]
            results.append(evaluate(table, *ids, excluded=excluded, rank_unit=protocol.rank_unit))
    else:
        for _, trials in itertools.groupby(protocol.trials, key=lambda trial: trial.queries.tobytes()):
            results += _evaluate_trials(distances, identities, cameras, list(trials), protocol)
    values = {f"rank{rank}": [float(result.cmc[rank - 1]) for result in results] for rank in RANKS}
    values |= {"mAP": [result.mAP for result in results], "mINP": [result.mINP for result in results]}
    return {
        **protocol.labels,
        "queries": round(np.mean([result.queries for result in results])),
        "gallery": round(np.mean([trial.gallery.size for trial in protocol.trials])),
        **{
            metric: {"mean": float(np.mean(of_trials)), "std": float(np.std(of_trials)), "trials": of_trials}
            for metric, of_trials in values.items()
        },
    }


def _evaluate_trials(
    distances: Distances,
    identities: np.ndarray,
    cameras: np.ndarray,
    trials: list[Trial],
    protocol: RetrievalProtocol,
) -> list[Retrieval]:
    """The results of trials of the same queries, each of which is ranked once where there are several."""
    queries, galleries = trials[0].queries, [trial.gallery for trial in trials]
    union = np.unique(np.concatenate(galleries))
    # Ranking a query that cannot have a match would be wasted.
    queries = queries[np.isin(identities[queries], identities[union])]
    count, (codes,) = _codes(identities)

    def pairs(rows: slice) -> Pairs:
        block = queries[rows]
        table = distances(block, union)
        _refuse_nan(table, block, union)
        return table, protocol.excluded_pairs(identities, cameras, block, union)

    if len(galleries) == 1:
        scores = [_scores(pairs, codes[queries], codes[union], count, protocol.rank_unit)]
    else:
        members = [np.isin(union, gallery) for gallery in galleries]
        scores = [[] for _ in galleries]
        for rows in blocks(queries.size, width=union.size):
            table, excluded = pairs(rows)
            order, ranked = ranking.rank(table, codes[union], excluded)
            for member, of_trial in zip(members, scores, strict=True):
                # Every row keeps as many entries as the gallery has, so the flat selection is rectangular.
                in_gallery = ranked.ravel()[np.flatnonzero(member[order])].reshape(len(table), -1)
                of_trial.append(ranking.score(in_gallery, codes[queries[rows]], count, protocol.rank_unit))
    return [_retrieval(of_trial, max(RANKS)) for of_trial in scores]


def _scores(
    pairs: Callable[[slice], Pairs],
    query_codes: np.ndarray,
    gallery_codes: np.ndarray,
    count: int,
    rank_unit: RankUnit,
) -> list[Scores]:
    """Scores of the queries in one gallery, a block of queries, whose pairs are asked for, at a time."""
    counted = counting.is_faster(query_codes, gallery_codes)
    scores = []
    for rows in blocks(query_codes.size, width=gallery_codes.size // (_PER_PAIR if counted else 1)):
        distances, excluded = pairs(rows)
        if counted:
            of_block = counting.score(distances, excluded, query_codes[rows], gallery_codes, count, rank_unit)
        else:
            _, ranked = ranking.rank(distances, gallery_codes, excluded)
            of_block = ranking.score(ranked, query_codes[rows], count, rank_unit)
        scores.append(of_block)
    return scores


def _codes(*ids: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """Numbers the identities 0..count-1 over all arrays: (count, one int32 array for each)."""
    names, codes = np.unique(np.concatenate(ids), return_inverse=True)
    return len(names), np.split(codes.astype(np.int32), np.cumsum([len(array) for array in ids])[:-1])


def _refuse_nan(distances: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> None:
    """Raises an error that names positions, `queries` [Q] and `gallery` [G], of distances [Q, G]."""
    nan = np.isnan(distances)
    if nan.any():
        query, image = np.argwhere(nan)[0]
        raise ValueError(f"the distance of query {queries[query]} and gallery image {gallery[image]} is NaN")


def _retrieval(scores: list[Scores], max_rank: int) -> Retrieval:
    """Joins the scores of blocks of queries."""
    if not any(first_rank.size for first_rank, _, _ in scores):
        raise UserError(
            "no query has an image of its identity left in the gallery, so there is nothing to score; check that the "
            "identities of the test set occur in both modalities, and in other cameras than the query's"
        )
    first_rank, average_precision, inverse_negative_penalty = map(np.concatenate, zip(*scores, strict=True))
    hits = np.bincount(np.minimum(first_rank, max_rank + 1), minlength=max_rank + 2)[1 : max_rank + 1]
    return Retrieval(
        cmc=np.cumsum(hits) / first_rank.size,
        mAP=float(average_precision.mean()),
        mINP=float(inverse_negative_penalty.mean()),
        queries=first_rank.size,
    )
