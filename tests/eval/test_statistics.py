"""Intervals against scipy, closed forms and their own promise."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from lakebed.eval.statistics import mean_interval, paired_interval


def test_a_paired_interval_is_scipys_bca() -> None:
    differences = np.random.default_rng(1).choice((-1.0, 0.0, 1.0), 200, p=(0.1, 0.7, 0.2))
    interval = paired_interval(differences, seed=5)
    expected = bootstrap(
        (differences,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    assert interval.delta == pytest.approx(differences.mean())
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_equal_differences_are_their_own_interval() -> None:
    interval = paired_interval(np.full(50, 0.25))
    assert (interval.delta, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_one_example_has_no_interval() -> None:
    interval = paired_interval(np.array([1.0]))
    assert (interval.delta, interval.low, interval.high) == (1.0, None, None)
    assert mean_interval([np.array([1.0])]).low is None


@pytest.mark.parametrize("changed", [1, 2, 5])
def test_a_few_changed_examples_give_finite_bounds(changed: int) -> None:
    differences = np.zeros(100)
    differences[:changed] = 1.0
    interval = paired_interval(differences)
    assert interval.low is not None
    assert interval.high is not None
    assert np.isfinite([interval.low, interval.high]).all()
    assert interval.low <= interval.delta <= interval.high


def test_a_mean_interval_is_the_normal_one_for_many_examples() -> None:
    generator = np.random.default_rng(2)
    parts = [generator.normal(0.1, 1.0, 2000), generator.normal(0.3, 2.0, 1000)]
    interval = mean_interval(parts)
    error = np.sqrt(sum(part.var() / len(part) for part in parts)) / 2
    assert interval.delta == pytest.approx(np.mean([part.mean() for part in parts]))
    assert interval.low == pytest.approx(interval.delta - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(interval.delta + 1.96 * error, abs=0.15 * error)


def test_the_true_difference_is_inside_about_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(300):
        parts = [generator.choice((-1.0, 0.0, 1.0), 300, p=(0.1, 0.75, 0.15)) for _ in range(3)]
        interval = mean_interval(parts)
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= 0.05 <= interval.high
    assert 0.91 <= inside / 300 <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    differences = np.random.default_rng(1).standard_normal(100)
    assert paired_interval(differences) == paired_interval(differences)
    assert mean_interval([differences]) == mean_interval([differences])
