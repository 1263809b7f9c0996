"""Tests over data sets, one number each: is a model better on data sets in general, not only on these examples?

Wilcoxon's signed ranks for two models, Friedman's test and pairwise Wilcoxon for more, Holm's correction for
asking several times (Demsar 2006, JMLR 7; Benavoli, Corani and Mangili 2016, JMLR 17). Knows no models and no
metrics.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from lakebed.eval.statistics import Sample, p_value
from lakebed.platform.items import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA: Final = 0.05
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_ASSIGNMENTS: Final = 2**13
_EXACT_WITHOUT_TIES: Final = 50

_Key = TypeVar("_Key")


def wilcoxon_p(differences: FloatArray) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test; ties share their ranks, zeros take ranks (Pratt 1959).

    Exact for up to 13 data sets, or 50 without ties, else by the normal approximation. None for fewer than two
    data sets. With five or fewer it cannot fall below 0.05, however large the differences.
    """
    from scipy.stats import rankdata, wilcoxon

    if len(differences) < 2:
        return None
    rounded = np.round(differences, 12)  # what differs in the last digit only is a tie
    ranks = rankdata(np.abs(rounded))
    moved = np.count_nonzero(rounded)
    if 2**moved <= _ASSIGNMENTS:  # scipy enumerates these one by one, in seconds
        return p_value([Sample(ranks * np.sign(rounded), _ASSIGNMENTS)])
    tied = moved < len(ranks) or len(np.unique(ranks)) < len(ranks)
    exact = not tied and len(ranks) <= _EXACT_WITHOUT_TIES
    return float(wilcoxon(rounded, zero_method="pratt", method="exact" if exact else "asymptotic").pvalue)


def holm(p_values: Mapping[_Key, float]) -> dict[_Key, float]:
    """Adjusted p-values, valid however many were asked (Holm 1979): the smallest times their number, and so on."""
    adjusted: dict[_Key, float] = {}
    highest = 0.0
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p_values}


def friedman_p(scores: FloatArray) -> float | None:
    """p-value of Friedman's test that all models (columns) rank alike on the data sets (rows).

    None for fewer than three models or two data sets, and where all are tied on every one.
    """
    from scipy.stats import friedmanchisquare

    if scores.shape[1] < 3 or len(scores) < 2 or not np.ptp(scores, axis=1).any():
        return None
    return float(friedmanchisquare(*scores.T).pvalue)


def pairwise_p(scores: FloatArray) -> dict[tuple[int, int], float]:
    """Holm-adjusted Wilcoxon p-value for every two models (columns); none for fewer than two data sets (rows)."""
    found = {
        (one, other): p
        for one, other in combinations(range(scores.shape[1]), 2)
        if (p := wilcoxon_p(scores[:, other] - scores[:, one])) is not None
    }
    return holm(found)


def mean_ranks(scores: FloatArray, *, lower_is_better: bool = False) -> FloatArray:
    """Mean rank of every model (column) over data sets (rows); 1 is best, ties share."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(scores if lower_is_better else -scores, axis=1).mean(axis=0))


def critical_difference(scores: FloatArray, labels: Sequence[str], *, lower_is_better: bool = False) -> "Figure":
    """The diagram of mean ranks, a bar joining models that are not told apart, as `aeon` draws it.

    Its bars come from one-sided Wilcoxon tests at a level cut by Holm's first step, once Friedman's test is
    significant. `scores` is data sets x models, and not all tied.
    """
    from aeon.visualisation import plot_critical_difference
    from matplotlib import pyplot

    drawn, axes = plot_critical_difference(scores, list(labels), lower_better=lower_is_better, alpha=ALPHA)
    pyplot.close(drawn)  # it is ours now: pyplot would keep it for ever
    axes.lines[0].remove()  # white, to set the limits: seen on a dark page
    figure: Figure = drawn
    return figure
