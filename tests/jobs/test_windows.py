"""Cutting samples into windows: laws that hold for any samples, and what each rule does to a few."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakebed.jobs.windows import Samples, WindowRule, Windows, cut_windows, nested_bounds
from lakebed.platform.errors import TableError

RULE: dict[str, Any] = {"length": 3, "stride": 2, "period": 1.0}


def cut(times: list[float], values: list[float] | None = None, **rule: Any) -> Windows:
    numbers = np.array(values if values is not None else times, np.float64)[:, None]
    dtype = np.int64 if all(isinstance(time, int) for time in times) else np.float64
    samples = Samples(np.array(times, dtype), numbers)
    return cut_windows(samples, np.arange(len(times)), WindowRule(**{**RULE, **rule}))


def contents(windows: Windows) -> list[list[float]]:
    bounds = zip(windows.starts, windows.stops, strict=True)
    return [windows.samples.values[start:stop, 0].tolist() for start, stop in bounds]


RULES = st.builds(
    lambda length, stride, **more: {"length": length, "stride": stride, **more},
    st.integers(1, 6),
    st.integers(1, 8),
    partial=st.sampled_from(["drop", "keep"]),
    min_samples=st.integers(1, 4),
    gap_periods=st.sampled_from([1.5, 3.0]),
)
TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True)


@settings(deadline=None)
@given(TIMES, RULES)
def test_windows_are_runs_without_gaps_of_the_asked_length_and_stride(
    times: list[int], rule: dict[str, Any]
) -> None:
    windows = cut(times, **rule)
    ordered = sorted(times)
    for start, stop in zip(windows.starts, windows.stops, strict=True):
        inside = ordered[start:stop]
        assert all(after - before <= rule["gap_periods"] for before, after in itertools.pairwise(inside))
        assert len(inside) == rule["length"] or rule["min_samples"] <= len(inside) < rule["length"]
    runs = np.split(np.array(ordered), np.flatnonzero(np.diff(ordered) > rule["gap_periods"]) + 1)
    whole = [
        run[first : first + rule["length"]].tolist()
        for run in runs
        for first in range(0, len(run), rule["stride"])
    ]
    expected = [window for window in whole if len(window) == rule["length"]]
    assert [window for window in contents(windows) if len(window) == rule["length"]] == expected


@settings(deadline=None)
@given(TIMES, st.integers(1, 6))
def test_without_overlap_every_sample_is_in_one_window_when_parts_are_kept(times: list[int], length: int) -> None:
    windows = cut(times, length=length, stride=length, partial="keep")
    assert sorted(value for window in contents(windows) for value in window) == sorted(times)


@settings(deadline=None)
@given(TIMES, RULES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(times: list[int], rule: dict[str, Any], random: Any) -> None:
    shuffled = random.sample(times, len(times))
    assert contents(cut(times, **rule)) == contents(cut(shuffled, **rule))


@settings(deadline=None)
@given(TIMES, st.integers(1, 5))
def test_filling_leaves_no_gap_that_is_short_and_changes_no_sample(times: list[int], most: int) -> None:
    filled = cut(times, gap="fill", fill_at_most=most).samples
    assert set(times) <= set(filled.times.tolist())
    steps = np.diff(filled.times)
    assert not ((steps > 1.5) & (steps - 1 <= most)).any()
    assert np.allclose(filled.values[:, 0], filled.times), "the values are the times: a straight line stays one"


def test_a_gap_ends_a_window_and_begins_another() -> None:
    assert contents(cut([0, 1, 2, 3, 6, 7, 8])) == [[0, 1, 2], [6, 7, 8]]
    assert cut([0, 1, 2, 3, 6, 7, 8]).longest == 4


def test_a_gap_may_be_an_error_that_names_the_times() -> None:
    with pytest.raises(TableError, match="a gap between 3 and 6"):
        cut([0, 1, 2, 3, 6, 7], gap="error")


def test_a_longer_gap_than_may_be_filled_splits() -> None:
    assert contents(cut([0, 1, 4, 5, 9, 10, 11], gap="fill", fill_at_most=2)) == [
        [0, 1, 2],
        [2, 3, 4],
        [9, 10, 11],
    ]


def test_missing_numbers_are_filled_too_but_not_at_the_ends() -> None:
    nan = float("nan")
    (first, second) = contents(cut([0, 1, 2, 3, 4], [nan, 1, nan, 3, 4], gap="fill"))
    assert np.array_equal(first, [nan, 1, 2], equal_nan=True)
    assert second == [2, 3, 4]


def test_missing_numbers_stay_missing_unless_they_are_to_be_filled() -> None:
    assert np.isnan(contents(cut([0, 1, 2], [0, float("nan"), 2]))[0][1])


def test_two_samples_at_one_time_are_an_error_unless_the_rule_says_what_they_mean() -> None:
    times, values = [0, 2, 1, 1], [0.0, 2.0, 1.0, 3.0]
    with pytest.raises(TableError, match="two samples at 1"):
        cut(times, values)
    assert contents(cut(times, values, duplicates="first")) == [[0, 1, 2]]
    assert contents(cut(times, values, duplicates="mean")) == [[0, 2, 2]]


def test_the_first_of_two_samples_is_the_one_that_comes_first_in_the_table() -> None:
    samples = Samples(np.array([0, 0, 1, 2]), np.array([[5.0], [6.0], [1.0], [2.0]]))
    windows = cut_windows(samples, np.array([9, 3, 4, 5]), WindowRule(**RULE, duplicates="first"))
    assert contents(windows) == [[6, 1, 2]]


def test_a_last_shorter_window_is_dropped_or_kept_if_it_has_samples_of_its_own() -> None:
    assert contents(cut([0, 1, 2, 3])) == [[0, 1, 2]]
    assert contents(cut([0, 1, 2, 3], partial="keep")) == [[0, 1, 2], [2, 3]]
    assert contents(cut([0, 1, 2, 3], partial="keep", min_samples=3)) == [[0, 1, 2]]
    assert contents(cut([0, 1, 2], partial="keep")) == [[0, 1, 2]]
    assert contents(cut([0, 1], partial="keep")) == [[0, 1]]


def test_samples_much_faster_than_the_rate_are_an_error() -> None:
    with pytest.raises(TableError, match=r"samples are 0.1 s apart, but by the sampling_rate they should be 1 s"):
        cut([place / 10 for place in range(20)])


def test_jitter_is_no_gap() -> None:
    assert contents(cut([0.0, 1.2, 1.9, 3.1, 4.0], [1, 2, 3, 4, 5])) == [[1, 2, 3], [3, 4, 5]]


@settings(deadline=None)
@given(TIMES, RULES, st.integers(1, 3))
def test_windows_laid_out_end_to_end_are_the_windows(
    times: list[int], rule: dict[str, Any], channels: int
) -> None:
    values = np.arange(len(times) * channels, dtype=np.float64).reshape(len(times), channels)
    windows = cut_windows(Samples(np.array(times), values), np.arange(len(times)), WindowRule(**{**RULE, **rule}))
    numbers, channel_ends, window_ends = nested_bounds(windows, slice(1, None))
    lists = [numbers[start:stop].tolist() for start, stop in itertools.pairwise(channel_ends)]
    found = [lists[start:stop] for start, stop in itertools.pairwise(window_ends)]
    bounds = list(zip(windows.starts, windows.stops, strict=True))[1:]
    assert found == [windows.samples.values[start:stop].T.tolist() for start, stop in bounds]
