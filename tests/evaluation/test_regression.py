"""Regressions are those of statsmodels, and their intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from firstwords.evaluation.regression import (
    design,
    increase,
    interval,
    resample,
    resampled,
    share_interval,
    signed_squares,
)


def planted(
    rng: np.random.Generator, slope: float, *, clusters: int = 100, size: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y, a baseline's column, the added column, and clusters that share some of the noise (variance 1.3 in all)."""
    clusters_N = np.repeat(np.arange(clusters), size)
    base_N, added_N = rng.normal(size=(2, clusters * size))
    noise_N = rng.normal(size=clusters * size) + np.sqrt(0.3) * rng.normal(size=clusters)[clusters_N]
    return 300 + slope * added_N + 0.5 * base_N + noise_N, base_N, added_N, clusters_N


def test_the_increase_is_that_of_statsmodels() -> None:
    import pandas
    import statsmodels.formula.api as formulas

    rng = np.random.default_rng(0)
    table = pandas.DataFrame(rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)), columns=list("yabx"))
    table["a"] = 1_000 + 3 * table["a"]
    alone = formulas.ols("y ~ a + b + a:b", data=table).fit()
    both = formulas.ols("y ~ a + b + a:b + x", data=table).fit()
    columns = {name: table[name].to_numpy() for name in table}
    found = increase(columns["y"], design([columns["a"], columns["b"]], products=True), columns["x"])
    assert found.baseline_r2 == pytest.approx(alone.rsquared, abs=1e-10)
    assert found.model_r2 == pytest.approx(both.rsquared, abs=1e-10)
    assert found.slope == pytest.approx(both.params["x"], rel=1e-8)
    assert found.share == pytest.approx((both.rsquared - alone.rsquared) / (1 - alone.rsquared), abs=1e-10)
    assert found.correlation**2 == pytest.approx(found.share)
    assert np.sign(found.correlation) == np.sign(both.params["x"])


def test_a_resample_is_a_fit_of_the_drawn_clusters() -> None:
    rng = np.random.default_rng(1)
    y_N, base_N, added_N, clusters_N = planted(rng, 0.4, clusters=12, size=5)
    counts_BC = resample(12, 20, seed=3)
    assert (counts_BC.sum(axis=1) == 12).all()
    design_NK = design([base_N])
    correlations_B, slopes_B = resampled(y_N, design_NK, added_N, clusters_N, counts_BC)
    for counts_C, correlation, slope in zip(counts_BC, correlations_B, slopes_B, strict=True):
        rows = np.concatenate([np.flatnonzero(clusters_N == c) for c in range(12) for _ in range(int(counts_C[c]))])
        found = increase(y_N[rows], design_NK[rows], added_N[rows])
        assert correlation == pytest.approx(found.correlation, abs=1e-8)
        assert slope == pytest.approx(found.slope, abs=1e-8)


def test_a_column_that_says_nothing_new_explains_nothing() -> None:
    rng = np.random.default_rng(2)
    y_N, base_N, added_N, clusters_N = planted(rng, 1.0)
    for idle_N in (np.ones_like(base_N), 2 * base_N - 7):
        found = increase(y_N, design([base_N]), idle_N)
        assert found.share == pytest.approx(0, abs=1e-9)
        correlations_B, slopes_B = resampled(y_N, design([base_N]), idle_N, clusters_N, resample(100, 50))
        assert np.isfinite(correlations_B).all() and np.isfinite(slopes_B).all()
    assert increase(y_N, design([base_N]), added_N).slope == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("slope", [0.0, -0.3])
def test_intervals_hold_the_truth_as_often_as_they_say(slope: float) -> None:
    """95% intervals of the slope and of the explained share hold the truth in 93 to 97% of 1,500 planted samples."""
    rng, counts_BC = np.random.default_rng(5), resample(200, 500)
    truth = slope**2 / (slope**2 + 1.3)
    held = {"share": 0, "slope": 0}
    for _ in range(1_500):
        y_N, base_N, added_N, clusters_N = planted(rng, slope, clusters=200)
        found = increase(y_N, design([base_N]), added_N)
        correlations_B, slopes_B = resampled(y_N, design([base_N]), added_N, clusters_N, counts_BC)
        low, high = share_interval(found.share, signed_squares(correlations_B))
        assert low <= found.share <= high
        held["share"] += low <= truth <= high
        low, high = interval(slopes_B)
        held["slope"] += low <= slope <= high
    assert all(0.93 <= count / 1_500 <= 0.97 for count in held.values()), held
