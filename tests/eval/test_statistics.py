"""Intervals and p-values against scipy, closed forms and their own promise."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from lakebed.eval import statistics
from lakebed.eval.statistics import Sample, interval_of, mean_interval, p_value, paired_interval
from lakebed.platform.items import FloatArray

GENERATOR = np.random.default_rng(1)
RIGHT_AND_WRONG = GENERATOR.choice((-1.0, 0.0, 1.0), 200, p=(0.1, 0.7, 0.2))
SKEWED = GENERATOR.gamma(1, 1, 40) - 0.8


@pytest.mark.parametrize("parts", [[RIGHT_AND_WRONG], [SKEWED], [RIGHT_AND_WRONG, SKEWED]])
def test_an_interval_is_scipys_bca_of_the_same_resamples(parts: list[FloatArray]) -> None:
    samples = [Sample(part, 2000, seed) for seed, part in enumerate(parts)]
    means = np.mean([sample.resampled for sample in samples], axis=0)

    def statistic(*data: FloatArray, axis: int) -> FloatArray:
        return sum(part.mean(axis=axis) for part in data) / len(data)  # type: ignore[return-value]

    expected = stats.bootstrap(
        tuple(parts),
        statistic,
        n_resamples=0,
        method="BCa",
        vectorized=True,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=means),
    ).confidence_interval
    interval = interval_of(samples)
    assert interval.delta == pytest.approx(np.mean([part.mean() for part in parts]))
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("differences", [RIGHT_AND_WRONG, SKEWED], ids=["counts", "one by one"])
def test_resamples_spread_as_theory_says(differences: FloatArray) -> None:
    sample = Sample(differences)
    error = differences.std() / np.sqrt(len(differences))
    assert sample.resampled.mean() == pytest.approx(differences.mean(), abs=0.05 * error)
    assert sample.resampled.std() == pytest.approx(error, rel=0.05)
    root = np.sqrt((differences**2).sum()) / len(differences)
    assert sample.flipped.mean() == pytest.approx(0, abs=0.05 * root)
    assert sample.flipped.std() == pytest.approx(root, rel=0.05)


@pytest.mark.parametrize(
    "differences",
    [[0.4, -0.1, 0.3, 0.7, 0.2, -0.5, 0.9], [1, 1, -1, 0, 0, 1, 1], [0.5, 0.5, -1, 0, 0, 1, 1], [-1.0, -1, -1]],
)
def test_an_exact_p_value_is_scipys(differences: list[float]) -> None:
    expected = stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert p_value([Sample(np.array(differences))]) == pytest.approx(expected.pvalue, abs=1e-12)


def test_right_and_wrong_answers_have_mcnemars_exact_p_value() -> None:
    won, lost = int((RIGHT_AND_WRONG > 0).sum()), int((RIGHT_AND_WRONG < 0).sum())
    by_hand = 2 * stats.binom.cdf(min(won, lost), won + lost, 0.5)
    assert p_value([Sample(RIGHT_AND_WRONG)]) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("parts", [[SKEWED], [RIGHT_AND_WRONG, SKEWED]])
def test_a_drawn_p_value_is_that_of_a_normal_sum_of_signs(parts: list[FloatArray]) -> None:
    samples = [Sample(part, 20_000, seed) for seed, part in enumerate(parts)]
    spread = np.sqrt(sum((part**2).sum() / len(part) ** 2 for part in parts)) / len(parts)
    expected = 2 * stats.norm.sf(abs(np.mean([part.mean() for part in parts])) / spread)
    assert p_value(samples) == pytest.approx(expected, abs=0.02)


def test_threads_and_blocks_change_nothing_but_the_order_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Sample(SKEWED, 500).resampled
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert np.array_equal(once, Sample(SKEWED, 500).resampled)
    monkeypatch.setattr(statistics, "_VALUES_AT_ONCE", 1000)
    alone = Sample(SKEWED, 500).resampled
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert np.array_equal(alone, Sample(SKEWED, 500).resampled)


def test_equal_differences_are_their_own_interval() -> None:
    interval = paired_interval(np.full(50, 0.25))
    assert (interval.delta, interval.low, interval.high) == (0.25, 0.25, 0.25)
    assert p_value([Sample(np.zeros(50))]) == 1


def test_one_example_has_no_interval() -> None:
    interval = paired_interval(np.array([1.0]))
    assert (interval.delta, interval.low, interval.high) == (1.0, None, None)
    assert mean_interval([np.array([1.0])]).low is None
    assert p_value([Sample(np.array([1.0]))]) is None


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
    interval = mean_interval(parts, draws=5000)
    error = np.sqrt(sum(part.var() / len(part) for part in parts)) / 2
    assert interval.delta == pytest.approx(np.mean([part.mean() for part in parts]))
    assert interval.low == pytest.approx(interval.delta - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(interval.delta + 1.96 * error, abs=0.15 * error)


def _bernoulli(generator: np.random.Generator) -> FloatArray:
    return generator.choice((-1.0, 0.0, 1.0), 300, p=(0.1, 0.75, 0.15))


def _skewed(generator: np.random.Generator) -> FloatArray:
    return generator.choice((-0.1, 0.0, 2.15), 300, p=(0.15, 0.82, 0.03))


@pytest.mark.parametrize(("draw", "truth"), [(_bernoulli, 0.05), (_skewed, 0.0495)])
def test_the_true_difference_is_inside_about_nineteen_times_in_twenty(
    draw: Callable[[np.random.Generator], FloatArray], truth: float
) -> None:
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(300):
        interval = mean_interval([draw(generator) for _ in range(3)], draws=1000)
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= truth <= interval.high
    assert 0.91 <= inside / 300 <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    assert paired_interval(SKEWED) == paired_interval(SKEWED)
    assert mean_interval([SKEWED]) == mean_interval([SKEWED])
    assert paired_interval(SKEWED) != paired_interval(SKEWED, seed=1)
