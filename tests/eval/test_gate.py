"""The gate: how often it errs, and what each guard lets through."""

from dataclasses import replace

import numpy as np
import pytest
from tests.eval.hand_made import HEADLINES, ranking

from lakebed.eval.compare import Comparison, Difference
from lakebed.eval.gate import Guard, find_figure, judge, parse_guard
from lakebed.eval.statistics import Interval, Sample, interval_of
from lakebed.platform.errors import ConfigError, NotFoundError

EXAMPLES, SIMULATIONS = 2000, 1000
EMPTY = replace(ranking((0.8, 0.8), sets=2, draws=100).pairs[0, 1], differences=(), means=(), paired={})
PRIMARY, OTHER = HEADLINES


def with_means(*means: Difference) -> Comparison:
    """A comparison with these means; headlines that are not among them did not change."""
    same = Interval(0.0, -0.01, 0.01)
    others = [Difference(key, 0.8, 0.8, same, 100) for key in HEADLINES if key not in {one.key for one in means}]
    return replace(EMPTY, means=(*means, *others))


def answered(generator: np.random.Generator, key: str, gained: float, lost: float) -> Difference:
    """The interval of right and wrong answers, of which B gains and loses such shares."""
    changes = generator.choice((-1.0, 0.0, 1.0), EXAMPLES, p=(lost, 1 - gained - lost, gained))
    sample = Sample(changes, draws=500, seed=int(generator.integers(2**31)))
    return Difference(key, 0.85, 0.85 + sample.mean, interval_of([sample]), EXAMPLES)


def share_promoted(gained: float, lost: float) -> float:
    """How often the gate holds; the guarded figure is of two equal models."""
    generator = np.random.default_rng(11)
    verdicts = [
        judge(with_means(answered(generator, PRIMARY, gained, lost), answered(generator, OTHER, 0.04, 0.04)))
        for _ in range(SIMULATIONS)
    ]
    return sum(verdict.holds for verdict in verdicts) / SIMULATIONS


def test_two_equal_models_are_promoted_in_at_most_one_of_twenty_draws() -> None:
    assert share_promoted(0.04, 0.04) <= 0.05


def test_two_points_on_two_thousand_examples_are_found_in_eighty_of_a_hundred_draws() -> None:
    # Eight of a hundred answers differ; with one in ten, 0.80 is the most that any such test can find.
    assert share_promoted(0.05, 0.03) >= 0.8


def figure(key: str, low: float | None, high: float | None, delta: float = 0.0) -> Difference:
    return Difference(key, 0.8, 0.8 + delta, Interval(delta, low, high), 100 if low is not None else 0)


@pytest.mark.parametrize(("low", "margin", "holds"), [(0.01, 0, True), (0.0, 0, False), (0.01, 0.02, False)])
def test_the_lower_bound_decides(low: float, margin: float, holds: bool) -> None:
    verdict = judge(with_means(figure(PRIMARY, low, 0.05, 0.03)), margin=margin)
    assert verdict.holds is holds
    assert ("is not above" in verdict.reason) is not holds


@pytest.mark.parametrize(
    ("low", "high", "tolerance", "holds"),
    [
        (-0.03, 0.01, None, True),  # may have fallen, but not surely
        (-0.03, -0.01, None, False),
        (-0.03, 0.01, 0.02, False),  # a fall by more than the tolerance is not excluded
        (-0.03, -0.01, 0.04, True),  # a sure fall, and surely within the tolerance
    ],
)
def test_a_guard_is_judged_by_the_interval(low: float, high: float, tolerance: float | None, holds: bool) -> None:
    comparison = with_means(figure(PRIMARY, 0.01, 0.05, 0.03), figure(OTHER, low, high, -0.01))
    verdict = judge(comparison, guards=[Guard(OTHER, tolerance)])
    assert verdict.holds is holds
    assert (f"but {OTHER}" in verdict.reason) is not holds


@pytest.mark.parametrize(
    ("delta", "tolerance", "holds"), [(-0.005, None, True), (-0.02, None, False), (-0.02, 0.03, True)]
)
def test_a_guard_without_an_interval_is_judged_by_the_figure(
    delta: float, tolerance: float | None, holds: bool
) -> None:
    comparison = with_means(figure(PRIMARY, 0.01, 0.05, 0.03), figure(OTHER, None, None, delta))
    assert judge(comparison, guards=[Guard(OTHER, tolerance)]).holds is holds


def test_a_primary_figure_without_an_interval_decides_nothing() -> None:
    verdict = judge(with_means(figure(PRIMARY, None, None, 0.5)))
    assert not verdict.holds
    assert "no interval" in verdict.reason


def test_lower_is_better_where_it_is() -> None:
    key = "mean/cross_modal/text_to_signal_median_rank"
    rank = Difference(key, 12.0, 9.0, Interval(-3.0, -4.0, -2.0), 100)
    assert judge(with_means(rank), figure=key).holds
    assert not judge(with_means(replace(rank, interval=Interval(3.0, 2.0, 4.0))), figure=key).holds


def test_a_cost_counts_only_when_it_is_guarded_and_as_a_ratio() -> None:
    slower = replace(EMPTY.runs[1], metrics={"cost/embed/seconds": 12.0, "cost/embed/rows_per_second": 80.0})
    faster = replace(EMPTY.runs[0], metrics={"cost/embed/seconds": 10.0, "cost/embed/rows_per_second": 100.0})
    comparison = replace(with_means(figure(PRIMARY, 0.01, 0.05, 0.03)), runs=(faster, slower))
    assert judge(comparison).holds
    for cost, enough in (("seconds", 0.2), ("rows_per_second", 0.25)):
        assert judge(comparison, guards=[Guard(f"cost/embed/{cost}", enough)]).holds
        assert not judge(comparison, guards=[Guard(f"cost/embed/{cost}", enough - 0.06)]).holds
    with pytest.raises(ConfigError, match="needs a tolerance"):
        judge(comparison, guards=[Guard("cost/embed/seconds")])
    with pytest.raises(ConfigError, match="is a cost"):
        judge(comparison, figure="cost/embed/seconds")
    elsewhere = replace(slower, params={"machine.processor": "another"})
    moved = replace(comparison, runs=(faster, elsewhere))
    assert "different machines" in judge(moved, guards=[Guard("cost/embed/seconds", 9)]).reason


def test_what_only_describes_is_guarded_by_name_only() -> None:
    gap = "mean/geometry/modality_gap"
    comparison = with_means(figure(PRIMARY, 0.01, 0.05, 0.03), figure(gap, 0.2, 0.3, 0.25))
    comparison = replace(comparison, headlines=(*HEADLINES, gap))
    assert judge(comparison).holds
    assert not judge(comparison, guards=[Guard(gap)]).holds


def test_guards_are_read_and_wrong_ones_refused() -> None:
    assert parse_guard("knn_accuracy:0.01") == Guard("knn_accuracy", 0.01)
    assert parse_guard("mean/classification/knn_accuracy") == Guard("mean/classification/knn_accuracy")
    for bad in ("knn_accuracy:much", "knn_accuracy:-1", "knn_accuracy:nan", ":0.1"):
        with pytest.raises(ConfigError, match="no tolerance"):
            parse_guard(bad)


def test_a_figure_is_named_in_full_or_by_an_end_that_no_other_has() -> None:
    comparison = with_means(
        figure(PRIMARY, 0, 1), figure(OTHER, 0, 1), figure("mean/robustness/knn_accuracy", 0, 1)
    )
    assert find_figure(comparison, "linear_probe_accuracy").key == PRIMARY
    assert find_figure(comparison, "classification/knn_accuracy").key == OTHER
    with pytest.raises(ConfigError, match="write all of it"):
        find_figure(comparison, "knn_accuracy")
    with pytest.raises(NotFoundError, match="there are mean/classification"):
        find_figure(comparison, "recall")
