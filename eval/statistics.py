"""How sure a difference is: paired bootstrap intervals and sign-flip p-values. Knows no models and no metrics.

Every number comes from the paired differences of one data set or of several. A resample of few distinct
differences (right and wrong answers give three) is drawn as how often each occurs, which costs the same for ten
examples and for a million; others are drawn one by one, on all processors, with the same result on any number.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.platform.items import FloatArray

DRAWS: Final = 10_000
LEVEL: Final = 0.95
_VALUES_AT_ONCE: Final = 400_000
_DISTINCT: Final = 24
"""Drawing a count took 148 ns, drawing an example 6 ns (2 cores, numpy 2.3)."""
_TIES: Final = 1e-12


@dataclass(frozen=True)
class Interval:
    """A mean difference and its interval; without one (None) where fewer than two examples tell nothing."""

    delta: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Sample:
    """The paired differences of one data set, and what chance makes of their mean, `draws` times.

    The same differences and seed give the same draws.
    """

    differences: FloatArray
    draws: int = DRAWS
    seed: int = 0

    @cached_property
    def mean(self) -> float:
        """The mean difference."""
        return float(np.mean(self.differences))

    @cached_property
    def resampled(self) -> FloatArray:
        """Means of examples drawn with replacement: the bootstrap."""
        values, counts = np.unique(self.differences, return_counts=True)
        size = len(self.differences)
        if len(values) * _DISTINCT < size:
            generator = np.random.default_rng(self.seed)
            drawn = generator.multinomial(size, counts / size, size=self.draws)
            return np.asarray(drawn @ values / size)
        return self._in_blocks(lambda generator, rows: _redrawn(self.differences, generator, rows))

    @cached_property
    def flipped(self) -> FloatArray:
        """Means when every difference has a random sign: what they are if neither side is better."""
        sizes, counts = np.unique(np.abs(self.differences), return_counts=True)
        if len(sizes) * _DISTINCT < len(self.differences):
            generator = np.random.default_rng((self.seed, 1))
            signs = 2 * generator.binomial(counts, 0.5, size=(self.draws, len(sizes))) - counts
            return np.asarray(signs @ sizes / len(self.differences))
        return self._in_blocks(lambda generator, rows: _flipped(self.differences, generator, rows), 1)

    def _in_blocks(self, draw: Callable[[np.random.Generator, int], FloatArray], *stream: int) -> FloatArray:
        """Draw block by block, each with a generator of its own, so that threads change nothing."""
        rows = max(1, _VALUES_AT_ONCE // len(self.differences))
        starts = range(0, self.draws, rows)
        seeds = np.random.SeedSequence((self.seed, *stream)).spawn(len(starts))
        if len(starts) == 1:
            return draw(np.random.default_rng(seeds[0]), self.draws)
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            blocks = threads.map(
                lambda start, seed: draw(np.random.default_rng(seed), min(rows, self.draws - start)), starts, seeds
            )
            return np.concatenate(list(blocks))


def paired_interval(differences: FloatArray, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """95 % BCa bootstrap interval of the mean of paired differences (Efron 1987, doi 10.2307/2289144)."""
    return interval_of([Sample(differences, draws, seed)])


def mean_interval(differences: Sequence[FloatArray], *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """95 % BCa interval of the mean over data sets of each one's mean difference."""
    return interval_of([Sample(part, draws, seed + index) for index, part in enumerate(differences)])


def interval_of(samples: Sequence[Sample]) -> Interval:
    """95 % BCa interval of the mean over data sets of each one's mean difference.

    Examples are resampled within their data set, as BCa is defined for several samples (Davison and Hinkley 1997,
    section 5.3.2): the data sets are taken as given, so this says how sure the difference is on these data sets,
    not on others. When the differences within each are all equal, resampling can show no spread: the interval is
    the point itself. The samples need seeds of their own.
    """
    delta = float(np.mean([sample.mean for sample in samples]))
    if all(len(sample.differences) < 2 for sample in samples):
        return Interval(delta, None, None)
    if all(np.ptp(sample.differences) == 0 for sample in samples):
        return Interval(delta, delta, delta)
    means = np.mean([sample.resampled for sample in samples], axis=0)
    levels = _bca_levels(delta, means, [sample.differences for sample in samples])
    low, high = np.quantile(means, levels)
    return Interval(delta, float(low), float(high))


def p_value(samples: Sequence[Sample]) -> float | None:
    """Two-sided p-value of the paired sign-flip permutation test that the mean over data sets is zero.

    Exact for one data set when all differences that are not zero have one size (McNemar's exact test), or when
    there are no more assignments of signs than draws; otherwise by Monte Carlo with (hits + 1) / (draws + 1)
    (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585), so it is never 0. None for fewer than two examples.
    """
    if all(len(sample.differences) < 2 for sample in samples):
        return None
    if len(samples) == 1 and (exact := _exact_p_value(samples[0])) is not None:
        return exact
    means = np.mean([sample.flipped for sample in samples], axis=0)
    hits = _as_far(means, float(np.mean([sample.mean for sample in samples]))).sum()
    return float((hits + 1) / (len(means) + 1))


def _bca_levels(estimate: float, means: FloatArray, parts: Sequence[FloatArray]) -> FloatArray:
    """The quantiles of the bootstrap means that bound the interval, corrected for bias and acceleration.

    Plain percentiles where the correction is undefined, as when all means lie on one side of the estimate.
    """
    from scipy.special import ndtr, ndtri

    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below = ((means < estimate).mean() + (means <= estimate).mean()) / 2
    with np.errstate(all="ignore"):  # what is not finite is seen below
        bias, shift = ndtri(below), ndtri(tails)
        levels = ndtr(bias + (bias + shift) / (1 - _acceleration(parts) * (bias + shift)))
    return np.asarray(levels) if np.isfinite(levels).all() and 0 < below < 1 else tails


def _acceleration(parts: Sequence[FloatArray]) -> float:
    """Skewness of the influence that single examples have, from the jackknife, which a mean has in closed form."""
    influence = [(part - part.mean()) / len(part) for part in parts]
    cubes = sum(float((one**3).sum()) for one in influence)
    squares = sum(float((one**2).sum()) for one in influence)
    return float(np.divide(cubes, 6 * squares**1.5))


def _exact_p_value(sample: Sample) -> float | None:
    from scipy.stats import binomtest

    moved = sample.differences[sample.differences != 0]
    if not len(moved):
        return 1.0
    if np.ptp(np.abs(moved)) == 0:
        return float(binomtest(int((moved > 0).sum()), len(moved), 0.5).pvalue)
    if 2 ** min(len(moved), 63) > sample.draws:
        return None
    signs = np.array(np.meshgrid(*[(-1.0, 1.0)] * len(moved))).reshape(len(moved), -1).T
    return float(_as_far(signs @ np.abs(moved) / len(sample.differences), sample.mean).mean())


def _as_far(means: FloatArray, observed: float) -> npt.NDArray[np.bool_]:
    """Which means lie as far from zero as the observed one, rounding aside."""
    return np.abs(means) >= abs(observed) * (1 - _TIES)


def _redrawn(differences: FloatArray, generator: np.random.Generator, rows: int) -> FloatArray:
    size = len(differences)
    return np.asarray(differences[generator.integers(0, size, (rows, size))].mean(axis=1))


def _flipped(differences: FloatArray, generator: np.random.Generator, rows: int) -> FloatArray:
    """A random bit is an example's sign: +1 where it is set."""
    size = len(differences)
    width = -(-size // 8)
    drawn = np.frombuffer(generator.bytes(rows * width), np.uint8).reshape(rows, width)
    positive = np.unpackbits(drawn, axis=1, count=size).astype(np.float64)
    return np.asarray((2 * (positive @ np.abs(differences)) - np.abs(differences).sum()) / size)
