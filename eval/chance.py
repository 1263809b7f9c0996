"""What guessing would score: expected values in closed form, nothing is drawn.

A score says little without them: ten right answers in a pool of twenty are easily hit.
"""

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
