"""Same person or not: error rates of a threshold on similarities, in the terms of ISO/IEC 19795-1.

Two images match where their similarity is at least the threshold t. Over pairs of images

    FMR(t)  = share of the impostor pairs, of two identities, that match         (false-match rate)
    FNMR(t) = share of the genuine pairs, of one identity, that do not match     (false-non-match rate)

Pairs that share an identity are not independent. So intervals come from resampling identities, not pairs: with
w_i, how often identity i was drawn, a pair of identities i and j counts w_i w_j times (Owen and Eckles, "Bootstrapping
data arrays of arbitrary order", Annals of Applied Statistics 6(3), 2012). Such intervals of the FMR are wider than they
need to be, the more so the less of the differences between pairs comes from who they are.
"""

import dataclasses

import numpy as np

from jax_mspac.errors import UserError

# Of the intervals.
CONFIDENCE = 0.95
_RESAMPLES = 1000
# Thresholds of a curve.
_POINTS = 201


@dataclasses.dataclass(frozen=True)
class Rate:
    """A share of pairs, and the interval that holds it with the confidence `CONFIDENCE`."""

    rate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Similarities of the images of two lists, which may be the same one.

    Attributes:
      similarities: float [Q, G].
      queries: int [Q], the identities 0..count-1.
      gallery: int [G], likewise.
      counted: bool [Q, G]: which pairs count.
      count: of identities.
    """

    similarities: np.ndarray
    queries: np.ndarray
    gallery: np.ndarray
    counted: np.ndarray
    count: int

    @property
    def same(self) -> np.ndarray:
        """Which pairs are of one identity, counted or not: bool [Q, G]."""
        return self.queries[:, None] == self.gallery[None, :]

    def genuine(self) -> np.ndarray:
        """The similarities of the pairs of one identity: float [n], ascending."""
        return np.sort(self.similarities[self.counted & self.same])

    def impostor(self) -> np.ndarray:
        """The similarities of the pairs of two identities: float [n], ascending."""
        return np.sort(self.similarities[self.counted & ~self.same])

    def numbers(self, chosen: np.ndarray) -> np.ndarray:
        """How many of some pairs, bool [Q, G], each two identities have: float64 [count, count]."""
        cells = self.queries[:, None] * self.count + self.gallery[None, :]
        return np.bincount(cells[chosen], minlength=self.count**2).reshape(self.count, self.count).astype(np.float64)


def threshold_for(impostor: np.ndarray, false_match_rate: float) -> float:
    """The lowest threshold whose false-match rate on given pairs is at most the wished one.

    Args:
      impostor: float [n], ascending.
      false_match_rate: in (0, 1).

    Raises:
      UserError: the rate is none, or it is below one in n, which the pairs cannot tell.
    """
    if not 0 < false_match_rate < 1:
        raise UserError(
            f"a false-match rate is {false_match_rate}; expected more than 0 and less than 1, such as 0.001"
        )
    allowed = int(false_match_rate * len(impostor) * (1 + 1e-9))
    if allowed < 1:
        raise UserError(
            f"a false-match rate of {false_match_rate:g} cannot be told from {len(impostor)} pairs of two people: "
            f"wish for {1 / max(len(impostor), 1):.2g} or more, or label more people"
        )
    # The first similarity that must not match, and just above it.
    highest = impostor[len(impostor) - allowed - 1]
    return float(np.nextafter(highest, impostor.dtype.type(np.inf)))


def rates(pairs: Pairs, threshold: float, *, seed: int = 0) -> tuple[Rate, Rate]:
    """FMR and FNMR at a threshold, with intervals over resampled identities."""
    matches = pairs.similarities >= threshold
    impostor, genuine = pairs.counted & ~pairs.same, pairs.counted & pairs.same
    false_matches, all_impostor = pairs.numbers(impostor & matches), pairs.numbers(impostor)
    false_non_matches, all_genuine = (np.diagonal(pairs.numbers(chosen)) for chosen in (genuine & ~matches, genuine))
    draws = np.random.default_rng(seed).multinomial(pairs.count, np.full(pairs.count, 1 / pairs.count), size=_RESAMPLES)

    def of_pairs(numbers: np.ndarray) -> np.ndarray:
        return np.einsum("bi,bi->b", draws @ numbers, draws)

    return (
        _rate(false_matches.sum(), all_impostor.sum(), of_pairs(false_matches), of_pairs(all_impostor)),
        _rate(false_non_matches.sum(), all_genuine.sum(), draws @ false_non_matches, draws @ all_genuine),
    )


def curve(genuine: np.ndarray, impostor: np.ndarray) -> np.ndarray:
    """Thresholds, FMR and FNMR: float64 [n, 3], thresholds ascending from the least similarity to above the largest.

    The similarities, float [n] each, are ascending.
    """
    ends = min(genuine[0], impostor[0]), np.nextafter(max(genuine[-1], impostor[-1]), np.inf)
    thresholds = np.linspace(*ends, _POINTS)
    false_match = 1 - np.searchsorted(impostor, thresholds, "left") / len(impostor)
    false_non_match = np.searchsorted(genuine, thresholds, "left") / len(genuine)
    return np.stack([thresholds, false_match, false_non_match], axis=1)


def _rate(part: float, whole: float, parts: np.ndarray, wholes: np.ndarray) -> Rate:
    drawn = parts[wholes > 0] / wholes[wholes > 0]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if drawn.size else (0.0, 1.0)
    return Rate(float(part / whole), float(low), float(high))
