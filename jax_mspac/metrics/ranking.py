"""Rankings of a gallery, and the scores of each query from them."""

import numpy as np

from jax_mspac.protocols.base import RankUnit

# First rank int [Q], average precision float64 [Q] and inverse negative penalty float64 [Q] of queries with a match.
Scores = tuple[np.ndarray, np.ndarray, np.ndarray]


def rank(
    distances: np.ndarray, gallery_codes: np.ndarray, excluded: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The gallery in ascending distance for each query.

    Returns:
      order, int64 [Q, G], gallery positions; and int32 [Q, G], the identity codes in that order, -1 where excluded.
    """
    order = _stable_order(distances)
    ranked = gallery_codes[order]
    if excluded is not None:
        ranked[np.take_along_axis(excluded, order, axis=1)] = -1
    return order, ranked


def _stable_order(distances: np.ndarray) -> np.ndarray:
    """The stable argsort of each row: int64 [Q, G]."""
    if distances.dtype != np.float32:
        return np.argsort(distances, axis=1, kind="stable")
    # Several times faster: sort integers that hold the distance in the upper half and the position in the lower one.
    # Adding zero makes -0 equal to 0. The bits of floats order like integers, the negative ones backwards.
    bits = (distances + np.float32(0)).view(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(distances.shape[1])
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return keys


def score(ranked: np.ndarray, query_codes: np.ndarray, count: int, rank_unit: RankUnit) -> Scores:
    """Scores rankings int32 [Q, G] of codes 0..count-1 of identities in ascending distance, -1 where excluded.

    The queries' codes are int32 [Q]. Scored are those that have a match; fewer than Q where some have none.
    """
    matches = ranked == query_codes[:, None]
    valid = matches.any(axis=1)
    ranked, matches = ranked[valid], matches[valid]
    number = matches.sum(axis=1)
    # Row-major: the matches of a query are consecutive, in ascending rank.
    query, place = np.divmod(np.flatnonzero(matches), ranked.shape[1])
    # A rank is a place less the excluded images ahead of it. Few places matter, so they are looked up, not counted.
    excluded = np.flatnonzero(ranked < 0)
    start = query * ranked.shape[1]
    ranks = place + 1 - (np.searchsorted(excluded, start + place) - np.searchsorted(excluded, start))
    first = np.cumsum(number) - number
    first_rank = ranks[first] if rank_unit == "image" else _identity_rank(ranked, place[first], count)
    return first_rank, *precision_and_penalty(ranks, number)


def precision_and_penalty(ranks: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and inverse negative penalty, both float64 [Q].

    Of ranks int [sum of number] of the matches, ascending in each query, which has `number`, int [Q], of them.
    """
    last = np.cumsum(number) - 1
    query = np.repeat(np.arange(number.size), number)
    precision = (np.arange(ranks.size) - (last + 1 - number)[query] + 1) / ranks
    return np.bincount(query, precision, minlength=number.size) / number, number / ranks[last]


def _identity_rank(ranked: np.ndarray, first_match: np.ndarray, count: int) -> np.ndarray:
    """One more than the number of identities ahead of the first match: int64 [Q]."""
    ahead = (np.arange(ranked.shape[1]) < first_match[:, None]) & (ranked >= 0)
    query, place = np.divmod(np.flatnonzero(ahead), ranked.shape[1])
    seen = np.zeros((len(ranked), count), bool)
    seen[query, ranked[query, place]] = True
    return seen.sum(axis=1) + 1
