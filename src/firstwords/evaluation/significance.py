"""Tests of whether two models differ on the same pairs: functions of arrays that know nothing of files.

All p-values are two-sided. An outcome is what a judged pair counts, as in `statistics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def discordant(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """How many pairs only A, and how many only B has right.

    A tie that counts 1/2 is neither right nor wrong, so a pair in which one model ties is in neither number, unless the
    protocol counts ties as right or as wrong.
    """
    return int(np.sum(a - b == 1)), int(np.sum(b - a == 1))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """The p-value of McNemar's exact test: whether both are likelier than chance to have been right alone.

    Of pairs that only one model has right, each model has as many if none is better (a binomial test with 1/2). It
    speaks of these clusters, and of pairs that are drawn independently. Source: McNemar 1947.
    """
    from scipy.stats import binomtest

    return 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family of tests, raised so that the chance of any false alarm stays 5%. Source: Holm 1979."""
    p = np.asarray(p_values, dtype=float)
    ascending = np.argsort(p)
    raised = np.maximum.accumulate(p[ascending] * np.arange(len(p), 0, -1))
    found = np.empty_like(p)
    found[ascending] = np.minimum(raised, 1.0)
    return found.tolist()
