"""How sure a difference is: paired bootstrap intervals. Pure numpy and scipy; knows no models and no metrics."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.platform.items import FloatArray

DRAWS: Final = 2000
LEVEL: Final = 0.95
_BATCH_VALUES: Final = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean difference and its interval; without one (None) where fewer than two examples tell nothing."""

    delta: float
    low: float | None
    high: float | None


def paired_interval(differences: FloatArray, *, seed: int = 0) -> Interval:
    """95 % BCa bootstrap interval of the mean of paired differences (Efron 1987, by `scipy.stats.bootstrap`).

    When all differences are equal, resampling can show no spread: the interval is the point itself.
    """
    delta = float(np.mean(differences))
    if len(differences) < 2:
        return Interval(delta, None, None)
    if np.ptp(differences) == 0:
        return Interval(delta, delta, delta)
    low, high = _bootstrap(differences, "BCa", seed)
    if not np.isfinite((low, high)).all():  # the acceleration is undefined for a few near-constant samples
        low, high = _bootstrap(differences, "percentile", seed)
    return Interval(delta, low, high)


def mean_interval(differences: Sequence[FloatArray], *, seed: int = 0) -> Interval:
    """95 % percentile interval of the mean over data sets of each one's mean difference.

    Examples are resampled within their data set; the data sets are taken as given, so this says how sure the
    difference is on these data sets, not on others.
    """
    delta = float(np.mean([part.mean() for part in differences]))
    if all(len(part) < 2 for part in differences):
        return Interval(delta, None, None)
    generator = np.random.default_rng(seed)
    draws = np.mean([_resampled_means(part, generator) for part in differences], axis=0)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(delta, float(low), float(high))


def _bootstrap(differences: FloatArray, method: str, seed: int) -> tuple[float, float]:
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # the caller looks at what came out
        interval = bootstrap(
            (differences,),
            np.mean,
            n_resamples=DRAWS,
            confidence_level=LEVEL,
            method=method,
            batch=max(1, _BATCH_VALUES // len(differences)),
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def _resampled_means(differences: FloatArray, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Means of DRAWS resamples, by drawing how often each distinct difference occurs: far cheaper."""
    values, counts = np.unique(differences, return_counts=True)
    drawn = generator.multinomial(len(differences), counts / len(differences), size=DRAWS)
    means: npt.NDArray[np.float64] = drawn @ values / len(differences)
    return means
