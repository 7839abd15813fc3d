"""Intervals for judged pairs: functions of arrays that know nothing of files.

An outcome is what a judged pair counts: 1 right, 0 wrong, and for a tie what the protocol says. A cluster is a set of
pairs in which judgements hang together, as a paradigm is. A side of a comparison has the outcomes of one or several
seeds of one recipe, all of the same pairs. All intervals are of 95%, all p-values two-sided.

Every interval speaks of a population, and there are two:
  other clusters  what would come of other clusters (constructions) drawn from where these were drawn
  these clusters  what would come of other pairs of the same clusters; says nothing of other constructions
With several seeds both also speak of other seeds of the same recipe.

An interval leaves 0 out where the p-value beside it is 0.05 or less: p is the level at which it would just do so.

Letters of shapes: S seeds, C clusters, P pairs of one cluster, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np

RESAMPLES = 9_999  # one less than a round number, so that quantiles are single resamples (Davison & Hinkley 1997)
_ALPHA = 0.05

Outcomes: TypeAlias = Sequence[np.ndarray]  # one array (P,) a cluster
Side: TypeAlias = Sequence[Outcomes]  # side[seed][cluster][pair]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """B minus A with its 95% interval and the p-value of "there is no difference"."""

    p: float


@dataclass(frozen=True, slots=True)
class ClusteredDifference(Difference):
    """share_better: of sets of clusters drawn again from these, those on which B is better; equal ones count half."""

    share_better: float


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """The overall value over seeds: standard deviation (None of one seed), least and greatest."""

    seeds: int
    sd: float | None
    least: float
    greatest: float


@dataclass(frozen=True, slots=True)
class SeedsInterval(Interval):
    """The mean of seeds with an interval that counts seeds, too, as drawn; and their spread."""

    spread: SeedSpread


class _Low(Protocol):
    @property
    def low(self) -> float: ...


def wilson(right: float, pairs: float) -> tuple[float, float]:
    """Interval of a share: `right` (may have halves) of `pairs`. Source: Wilson 1927."""
    return _wilson(right / pairs, pairs, _quantile(_ALPHA))


def combined(parts: Sequence[Interval]) -> Interval:
    """Mean of independent shares, their intervals combined (not clipped to 0 and 1).

    Source: Zou & Donner 2008, Construction of confidence limits about effect measures: a general approach.
    """
    estimates_C, lows_C, highs_C = np.array([(part.estimate, part.low, part.high) for part in parts]).T
    mean, weights_C = float(estimates_C.mean()), np.full(len(parts), 1 / len(parts))
    return Interval(mean, mean - _root(weights_C, estimates_C - lows_C), mean + _root(weights_C, highs_C - estimates_C))


def clustered_bootstrap(outcomes: Outcomes, *, pooled: bool = False) -> Interval:
    """Mean of the clusters' shares, or with `pooled` the share of all pairs, as were OTHER clusters drawn.

    The interval is the studentized bootstrap over clusters (bootstrap-t; Hall 1988, Davison & Hinkley 1997, section
    5.2): in simulations with 67, 19 and 12 clusters of even and of skewed accuracies it covered in 94 to 97%, where the
    percentile interval covered in 86 to 95%, BCa in 87 to 95% and Student's in 88 to 96%. Pairs within a cluster are
    not drawn again: the spread of clusters' shares has the chance of their pairs in it (Davison & Hinkley 1997, section
    3.8). The resamples are always the same.
    Where clusters agree the bootstrap knows no spread, and its interval would be a point or without end. So it is never
    wider than that of as many clusters each wholly right or wholly wrong (Wilson 1927), which is given where all agree:
    67 clusters at 100% still allow that one in twenty is not.
    """
    found = hierarchical_interval([outcomes], pooled=pooled)
    return Interval(found.estimate, found.low, found.high)


def hierarchical_interval(side: Side, *, pooled: bool = False, resamples: int = RESAMPLES) -> SeedsInterval:
    """`clustered_bootstrap` of the mean of seeds, as were OTHER clusters and OTHER seeds drawn.

    Seeds and clusters are crossed: every seed meets the same clusters. So the variance of the mean is that of clusters'
    means over seeds, plus that of seeds' means over clusters, less that of their interaction, which both have in them
    (two-way random effects; Owen 2007 on why they must not be drawn as if nested). Clusters are resampled as in
    `clustered_bootstrap`; what seeds add comes from so few that it is told by Student's t with the degrees of freedom
    of Satterthwaite 1946, and both distances are combined as Zou & Donner 2008 do. With one seed nothing is added.
    """
    (weights_C, _), values_SC = _weights(side[0], pooled), _means(side)
    part, _ = _between(values_SC.mean(axis=0), weights_C, signed=False, resamples=resamples)
    return _seeds_interval(part, _between_seeds(values_SC, weights_C), float(values_SC.mean(axis=0) @ weights_C))


def interval_within_clusters(side: Side, *, pooled: bool = False) -> SeedsInterval:
    """The mean over clusters (or of all pairs) and seeds, as were other pairs of THESE clusters drawn, and other seeds.

    With one seed: Wilson's intervals of the clusters combined (Zou & Donner 2008). With several, what they add is
    counted as in `hierarchical_interval`, and pairs on which seeds disagree count as more than one (Kish 1965).
    """
    (weights_C, pairs_C), values_C = _weights(side[0], pooled), _means(side).mean(axis=0)
    variances_C = np.array([np.mean(of_seeds, axis=0).var() for of_seeds in zip(*side, strict=True)])
    pairs_C = pairs_C * np.clip(values_C * (1 - values_C) / np.maximum(variances_C, 1e-300), 1, len(side))

    def distances(alpha: float) -> tuple[float, float]:
        z = _quantile(alpha)
        low_C, high_C = np.array([_wilson(*cluster, z) for cluster in zip(values_C, pairs_C, strict=True)]).T
        return _root(weights_C, values_C - low_C), _root(weights_C, high_C - values_C)

    variance = float(weights_C**2 @ (values_C * (1 - values_C) / pairs_C))
    part = _Part(distances, variance, float(pairs_C.sum()), (0.0, 1.0))
    return _seeds_interval(part, _within_seeds(side, weights_C), float(values_C @ weights_C))


def paired_clustered_bootstrap(a: Outcomes, b: Outcomes, *, pooled: bool = False) -> ClusteredDifference:
    """B minus A on the same pairs, as were OTHER clusters drawn: `clustered_bootstrap` of the clusters' differences.

    Both models meet the same drawn clusters, so what is hard for both does not blur the difference.
    """
    return paired_hierarchical([a], [b], pooled=pooled)


def paired_hierarchical(a: Side, b: Side, *, pooled: bool = False, resamples: int = RESAMPLES) -> ClusteredDifference:
    """B's mean minus A's, as were OTHER clusters and OTHER seeds drawn: the seeds unpaired, the clusters shared.

    Built as `hierarchical_interval`. Where one side has one seed, its seeds are taken to differ as the other's do;
    where both have one, seeds are not counted.
    """
    _check_same_pairs(a, b)
    (weights_C, _), a_SC, b_SC = _weights(a[0], pooled), _means(a), _means(b)
    values_C = b_SC.mean(axis=0) - a_SC.mean(axis=0)
    part, shifts_B = _between(values_C, weights_C, signed=True, resamples=resamples)
    drawn_B = (estimate := float(values_C @ weights_C)) + shifts_B
    share = np.where(np.abs(drawn_B) < 1e-12, 0.5, drawn_B > 0).mean()
    found = _difference(part, [_between_seeds(side_SC, weights_C) for side_SC in (a_SC, b_SC)], estimate)
    return ClusteredDifference(found.estimate, found.low, found.high, found.p, float(share))


def paired_within_clusters(a: Side, b: Side, *, pooled: bool = False) -> Difference:
    """B's mean minus A's, as were other pairs of THESE clusters drawn, and where there are several, other seeds.

    A cluster's interval is that of Bonett & Price 2012 for paired shares, whose two added pairs, one that only A has
    right and one that only B has, see to it that agreement in all pairs is no certainty; several clusters share them.
    Halves enter by their squares. Clusters are combined as in `combined`, seeds counted as in `paired_hierarchical`.
    """
    _check_same_pairs(a, b)
    weights_C, pairs_C = _weights(a[0], pooled)
    a_means, b_means = ([np.mean(of_seeds, axis=0) for of_seeds in zip(*side, strict=True)] for side in (a, b))
    of_pairs = [b_P - a_P for a_P, b_P in zip(a_means, b_means, strict=True)]
    values_C = np.array([one.mean() for one in of_pairs])
    added = 2 / len(pairs_C)
    centre_C = values_C * pairs_C / (pairs_C + added)
    squares_C = np.array([float(one @ one) for one in of_pairs])
    variance_C = ((squares_C + added) / (pairs_C + added) - centre_C**2) / (pairs_C + added)

    def distances(alpha: float) -> tuple[float, float]:
        half_C, moved_C = _quantile(alpha) * np.sqrt(variance_C), values_C - centre_C
        return _root(weights_C, half_C + moved_C), _root(weights_C, half_C - moved_C)

    part = _Part(distances, float(weights_C**2 @ variance_C), float(pairs_C.sum()), (-1.0, 1.0))
    return _difference(part, [_within_seeds(side, weights_C) for side in (a, b)], float(values_C @ weights_C))


def first_reliably_above_chance(
    words_seen: Sequence[int], intervals: Sequence[_Low], chance: float = 0.5
) -> int | None:
    """The words seen from which on the lower limit stays above chance, at this and at all later checkpoints.

    None where it is not above chance at the last one. words_seen: rising.
    """
    if len(words_seen) != len(intervals) or any(b <= a for a, b in pairwise(words_seen)):
        raise ValueError("one interval for each word count, and word counts that rise")
    first = None
    for words, interval in zip(reversed(words_seen), reversed(intervals), strict=True):
        if not interval.low > chance:
            break
        first = words
    return first


@dataclass(frozen=True, slots=True)
class _Part:
    """What clusters (or pairs) leave open of an estimate.

    distances: from a level (alpha) to how far the limits lie below and above the estimate. bounds: of the estimate.
    """

    distances: Callable[[float], tuple[float, float]]
    variance: float
    freedom: float
    bounds: tuple[float, float]

    def limits(self, estimate: float, excess: float, seeds_term: float, alpha: float) -> tuple[float, float]:
        """The interval. excess: variance that seeds add; seeds_term: their part in Satterthwaite's denominator."""
        below, above = self.distances(alpha)
        if excess > 0:
            total = self.variance + excess
            quantile = _quantile(alpha, total**2 / (self.variance**2 / self.freedom + seeds_term))
            # `distances` are for the clusters' own degrees of freedom, and the whole may have fewer.
            stretch, seeds = max(1.0, quantile / _quantile(alpha, self.freedom)), quantile * math.sqrt(excess)
            below, above = math.hypot(stretch * below, seeds), math.hypot(stretch * above, seeds)
        return max(self.bounds[0], estimate - below), min(self.bounds[1], estimate + above)


@dataclass(frozen=True, slots=True)
class _Seeds:
    """The overall values of a side's seeds, and what of their mean's variance the clusters' (pairs') part also has."""

    values_S: np.ndarray
    shared: float


def _seeds_interval(part: _Part, seeds: _Seeds, estimate: float) -> SeedsInterval:
    low, high = part.limits(estimate, *_seeds_excess([seeds]), _ALPHA)
    sd = float(seeds.values_S.std(ddof=1)) if len(seeds.values_S) > 1 else None
    spread = SeedSpread(len(seeds.values_S), sd, float(seeds.values_S.min()), float(seeds.values_S.max()))
    return SeedsInterval(estimate, low, high, spread)


def _difference(part: _Part, seeds: Sequence[_Seeds], estimate: float) -> Difference:
    excess, seeds_term = _seeds_excess(seeds)
    estimate = 0.0 if abs(estimate) < 1e-12 else estimate

    def holds_0(alpha: float) -> bool:
        low, high = part.limits(estimate, excess, seeds_term, alpha)
        return low <= 0 <= high

    low, high = part.limits(estimate, excess, seeds_term, _ALPHA)
    if estimate == 0 or holds_0(0.999):
        return Difference(estimate, low, high, 1.0)
    holding, p = (_ALPHA, 0.999) if low <= 0 <= high else (0.0, _ALPHA)
    while p - holding > 1e-15 and p > 1.00001 * holding:
        middle = (holding + p) / 2
        holding, p = (middle, p) if holds_0(middle) else (holding, middle)
    return Difference(estimate, low, high, p)


def _seeds_excess(seeds: Sequence[_Seeds]) -> tuple[float, float]:
    """The variance that seeds add to an estimate, beyond what clusters (pairs) have of it, and Satterthwaite's term."""
    several = [side for side in seeds if len(side.values_S) > 1]
    excess = term = 0.0
    for side in several:
        count = len(side.values_S)
        # A side with one seed borrows the other's variance of a single seed.
        share = 1 + (len(seeds) - len(several)) * count
        variance = float(side.values_S.var(ddof=1)) / count
        excess += share * (variance - side.shared)
        term += (share * variance) ** 2 / (count - 1)
    return max(0.0, excess), term


def _between_seeds(values_SC: np.ndarray, weights_C: np.ndarray) -> _Seeds:
    seeds, clusters = values_SC.shape
    values_S = values_SC @ weights_C
    if seeds == 1 or clusters == 1:
        return _Seeds(values_S, 0.0)
    rest_SC = values_SC - values_S[:, None] - values_SC.mean(axis=0) + values_S.mean()
    shared = (rest_SC**2).sum(axis=0) @ weights_C**2 / ((seeds - 1) * seeds) * clusters / (clusters - 1)
    return _Seeds(values_S, float(shared))


def _within_seeds(side: Side, weights_C: np.ndarray) -> _Seeds:
    seeds, shared = len(side), 0.0
    for weight, of_seeds in zip(weights_C, zip(*side, strict=True), strict=True) if seeds > 1 else ():
        rest_SP = np.stack(of_seeds) - np.mean(of_seeds, axis=1, keepdims=True)
        rest_SP -= rest_SP.mean(axis=0)
        pairs = rest_SP.shape[1]
        shared += weight**2 * float((rest_SP**2).sum()) / ((seeds - 1) * max(1, pairs - 1) * seeds * pairs)
    return _Seeds(_means(side) @ weights_C, shared)


def _between(values_C: np.ndarray, weights_C: np.ndarray, *, signed: bool, resamples: int) -> tuple[_Part, np.ndarray]:
    """The bootstrap-t over clusters, and how far each resample's mean lies from the estimate (B,)."""
    clusters = len(values_C)
    centred_C = values_C - values_C @ weights_C
    largest = float(np.abs(centred_C).max())
    parts_C5 = np.stack([np.ones(clusters), weights_C, centred_C, weights_C * centred_C, weights_C * centred_C**2])
    sizes_B, squares_B, sums_B, products_B, spreads_B = (_resampled(clusters, resamples) @ (parts_C5 * weights_C).T).T
    shifts_B = np.where(np.abs(sums_B) <= 1e-12 * largest * sizes_B, 0.0, sums_B / sizes_B)
    spreads_B = spreads_B - 2 * shifts_B * products_B + shifts_B**2 * squares_B
    spreads_B = np.where(spreads_B <= 1e-12 * (weights_C.max() * largest) ** 2, 0.0, spreads_B)
    correction = clusters / max(1, clusters - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A resample of equal clusters away from the estimate lies infinitely many of its own errors away.
        errors_B = np.sqrt(correction * spreads_B) / sizes_B
        studentized_B = np.sort(np.where(shifts_B == 0, 0.0, shifts_B / errors_B))
    error = math.sqrt(correction) * float(np.linalg.norm(weights_C * centred_C))
    right, wrong = (float(np.maximum(part_C, 0) @ weights_C) for part_C in (values_C, -values_C))
    count = 1 / float(weights_C @ weights_C)

    def distances(alpha: float) -> tuple[float, float]:
        bound_below, bound_above = _widest(right, wrong if signed else None, count, _quantile(alpha))
        place = math.floor((len(studentized_B) + 1) * alpha / 2 + 1e-9) - 1
        if place < 0 or largest < 1e-12:
            return bound_below, bound_above
        below, above = float(studentized_B[-1 - place]) * error, float(-studentized_B[place]) * error
        return min(max(0.0, below), bound_below), min(max(0.0, above), bound_above)

    return _Part(distances, error**2, max(1.0, clusters - 1.0), (-1.0 if signed else 0.0, 1.0)), shifts_B


def _widest(right: float, wrong: float | None, count: float, z: float) -> tuple[float, float]:
    """How far limits can lie from the mean of `count` values within 0 and 1, whatever their distribution.

    No such values vary more than zeros and ones of the same mean, of which Wilson's interval speaks. wrong: of values
    from -1 to 1, which are the difference of two such, the mean of the other.
    """
    low, high = _wilson(min(right, 1.0), count, z)
    if wrong is None:
        return right - low, high - right
    other_low, other_high = _wilson(min(wrong, 1.0), count, z)
    return math.hypot(right - low, other_high - wrong), math.hypot(high - right, wrong - other_low)


@lru_cache(maxsize=4)
def _resampled(clusters: int, resamples: int) -> np.ndarray:
    """How often each cluster is in each resample (B, C), always the same. Thousands of clusters get fewer resamples."""
    resamples = min(resamples, max(999, 20_000_000 // clusters))
    rng = np.random.default_rng(0)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


def _wilson(share: float, pairs: float, z: float) -> tuple[float, float]:
    centre = (share + z**2 / (2 * pairs)) / (1 + z**2 / pairs)
    half = z * math.sqrt(max(0.0, share * (1 - share)) / pairs + z**2 / (4 * pairs**2)) / (1 + z**2 / pairs)
    # At the ends the formula's own limits are 0 and 1, but for rounding.
    return (0.0 if share <= 0 else centre - half), (1.0 if share >= 1 else centre + half)


def _quantile(alpha: float, freedom: float = math.inf) -> float:
    """What a normal or a Student's variable exceeds, on either side, with probability alpha."""
    from scipy.special import ndtri, stdtrit

    return -float(ndtri(alpha / 2) if freedom == math.inf else stdtrit(freedom, alpha / 2))


def _root(weights_C: np.ndarray, far_C: np.ndarray) -> float:
    return math.sqrt(float(weights_C**2 @ np.maximum(far_C, 0) ** 2))


def _weights(outcomes: Outcomes, pooled: bool) -> tuple[np.ndarray, np.ndarray]:
    """What each cluster counts in the estimate (all alike, or with `pooled` as it has pairs), and its pairs (C,)."""
    pairs_C = np.array([float(len(one)) for one in outcomes])
    if not len(pairs_C) or pairs_C.min() == 0:
        raise ValueError("there must be a cluster, and a pair in every cluster")
    counted_C = pairs_C if pooled else np.ones(len(pairs_C))
    return counted_C / counted_C.sum(), pairs_C


def _means(side: Side) -> np.ndarray:
    pairs_C = np.array([len(one) for one in side[0]])
    starts_C = np.cumsum(pairs_C) - pairs_C
    return np.array([np.add.reduceat(np.concatenate(outcomes), starts_C) / pairs_C for outcomes in side])


def _check_same_pairs(a: Side, b: Side) -> None:
    if len({tuple(len(one) for one in outcomes) for outcomes in (*a, *b)}) != 1:
        raise ValueError("both sides must have the same clusters with the same pairs")
