"""Ordinary least squares for reading times: what surprisal explains beyond a baseline, and how sure that is.

Shape letters: N observations, K columns of a design, C clusters, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

RESAMPLES, SEED = 2_000, 1


def design(columns: Sequence[np.ndarray], *, products: bool = False) -> np.ndarray:
    """An intercept, the columns, and where asked the products of every two of them: (N, K).

    Columns are standardized first. That changes no fit, because each product's factors are in the design too, and keeps
    the sums of squares far from rounding.
    """
    scaled = []
    for column_N in columns:
        centred_N = np.asarray(column_N, dtype=np.float64) - np.mean(column_N)
        spread = centred_N.std()
        scaled.append(centred_N / spread if spread > 0 else centred_N)
    crossed = [one_N * other_N for one_N, other_N in combinations(scaled, 2)] if products else []
    return np.column_stack([np.ones(len(columns[0])), *scaled, *crossed])


def residual_square(y_N: np.ndarray, design_NK: np.ndarray) -> float:
    """The sum of squares that the design leaves of y."""
    fitted_K = np.linalg.lstsq(design_NK, y_N, rcond=None)[0]
    return float(((y_N - design_NK @ fitted_K) ** 2).sum())


@dataclass(frozen=True, slots=True)
class Increase:
    """What one column explains of y beyond a baseline.

    share: (R2 of both - R2 of the baseline) / (1 - R2 of the baseline), the squared partial correlation. correlation:
    with its sign. slope: what y gains for one unit of the column.
    """

    observations: int
    baseline_r2: float
    model_r2: float
    correlation: float
    slope: float

    @property
    def share(self) -> float:
        """Of the variance that the baseline leaves, what the column explains: 0 to 1."""
        return (self.model_r2 - self.baseline_r2) / (1.0 - self.baseline_r2) if self.baseline_r2 < 1.0 else 0.0


def increase(y_N: np.ndarray, baseline_NK: np.ndarray, added_N: np.ndarray) -> Increase:
    """Fit the baseline alone, and with the column."""
    total = float(((y_N - y_N.mean()) ** 2).sum())
    alone = residual_square(y_N, baseline_NK)
    both_NK = np.column_stack([baseline_NK, added_N])
    fitted_K = np.linalg.lstsq(both_NK, y_N, rcond=None)[0]
    left = float(((y_N - both_NK @ fitted_K) ** 2).sum())
    slope = float(fitted_K[-1])
    correlation = float(np.copysign(np.sqrt(max(0.0, 1.0 - left / alone)), slope)) if alone > 0 else 0.0
    return Increase(len(y_N), 1.0 - alone / total, 1.0 - left / total, correlation, slope)


def resample(clusters: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each cluster is drawn in each resample, (B, C): as many draws as there are clusters."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=resamples).astype(np.float64)


def resampled(
    y_N: np.ndarray, baseline_NK: np.ndarray, added_N: np.ndarray, clusters_N: np.ndarray, counts_BC: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Partial correlation and slope of the column in every resample of whole clusters, (B,) each.

    clusters_N: the number of each observation's cluster, below C. All fits are told from sums of products of each
    cluster, which are made once.
    """
    table_NK = np.column_stack([baseline_NK, added_N, y_N])
    width, clusters = table_NK.shape[1], counts_BC.shape[1]
    sums_CKK = np.zeros((clusters, width, width))
    np.add.at(sums_CKK, clusters_N, table_NK[:, :, None] * table_NK[:, None, :])
    sums_BKK = (counts_BC @ sums_CKK.reshape(clusters, -1)).reshape(-1, width, width)
    base = width - 2
    # The pseudo-inverse, because a resample may lack what tells two columns apart.
    solved = np.linalg.pinv(sums_BKK[:, :base, :base], hermitian=True) @ sums_BKK[:, :base, base:]
    left_B22 = sums_BKK[:, base:, base:] - sums_BKK[:, base:, :base] @ solved
    of_column, of_y, of_both = left_B22[:, 0, 0], left_B22[:, 1, 1], left_B22[:, 0, 1]
    known = (of_column > 1e-12 * sums_BKK[:, base, base]) & (of_y > 0)
    square = np.where(known, of_column * of_y, 1.0)
    correlations_B = np.where(known, of_both / np.sqrt(square), 0.0)
    slopes_B = np.where(known, of_both / np.where(known, of_column, 1.0), 0.0)
    return np.clip(correlations_B, -1.0, 1.0), slopes_B


def interval(values_B: np.ndarray) -> tuple[float, float]:
    """The middle 95% of resampled values."""
    low, high = np.quantile(values_B, (0.025, 0.975))
    return float(low), float(high)


def signed_squares(correlations_B: np.ndarray) -> np.ndarray:
    """Squares of correlations that keep their signs."""
    squares_B: np.ndarray = np.sign(correlations_B) * correlations_B**2
    return squares_B


def share_interval(share: float, signed_B: np.ndarray) -> tuple[float, float]:
    """A 95% interval for a squared partial correlation or a mean of several, from resampled signed squares.

    A squared correlation is never below 0 and grows with noise, so that its own resamples would leave 0 out of every
    interval. The signed squares do not: where their middle 95% has 0 in it, the interval begins at 0.
    """
    low, high = interval(signed_B)
    if low <= 0.0 <= high:
        low, high = 0.0, max(-low, high)
    else:
        low, high = sorted((abs(low), abs(high)))
    return min(low, share), max(high, share)
