"""What guessing would score: expected values in closed form, nothing is drawn.

A score says little without them: ten right answers in a pool of twenty are easily hit.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import LabelArray
from lakebed.platform.items import FloatArray


def hit_rate(right: npt.NDArray[np.int64], pool: int, cutoff: int) -> float:
    """Expected recall@cutoff of a random order, the mean over queries with `right` right answers each.

    Hypergeometric: 1 - P(none of the first `cutoff` of `pool` is right).
    """
    from scipy.stats import hypergeom

    return float(np.mean(1 - hypergeom.pmf(0, pool, right, min(cutoff, pool))))


def ndcg(grades: FloatArray, cutoff: int) -> FloatArray:
    """Expected nDCG@cutoff of a random order for each query (row): every rank holds the mean grade."""
    discounts = 1 / np.log2(np.arange(2, min(cutoff, grades.shape[1]) + 2))
    best = np.sort(grades, axis=1)[:, ::-1][:, : len(discounts)] @ discounts
    expected = grades.mean(axis=1) * discounts.sum()
    return np.asarray(np.divide(expected, best, out=np.zeros_like(best), where=best > 0))


def accuracy_by_shares(labels: LabelArray) -> float:
    """Expected accuracy of guessing each class as often as it occurs: the sum of squared shares."""
    _, counts = np.unique(labels, return_counts=True)
    return float(((counts / counts.sum()) ** 2).sum())


def macro_f1_by_shares(labels: LabelArray) -> float:
    """Expected macro-F1 of guessing each class as often as it occurs, independently for every example.

    The number m of guesses at a class of n among N is binomial(N, n/N); given m, the expected number of right
    ones is m n/N, so E[F1] is the sum over m of P(m) 2 (m n/N) / (n + m).
    """
    from scipy.stats import binom

    _, counts = np.unique(labels, return_counts=True)
    total = counts.sum()
    guesses = np.arange(total + 1)
    expected = [
        (binom.pmf(guesses, total, count / total) * 2 * (guesses * count / total) / (count + guesses)).sum()
        for count in counts
    ]
    return float(np.mean(expected))


def ndcg_of_few(grades: Sequence[Sequence[int]], pool: int, cutoff: int) -> FloatArray:
    """Expected nDCG@cutoff of a random order for each query, from the few grades of a pool that are not 0.

    `grades` are in falling order. Every rank holds the mean grade of the pool.
    """
    discounts = 1 / np.log2(np.arange(2, cutoff + 2))
    gains = [np.maximum(np.array(row, np.float64), 0) for row in grades]
    best = np.array([row[:cutoff] @ discounts[: len(row[:cutoff])] for row in gains])
    expected = np.array([row.sum() for row in gains]) / pool * discounts[: min(cutoff, pool)].sum()
    return np.asarray(np.divide(expected, best, out=np.zeros_like(best), where=best > 0))


def average_precision(right: npt.NDArray[np.int64], pool: int) -> FloatArray:
    """Expected average precision of a random order for each query with `right` right answers of `pool`.

    A right answer at rank i has (i - 1)(R - 1)/(N - 1) others before it, on average (Bestgen 2015, Exact expected
    average precision of the random baseline for system evaluation). The mean of (1 + (i - 1)(R - 1)/(N - 1))/i
    over ranks i is d + (1 - d) H(N)/N with d = (R - 1)/(N - 1).
    """
    harmonic = (1 / np.arange(1, pool + 1)).sum()
    density = (right - 1) / max(pool - 1, 1)
    return np.where(right > 0, density + harmonic / pool * (1 - density), 0.0)
