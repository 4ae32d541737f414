"""The scores of each query without a ranking: a match's rank is one more than the number of images that are nearer.

For large galleries: a sort looks at each image log G times and writes it to memory, a count reads it once for each
match. Scores are those of `ranking.score`, to the bit.
"""

import numpy as np

from jax_mspac.metrics.ranking import Scores, precision_and_penalty
from jax_mspac.protocols.base import RankUnit


def is_faster(query_codes: np.ndarray, gallery_codes: np.ndarray) -> bool:
    """Whether to count, by the mean number of matches of a query, excluded ones too; codes int [Q] and [G]."""
    of_code = np.bincount(gallery_codes, minlength=query_codes.max(initial=0) + 1)
    matches = of_code[query_codes].mean() if query_codes.size else 0.0
    # Measured, in images sorted: a query costs 1,300 and a fifth of the gallery, a match 180 and 1/110 of the gallery.
    return 1300 + matches * (180 + gallery_codes.size / 110) < 0.8 * gallery_codes.size


def score(
    distances: np.ndarray,
    excluded: np.ndarray | None,
    query_codes: np.ndarray,
    gallery_codes: np.ndarray,
    count: int,
    rank_unit: RankUnit,
) -> Scores:
    """Scores distances float [Q, G] without a NaN.

    Codes 0..count-1 of identities are int32 [Q] and [G]; excluded is bool [Q, G], or None where every pair counts.
    Scored are the queries that have a match; fewer than Q where some have none.
    """
    first_rank, ranks, number = [], [np.empty(0, np.int64)], []
    for row, code in enumerate(query_codes):
        of_row, codes = np.ascontiguousarray(distances[row]), gallery_codes
        if excluded is not None and excluded[row].any():
            kept = ~excluded[row]
            of_row, codes = of_row[kept], codes[kept]
        matches = np.flatnonzero(codes == code)
        if not matches.size:
            continue
        ranks.append(np.sort([_rank(of_row, match) for match in matches.tolist()]))
        number.append(matches.size)
        if rank_unit == "image":
            first_rank.append(ranks[-1][0])
        else:
            nearest = int(matches[np.argmin(of_row[matches])])
            first_rank.append(_identity_rank(of_row, nearest, codes, count))
    return np.array(first_rank, np.int64), *precision_and_penalty(np.concatenate(ranks), np.array(number, np.int64))


def _rank(distances: np.ndarray, image: int) -> int:
    """From 1, of equal distances by position."""
    own = distances[image]
    return int(1 + np.count_nonzero(distances < own) + np.count_nonzero(distances[:image] == own))


def _identity_rank(distances: np.ndarray, image: int, codes: np.ndarray, count: int) -> int:
    """One more than the number of identities ahead of an image."""
    ahead = distances < distances[image]
    ahead[:image] |= distances[:image] == distances[image]
    seen = np.zeros(count, bool)
    seen[codes[ahead]] = True
    return int(1 + np.count_nonzero(seen))
