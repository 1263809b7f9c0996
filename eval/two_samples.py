"""Do two samples of vectors come from one distribution? Tests with p-values, and how far one lies from the other.

Pure arrays (vectors x dimensions) in, numbers out; the same seed gives the same numbers. Knows no tables.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lakebed.platform.items import FloatArray

FAR: Final = 0.99
_NEIGHBOURS: Final = 5
_PERMUTATIONS_AT_ONCE: Final = 200


@dataclass(frozen=True)
class Outcome:
    """A statistic and the p-value that chance makes it as large."""

    statistic: float
    p: float


def mmd(a: FloatArray, b: FloatArray, *, permutations: int = 1000, seed: int = 0) -> Outcome:
    """Unbiased squared maximum mean discrepancy, Gaussian kernel, with a permutation test (Gretton et al. 2012).

    The kernel's width is the median distance between different vectors of both samples (the median heuristic).
    Both samples need two vectors at least.
    """
    kernel = _gaussian_kernel(np.concatenate([a, b]))
    membership = np.zeros(len(kernel))
    membership[: len(a)] = 1
    observed = float(_mmd_of(kernel, membership[None])[0])
    generator = np.random.default_rng(seed)
    hits = 0
    for start in range(0, permutations, _PERMUTATIONS_AT_ONCE):
        rows = min(_PERMUTATIONS_AT_ONCE, permutations - start)
        drawn = generator.permuted(np.tile(membership, (rows, 1)), axis=1)
        hits += int((_mmd_of(kernel, drawn) >= observed - 1e-12).sum())
    return Outcome(observed, (hits + 1) / (permutations + 1))


def classifier_test(a: FloatArray, b: FloatArray, *, seed: int = 0) -> Outcome:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545): the accuracy of telling them apart.

    A logistic regression learns on one half of equally many vectors of both, and is asked about the other half;
    p is the chance of so many right answers by guessing (binomial).
    """
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(seed)
    size = min(len(a), len(b))
    chosen = [part[generator.permutation(len(part))[:size]] for part in (a, b)]
    labels = np.repeat([0, 1], size)
    learn, ask, learn_labels, ask_labels = train_test_split(
        np.concatenate(chosen), labels, test_size=0.5, stratify=labels, random_state=seed
    )
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    right = int((classifier.fit(learn, learn_labels).predict(ask) == ask_labels).sum())
    return Outcome(right / len(ask), float(binomtest(right, len(ask), 0.5, alternative="greater").pvalue))


def far_share(baseline: FloatArray, current: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Share of current vectors further from the baseline than 99 % of its own are; and both sides' distances.

    A distance is to the fifth nearest baseline vector, other than itself; by chance the share is about 0.01.
    """
    from sklearn.neighbors import NearestNeighbors

    neighbours = min(_NEIGHBOURS, len(baseline) - 1)
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(baseline)
    own = search.kneighbors()[0][:, -1]
    others = search.kneighbors(current)[0][:, -1]
    return float((others > np.quantile(own, FAR)).mean()), own, others


def _gaussian_kernel(vectors: FloatArray) -> FloatArray:
    from scipy.spatial.distance import pdist, squareform

    squared = pdist(vectors, "sqeuclidean")
    apart = squared[squared > 0]
    width = float(np.median(apart)) if len(apart) else 1.0
    return np.asarray(np.exp(-squareform(squared) / width))


def _mmd_of(kernel: FloatArray, membership: FloatArray) -> FloatArray:
    """The statistic for each assignment (row) of vectors to the first sample (1) or the second (0)."""
    first, second = membership, 1 - membership
    n, m = first[0].sum(), second[0].sum()
    to_first = first @ kernel
    same_first = (to_first * first).sum(axis=1) - n  # less each vector with itself
    across = (to_first * second).sum(axis=1)
    same_second = ((second @ kernel) * second).sum(axis=1) - m
    return np.asarray(same_first / (n * (n - 1)) + same_second / (m * (m - 1)) - 2 * across / (n * m))
