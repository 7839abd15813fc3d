"""Intervals hold the truth as often as they say, tests are those of the books, and agreement is no certainty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from firstwords.evaluation.significance import discordant, holm, mcnemar_exact
from firstwords.evaluation.statistics import (
    RESAMPLES,
    ClusteredDifference,
    Difference,
    Interval,
    clustered_bootstrap,
    combined,
    first_reliably_above_chance,
    hierarchical_interval,
    interval_within_clusters,
    paired_clustered_bootstrap,
    paired_hierarchical,
    paired_within_clusters,
    wilson,
)

RNG = np.random.Generator
FEWER = 1_999
"""Resamples in simulations, which are as true with fewer."""


def judged(shares_C: np.ndarray, pairs: int, rng: RNG) -> np.ndarray:
    """Outcomes (C, P): pairs of each cluster that are right with its chance."""
    return (rng.random((len(shares_C), pairs)) < shares_C[:, None]).astype(float)


def holds(interval: Interval, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


def held(intervals: Iterable[Interval], truth: float) -> float:
    """Share of intervals that hold the truth."""
    return float(np.mean([holds(interval, truth) for interval in intervals]))


def covers(share: float | np.floating) -> bool:
    return 0.93 <= share <= 0.97


def inverse_logit(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


# Paradigms' accuracies: spread out evenly, and as large models have them, most of them high and a few very low.
POPULATIONS: dict[str, tuple[Callable[[RNG, int], np.ndarray], float]] = {
    "even": (lambda rng, clusters: rng.beta(7, 3, clusters), 0.7),
    "skewed": (lambda rng, clusters: rng.beta(3, 1, clusters), 0.75),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("clusters", [67, 19, 12])
def test_the_interval_of_a_mean_of_clusters_covers(population: str, clusters: int) -> None:
    draw, truth = POPULATIONS[population]
    rng = np.random.default_rng(clusters)
    suites = [judged(draw(rng, clusters), 50, rng) for _ in range(1_500)]
    assert covers(held((hierarchical_interval([suite], resamples=FEWER) for suite in suites), truth))


def test_near_the_ceiling_the_interval_still_covers_where_students_does_not() -> None:
    rng = np.random.default_rng(0)
    suites = [judged(rng.beta(9, 0.5, 12), 200, rng) for _ in range(1_500)]
    means_RC = np.array([suite.mean(axis=1) for suite in suites])
    half_R = student.ppf(0.975, 11) * means_RC.std(axis=1, ddof=1) / np.sqrt(12)
    assert np.mean(np.abs(means_RC.mean(axis=1) - 9 / 9.5) <= half_R) < 0.91
    assert held((hierarchical_interval([suite], resamples=FEWER) for suite in suites), 9 / 9.5) >= 0.93


def test_a_few_hard_clusters_that_were_not_drawn_are_allowed_for() -> None:
    """Nineteen paradigms in twenty are always right, so that twelve drawn ones are often all right."""
    rng = np.random.default_rng(0)
    suites = [judged(np.where(rng.random(12) < 0.05, 0.6, 1.0), 50, rng) for _ in range(500)]
    assert np.mean([suite.min() for suite in suites]) > 0.4
    assert held((hierarchical_interval([suite], resamples=FEWER) for suite in suites), 0.98) >= 0.93


def test_the_interval_of_pooled_pairs_covers_where_clusters_are_of_unequal_size() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([20, 40, 80, 160])
    # Larger clusters are harder: the share of all pairs is not the mean of the clusters.
    truth = (60 * 0.75 + 240 * 0.5) / 300

    def intervals() -> Iterator[Interval]:
        for _ in range(1_200):
            drawn = rng.choice(sizes, size=24)
            shares = np.where(drawn < 60, rng.beta(6, 2, 24), rng.beta(3, 3, 24))
            suite = [(rng.random(size) < share).astype(float) for size, share in zip(drawn, shares, strict=True)]
            yield hierarchical_interval([suite], pooled=True, resamples=FEWER)

    assert covers(held(intervals(), truth))


@pytest.mark.parametrize(("differ", "clusters"), [(0.5, 67), (0.5, 19), (0.5, 12), (0.0, 67), (0.0, 12)])
def test_the_interval_of_a_difference_covers(differ: float, clusters: int) -> None:
    """Models that differ from paradigm to paradigm (on the scale of logits), and such that never do."""
    rng = np.random.default_rng(clusters)
    many = rng.normal(1, 1, (2, 400_000)) * np.array([[1], [differ]]) + np.array([[0], [0.2 * (differ > 0) - differ]])
    truth = float(np.mean(inverse_logit(many[0] + many[1]) - inverse_logit(many[0])))

    def differences() -> Iterator[ClusteredDifference]:
        for _ in range(1_000):
            ease_C = rng.normal(1, 1, clusters)
            gain_C = rng.normal(1, 1, clusters) * differ + 0.2 * (differ > 0) - differ
            a, b = (judged(inverse_logit(logits_C), 50, rng) for logits_C in (ease_C, ease_C + gain_C))
            yield paired_hierarchical([a], [b], resamples=FEWER)

    found = list(differences())
    assert covers(held(found, truth))
    if differ == 0:
        assert 0.03 <= np.mean([one.p < 0.05 for one in found]) <= 0.07
        assert np.mean([one.share_better for one in found]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("a_seeds", "b_seeds", "clusters"), [(3, 3, 67), (5, 3, 19), (3, 3, 12), (4, 1, 12)])
def test_intervals_that_count_seeds_cover(a_seeds: int, b_seeds: int, clusters: int) -> None:
    """Seeds that differ altogether and from paradigm to paradigm, all on the scale of logits."""
    rng = np.random.default_rng(clusters + a_seeds)
    whole, each = 0.1, 0.25

    def side(seeds: int, ease_C: np.ndarray) -> np.ndarray:
        logits_SC = ease_C + rng.normal(0, whole, (seeds, 1)) + rng.normal(0, each, (seeds, len(ease_C)))
        return np.stack([judged(inverse_logit(logits_C), 50, rng) for logits_C in logits_SC])

    ease_C = rng.normal(1, 1, 400_000)
    noise_C = rng.normal(0, np.hypot(whole, each), len(ease_C))
    truth_a = float(inverse_logit(ease_C + noise_C).mean())
    truth_b = float(inverse_logit(ease_C + noise_C + rng.normal(0.2, 0.3, len(ease_C))).mean())
    means, differences, unaware = [], [], []
    for _ in range(600):
        ease_C = rng.normal(1, 1, clusters)
        a, b = side(a_seeds, ease_C), side(b_seeds, ease_C + rng.normal(0.2, 0.3, clusters))
        means.append(hierarchical_interval(a, resamples=FEWER))
        differences.append(paired_hierarchical(a, b, resamples=FEWER))
        if clusters == 67:
            unaware.append(paired_hierarchical(a[:1], b[:1], resamples=FEWER))
    assert covers(held(means, truth_a))
    assert covers(held(differences, truth_b - truth_a))
    if clusters == 67:
        # One seed each cannot know that another would have come out otherwise.
        assert held(unaware, truth_b - truth_a) < 0.9


@pytest.mark.parametrize(("clusters", "pairs", "agreement"), [(1, 60, 0.9), (4, 40, 0.8), (12, 100, 0.5)])
def test_intervals_for_other_pairs_of_the_same_clusters_cover(clusters: int, pairs: int, agreement: float) -> None:
    rng = np.random.default_rng(clusters)
    single, difference = [], []
    for _ in range(1_500):
        a_C, b_C = rng.beta(6, 3, clusters), rng.beta(7, 3, clusters)
        # Both models often meet the same luck on a pair: some pairs are hard for both.
        luck_CP = rng.random((clusters, pairs))
        own_CP = np.where(rng.random((clusters, pairs)) < agreement, luck_CP, rng.random((clusters, pairs)))
        a, b = (luck_CP < a_C[:, None]).astype(float), (own_CP < b_C[:, None]).astype(float)
        single.append(holds(interval_within_clusters([a]), a_C.mean()))
        difference.append(holds(paired_within_clusters([a], [b]), (b_C - a_C).mean()))
    assert covers(np.mean(single))
    assert covers(np.mean(difference))


@pytest.mark.parametrize(("whole", "each"), [(0.0, 0.3), (0.2, 0.2)])
def test_intervals_for_other_pairs_and_other_seeds_cover(whole: float, each: float) -> None:
    rng = np.random.default_rng(0)
    ease_C = rng.normal(1, 1, 8)
    gain_C = rng.normal(0.3, 0.3, 8)
    noise = rng.normal(0, np.hypot(whole, each), (200_000, 1))
    truth_a = float(inverse_logit(ease_C + noise).mean())
    truth_b = float(inverse_logit(ease_C + gain_C + noise).mean())

    def seed(logits_C: np.ndarray, hard_CP: np.ndarray) -> np.ndarray:
        own_C = logits_C + rng.normal(0, whole) + rng.normal(0, each, 8)
        # Half of the pairs are as hard for all seeds of both models, half are hard or easy by chance.
        luck_CP = np.where(rng.random((8, 40)) < 0.5, hard_CP, rng.random((8, 40)))
        return (luck_CP < inverse_logit(own_C)[:, None]).astype(float)

    means, differences = [], []
    for _ in range(800):
        hard_CP = rng.random((8, 40))
        a, b = ([seed(of_C, hard_CP) for _ in range(3)] for of_C in (ease_C, ease_C + gain_C))
        means.append(interval_within_clusters(a))
        differences.append(paired_within_clusters(a, b))
    assert covers(held(means, truth_a))
    assert covers(held(differences, truth_b - truth_a))


def test_the_bootstrap_is_the_one_of_the_books() -> None:
    rng = np.random.default_rng(3)
    outcomes = judged(rng.beta(7, 3, 15), 30, rng)
    means = outcomes.mean(axis=1)
    studentized = []
    for counts in np.random.default_rng(0).multinomial(15, [1 / 15] * 15, size=RESAMPLES):
        drawn = np.repeat(means, counts)
        studentized.append((drawn.mean() - means.mean()) / (drawn.std(ddof=1) / np.sqrt(15)))
    error = means.std(ddof=1) / np.sqrt(15)
    studentized.sort()
    found = clustered_bootstrap(outcomes)
    assert found.estimate == pytest.approx(means.mean(), abs=1e-12)
    assert found.low == pytest.approx(means.mean() - studentized[-250] * error, abs=1e-12)
    assert found.high == pytest.approx(means.mean() - studentized[249] * error, abs=1e-12)
    assert clustered_bootstrap(outcomes) == found


def test_equal_clusters_are_no_certainty() -> None:
    for clusters in (1, 2, 12, 67):
        perfect, hopeless = np.ones((clusters, 50)), np.zeros((clusters, 50))
        low, _ = proportion_confint(clusters, clusters, method="wilson")
        assert clustered_bootstrap(perfect) == Interval(1.0, pytest.approx(low), 1.0)
        assert clustered_bootstrap(hopeless) == Interval(0.0, 0.0, pytest.approx(1 - low))
        half = clustered_bootstrap(np.tile([0.0, 1.0], (clusters, 25)))
        assert half.low < 0.45 < 0.55 < half.high
        same = paired_clustered_bootstrap(perfect, perfect)
        assert (same.estimate, same.p, same.share_better) == (0, 1, 0.5)
        assert same.low < -0.03 < 0.03 < same.high
        pairs = paired_within_clusters([perfect], [perfect])
        assert (pairs.estimate, pairs.p) == (0, 1)
        # None of as many pairs differed: by the rule of three, fewer than 3 in as many do.
        assert -4 < pairs.low * 50 * clusters < -2.5
        assert pairs.high == -pairs.low
        assert interval_within_clusters([perfect]).low < 0.999
    # All paradigms right but one: the bootstrap alone knows no lower end.
    nearly = np.ones((12, 50))
    nearly[0, :25] = 0
    found = clustered_bootstrap(nearly)
    assert 0.5 < found.low < 0.9 < found.high <= 1


def test_few_clusters_have_a_wide_interval_that_stays_within_0_and_1() -> None:
    rng = np.random.default_rng(0)
    for clusters in (1, 2, 3, 4):
        found = clustered_bootstrap(judged(rng.beta(9, 1, clusters), 50, rng))
        assert 0 <= found.low < found.estimate <= found.high <= 1
        assert found.high - found.low > 0.05


def test_the_same_clusters_weigh_alike_and_pooled_pairs_do() -> None:
    a = [np.array([1.0, 1, 1, 1]), np.array([0.0, 1])]
    b = [np.array([1.0, 1, 0, 0]), np.array([1.0, 1])]
    assert clustered_bootstrap(a).estimate == 0.75
    assert clustered_bootstrap(a, pooled=True).estimate == pytest.approx(5 / 6)
    assert paired_clustered_bootstrap(a, b).estimate == pytest.approx(0)
    assert paired_clustered_bootstrap(a, b, pooled=True).estimate == pytest.approx(-1 / 6)
    assert paired_within_clusters([a], [b], pooled=True).estimate == pytest.approx(-1 / 6)
    assert interval_within_clusters([a], pooled=True).estimate == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="same clusters"):
        paired_clustered_bootstrap(a, b[:1])
    with pytest.raises(ValueError, match="a pair in every cluster"):
        clustered_bootstrap([*a, np.array([])])


sides = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=80)
@given(rng=sides, clusters=st.integers(1, 15), pairs=st.integers(1, 30), seeds=st.integers(1, 3), pooled=st.booleans())
def test_differences_turn_their_sign_and_p_belongs_to_the_interval(
    rng: RNG, clusters: int, pairs: int, seeds: int, pooled: bool
) -> None:
    shares = rng.random((2, clusters))
    a, b = ([judged(of_C, pairs, rng) for _ in range(seeds)] for of_C in shares)
    for compare in (
        lambda one, other: paired_hierarchical(one, other, pooled=pooled, resamples=FEWER),
        lambda one, other: paired_within_clusters(one, other, pooled=pooled),
    ):
        found: Difference = compare(a, b)
        turned: Difference = compare(b, a)
        assert found.estimate == pytest.approx(-turned.estimate, abs=1e-12)
        assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low), abs=1e-9)
        assert found.p == pytest.approx(turned.p, rel=1e-3)
        assert -1 <= found.low <= found.estimate <= found.high <= 1
        assert found.high > found.low
        assert 0 < found.p <= 1
        assert (found.p <= 0.05) == (not found.low <= 0 <= found.high)
        same: Difference = compare(a, a)
        assert (same.estimate, same.p) == (0, 1)
        assert same.low < 0 < same.high


def test_the_seeds_spread_is_told() -> None:
    seeds = [np.array([[1.0] * right + [0.0] * (10 - right)] * 3) for right in (5, 6, 8)]
    spread = hierarchical_interval(seeds).spread
    assert (spread.seeds, spread.least, spread.greatest) == (3, pytest.approx(0.5), pytest.approx(0.8))
    assert spread.sd == pytest.approx(np.std([0.5, 0.6, 0.8], ddof=1))
    assert hierarchical_interval(seeds[:1]).spread.sd is None


def test_a_side_of_one_seed_borrows_the_others_spread() -> None:
    rng = np.random.default_rng(0)
    shares = rng.beta(7, 3, 67)
    apart = [judged(np.clip(shares + shift, 0, 1), 50, rng) for shift in (-0.1, 0, 0.1)]
    alone = judged(shares, 50, rng)
    both_alone = paired_hierarchical([alone], apart[1:2])
    borrowed = paired_hierarchical([alone], apart)
    assert borrowed.high - borrowed.low > 3 * (both_alone.high - both_alone.low)


@pytest.mark.parametrize(("right", "pairs"), [(0, 1), (0, 200), (1, 2), (37, 200), (500, 1_000), (999, 1_000), (5, 5)])
def test_wilson_is_that_of_statsmodels(right: int, pairs: int) -> None:
    assert wilson(right, pairs) == pytest.approx(proportion_confint(right, pairs, method="wilson"), abs=1e-12)


def test_combined_intervals_are_newcombes_for_two_shares() -> None:
    # The difference of two shares is, but for scale, the mean of one share and of what is wanting in the other.
    parts = [Interval(0.75, *wilson(15, 20)), Interval(0.6, *wilson(12, 20))]
    found = combined(parts)
    low, high = confint_proportions_2indep(15, 20, 8, 20, method="newcomb")
    assert found.estimate == pytest.approx(0.675)
    assert (2 * found.low - 1, 2 * found.high - 1) == pytest.approx((low, high), abs=1e-9)


def test_one_clusters_difference_is_bonett_and_prices() -> None:
    a, b = np.array([1.0] * 40 + [0.0] * 10), np.array([1.0] * 37 + [0.0] * 3 + [1.0] * 6 + [0.0] * 4)
    only_a, only_b = discordant(a, b)
    assert (only_a, only_b) == (3, 6)
    shares = (only_a + 1) / 52, (only_b + 1) / 52
    centre = shares[1] - shares[0]
    half = 1.959963984540054 * np.sqrt((shares[0] + shares[1] - centre**2) / 52)
    found = paired_within_clusters([[a]], [[b]])
    assert (found.estimate, found.low, found.high) == pytest.approx((3 / 50, centre - half, centre + half))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 6), (10, 30), (200, 100), (0, 12)])
def test_mcnemar_is_that_of_statsmodels(only_a: int, only_b: int) -> None:
    expected = mcnemar([[50, only_a], [only_b, 20]], exact=True).pvalue if only_a + only_b else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected)
    assert mcnemar_exact(only_a, only_b) == mcnemar_exact(only_b, only_a)


def test_a_tie_that_counts_half_is_neither_right_nor_wrong() -> None:
    a, b = np.array([1.0, 1.0, 0.0, 0.5, 0.5, 0.5]), np.array([0.0, 0.5, 1.0, 1.0, 0.0, 0.5])
    assert discordant(a, b) == (1, 1)


def test_holm_goes_down_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_chance_must_be_left_behind_for_good() -> None:
    words = [1, 2, 5, 10, 20]

    def first(*lows: float) -> int | None:
        return first_reliably_above_chance(words, [Interval(low + 0.1, low, low + 0.2) for low in lows])

    assert first(0.4, 0.51, 0.49, 0.52, 0.6) == 10
    assert first(0.51, 0.52, 0.53, 0.54, 0.55) == 1
    assert first(0.6, 0.6, 0.6, 0.6, 0.5) is None
    assert first_reliably_above_chance([1, 2], [Interval(0.4, 0.3, 0.5)] * 2, chance=0.25) == 1
    with pytest.raises(ValueError, match="rise"):
        first_reliably_above_chance([2, 1], [Interval(0.4, 0.3, 0.5)] * 2)
