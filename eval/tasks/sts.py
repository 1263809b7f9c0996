"""Semantic similarity of sentence pairs: rank correlation of the cosine with what people said.

Spearman's is the figure of the benchmark; it is no mean over pairs, so what is kept by pair is each pair's share
in it, by which two encoders can be compared on the same pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray


@dataclass(frozen=True)
class StsTask:
    """Compares parts `first` and `second`, whose labels are the gold scores."""

    name: ClassVar[str] = "sts"
    headlines: ClassVar[tuple[str, ...]] = ("spearman",)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What is correlated with what."""
        return {"similarity": "cosine", "correlation": "Spearman, average ranks; Pearson"}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Spearman and Pearson; an encoder that gives every pair the same similarity scores 0."""
        part = data.parts["first"]
        gold = part.labels.astype(np.float64)
        if len(np.unique(gold)) < 2:
            raise ConfigError(f"data set {data.name}: all gold scores are equal, nothing to correlate with")
        similarity = (vectors["first"].astype(np.float64) * vectors["second"]).sum(axis=1)
        shares = spearman_shares(similarity, gold)
        metrics = {"spearman": float(shares.mean()), "pearson": _pearson(similarity, gold)}
        said = [f"{value:.4f}" for value in similarity]
        return TaskResult(metrics, [ExampleScores("spearman", part.keys, shares, part.labels.tolist(), said)])


def spearman_shares(x: FloatArray, y: FloatArray) -> FloatArray:
    """Each pair's share in Spearman's correlation of x and y: their mean is the correlation itself.

    The share is the correlation plus the pair's empirical influence on it, which counts what the pair does to the
    ranks of all others (Croux and Dehon 2010, doi 10.1007/s10260-010-0142-z). So the spread of the shares is that
    of the correlation, and resampling them is resampling pairs. 0 throughout when x or y is constant.
    """
    a, b = _centred_ranks(x), _centred_ranks(y)
    scale = a.std() * b.std()
    if scale == 0:
        return np.zeros_like(a)
    product: FloatArray = a * b
    influence = product + _mean_above(x, b) + _mean_above(y, a)
    return np.asarray((influence - 2 * product.mean()) / scale)


def _centred_ranks(values: FloatArray) -> FloatArray:
    from scipy.stats import rankdata

    ranks: FloatArray = rankdata(values) / len(values)
    return np.asarray(ranks - ranks.mean())


def _mean_above(values: FloatArray, weights: FloatArray) -> FloatArray:
    """For each value: the weights of those above it, and half of those equal to it, summed and divided by n."""
    order = np.argsort(values, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    below, upto = (sums[np.searchsorted(values[order], values, side)] for side in ("left", "right"))
    return np.asarray((sums[-1] - (below + upto) / 2) / len(values))


def _pearson(x: FloatArray, y: FloatArray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else 0.0
