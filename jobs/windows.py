"""Cutting one entity's samples into windows. Pure arithmetic on arrays; knows no tables.

The same samples give the same windows, in whatever order they come.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lakebed.platform.config.windows import TICKS, TimeUnit, WindowsConfig
from lakebed.platform.errors import TableError

Times = npt.NDArray[Any]
"""int64 or float64."""

Places = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

RATE_TOLERANCE = 1.5
"""How many times faster than it is said to be a table may have been sampled before that is taken for a mistake."""


@dataclass(frozen=True)
class WindowRule:
    """How windows are cut: lengths in samples, `period` between two samples in the unit of their times.

    `ticks` of that unit make a second; `calendar` is numpy's name of it where times count from 1970.
    """

    length: int
    stride: int
    period: float
    gap: Literal["split", "fill", "error"] = "split"
    gap_periods: float = 1.5
    fill_at_most: int = 10
    duplicates: Literal["error", "first", "mean"] = "error"
    partial: Literal["drop", "keep"] = "drop"
    min_samples: int = 1
    ticks: int = 1
    calendar: TimeUnit | None = None

    @classmethod
    def of(cls, windows: WindowsConfig, sampling_rate: float, unit: TimeUnit, calendar: bool) -> "WindowRule":
        """Take the rule from a job whose times are of a unit, and dates if they are of a calendar."""
        ticks = TICKS[unit]
        length, stride = windows.samples(sampling_rate)
        return cls(
            length,
            stride,
            ticks / sampling_rate,
            windows.gap,
            windows.gap_periods,
            windows.fill_at_most,
            windows.duplicates,
            windows.partial,
            windows.min_samples,
            ticks,
            unit if calendar else None,
        )

    def shown(self, time: Any) -> str:
        """A time as a reader of an error knows it."""
        return str(time if self.calendar is None else np.datetime64(int(time), self.calendar))


@dataclass(frozen=True)
class Samples:
    """n samples of one entity: times (n,) and values (n, channels), NaN where one is missing."""

    times: Times
    values: Values

    def __len__(self) -> int:
        return len(self.times)

    def take(self, places: Any) -> "Samples":
        """Some of them."""
        return Samples(self.times[places], self.values[places])


@dataclass(frozen=True)
class Windows:
    """Windows of an entity: `samples[start:stop]` each, by start. `longest` is its longest run without a gap."""

    samples: Samples
    starts: Places
    stops: Places
    longest: int

    def __len__(self) -> int:
        return len(self.starts)


def cut_windows(samples: Samples, order: Places, rule: WindowRule) -> Windows:
    """Cut an entity's samples, given in any order; `order` (n,) says which came first where times are equal.

    Raises TableError, naming the time, for what the rule says is an error, and for samples much closer than its
    period.
    """
    ordered = samples.take(np.lexsort((order, samples.times)))
    ordered = _without_duplicates(ordered, rule)
    _check_rate(ordered.times, rule)
    if rule.gap == "fill":
        ordered = _filled(ordered, rule)
    breaks = _gaps(ordered.times, rule)
    if rule.gap == "error" and len(breaks):
        before, after = (rule.shown(ordered.times[place]) for place in (breaks[0] - 1, breaks[0]))
        raise TableError(f"there is a gap between {before} and {after}", hint="windows.gap: split, or fill")
    runs = np.concatenate([[0], breaks, [len(ordered)]])
    bounds = [_of_run(int(start), int(stop), rule) for start, stop in itertools.pairwise(runs)]
    starts, stops = (np.concatenate(side) for side in zip(*bounds, strict=True))
    return Windows(ordered, starts, stops, int(np.diff(runs).max()))


def _without_duplicates(samples: Samples, rule: WindowRule) -> Samples:
    """Leave one sample for each time; times are sorted."""
    fresh = np.ones(len(samples), np.bool_)
    fresh[1:] = samples.times[1:] != samples.times[:-1]
    if fresh.all():
        return samples
    if rule.duplicates == "error":
        time = rule.shown(samples.times[~fresh][0])
        raise TableError(f"there are two samples at {time}", hint="windows.duplicates: first, or mean")
    if rule.duplicates == "first":
        return samples.take(fresh)
    firsts = np.flatnonzero(fresh)
    counts = np.diff(np.append(firsts, len(samples)))
    return Samples(samples.times[fresh], np.add.reduceat(samples.values, firsts, axis=0) / counts[:, None])


def _check_rate(times: Times, rule: WindowRule) -> None:
    """Refuse samples that lie much closer than the period: a window would last a part of what it should."""
    if len(times) < 3:
        return
    usual = float(np.median(np.diff(times)))
    if usual * RATE_TOLERANCE < rule.period:
        raise TableError(
            f"samples are {usual / rule.ticks:g} s apart, but by the sampling_rate they should be "
            f"{rule.period / rule.ticks:g} s",
            hint="check sampling_rate, and windows.time_unit",
        )


def _gaps(times: Times, rule: WindowRule) -> Places:
    """Places of the samples that have a gap before them."""
    return np.flatnonzero(np.diff(times) > rule.gap_periods * rule.period) + 1


def _filled(samples: Samples, rule: WindowRule) -> Samples:
    """Put samples into short gaps, and numbers into short runs of NaN, each on the line between its neighbours."""
    gaps = _gaps(samples.times, rule)
    steps = (samples.times[gaps] - samples.times[gaps - 1]) / rule.period
    enough = np.maximum(
        np.rint(steps), np.ceil(steps / rule.gap_periods)
    )  # no gap may be left between two of them
    missing = np.maximum(enough.astype(np.int64) - 1, 1)
    short = missing <= rule.fill_at_most
    whole = _with_room(samples, gaps[short], missing[short])
    runs = np.concatenate([[0], _gaps(whole.times, rule), [len(whole)]])
    values = whole.values.copy()
    for start, stop in itertools.pairwise(runs):
        for channel in range(values.shape[1]):
            _interpolate(whole.times[start:stop], values[start:stop, channel], rule.fill_at_most)
    return Samples(whole.times, values)


def _with_room(samples: Samples, gaps: Places, missing: Places) -> Samples:
    """Insert `missing` samples without values before each place of `gaps`, their times evenly spread."""
    if not len(gaps):
        return samples
    places = np.repeat(gaps, missing)
    nth = np.arange(len(places)) - np.repeat(np.cumsum(missing) - missing, missing) + 1
    before, after = samples.times[places - 1], samples.times[places]
    times = before + (after - before) * (nth / np.repeat(missing + 1, missing))
    if samples.times.dtype.kind == "i":
        times = before + np.rint((after - before) * (nth / np.repeat(missing + 1, missing))).astype(np.int64)
    return Samples(np.insert(samples.times, places, times), np.insert(samples.values, places, np.nan, axis=0))


def _interpolate(times: Times, values: Values, most: int) -> None:
    """Fill runs of at most `most` NaN that have numbers on both sides, in place."""
    absent = np.isnan(values)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], absent, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        if start > 0 and stop < len(values) and stop - start <= most:
            share = (times[start:stop] - times[start - 1]) / (times[stop] - times[start - 1])
            values[start:stop] = values[start - 1] + share * (values[stop] - values[start - 1])


def _of_run(start: int, stop: int, rule: WindowRule) -> tuple[Places, Places]:
    """Bounds of the windows in a run of samples without gaps."""
    starts = np.arange(start, stop - rule.length + 1, rule.stride, dtype=np.int64)
    stops = starts + rule.length
    covered = int(stops[-1]) if len(stops) else start
    following = int(starts[-1]) + rule.stride if len(starts) else start
    if rule.partial == "keep" and covered < stop and stop - following >= rule.min_samples:
        return np.append(starts, following), np.append(stops, stop)
    return starts, stops


def nested_bounds(windows: Windows, chosen: slice) -> tuple[Values, Places, Places]:
    """Lay some windows out as lists of channels: numbers end to end, ends of channels, ends of windows.

    Each of the ends has one entry more than there are lists, and begins with 0.
    """
    starts, lengths = windows.starts[chosen], (windows.stops - windows.starts)[chosen]
    channels = windows.samples.values.shape[1]
    widths = np.repeat(lengths, channels)
    ends = np.concatenate([[0], np.cumsum(widths)])
    places = np.arange(ends[-1]) - np.repeat(ends[:-1] - np.repeat(starts, channels), widths)
    numbers = windows.samples.values[places, np.repeat(np.tile(np.arange(channels), len(starts)), widths)]
    return numbers, ends, np.arange(len(starts) + 1) * channels
