"""Comparing two measured models: differences per data set and metric, each with a paired interval and a p-value.

Reads what runs logged, computes nothing anew. Which runs are comparable is decided in `matching.py`; several
models side by side are ranked in `side_by_side.py`.
"""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lakebed.eval.across_datasets import holm, wilcoxon_p
from lakebed.eval.logged_scores import LoggedScores, PairedScores, pair, read_scores
from lakebed.eval.matching import Matched, match
from lakebed.eval.record import HEADLINES
from lakebed.eval.statistics import DRAWS, Interval, Sample, interval_of, p_value
from lakebed.eval.subject import Subject
from lakebed.eval.tasks.protocol import lower_is_better
from lakebed.platform.errors import NotFoundError
from lakebed.platform.tracking import RunRecord, Tracking

MEAN: Final = "mean/"
COST: Final = "cost"
"""Part of the keys of figures that depend on the machine: they are shown, and never count as quality."""
GEOMETRY: Final = "geometry"
"""The task whose figures describe a space of vectors: none of them is better for being higher or lower."""


@dataclass(frozen=True)
class Difference:
    """One figure of both sides, `delta` being B less A; `examples` is how many were paired, 0 for none.

    `p` is the two-sided sign-flip p-value, None where there is no interval.
    """

    key: str
    a: float
    b: float
    interval: Interval
    examples: int
    p: float | None = None

    @property
    def dataset(self) -> str:
        """The first part of the key."""
        return self.key.partition("/")[0]

    @property
    def metric(self) -> str:
        """The rest of the key, `task/metric`."""
        return self.key.partition("/")[2]

    @property
    def gain(self) -> float:
        """How much better B is: the difference, turned round where lower is better."""
        return -self.interval.delta if lower_is_better(self.key) else self.interval.delta

    @property
    def gain_bounds(self) -> tuple[float, float] | None:
        """The interval of the gain, None where there is none."""
        low, high = self.interval.low, self.interval.high
        if low is None or high is None:
            return None
        return (-high, -low) if lower_is_better(self.key) else (low, high)

    @property
    def is_surely_worse(self) -> bool:
        """True when the whole interval lies on the worse side of zero."""
        return self.gain_bounds is not None and self.gain_bounds[1] < 0

    @property
    def is_surely_better(self) -> bool:
        """True when the whole interval lies on the better side of zero."""
        return self.gain_bounds is not None and self.gain_bounds[0] > 0


@dataclass(frozen=True)
class Tally:
    """Over data sets: on how many B is better, equal and worse."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class AcrossDatasets:
    """Wilcoxon's p-value over data sets, and the same corrected for all headline metrics; None for too few."""

    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """B against A on one suite; `notes` say what was left out and why.

    `runs` are what A and B logged; `paired` are the examples behind each figure that has any.
    """

    suite: str
    a: str
    b: str
    differences: tuple[Difference, ...]
    means: tuple[Difference, ...]
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    runs: tuple[RunRecord, RunRecord]
    across: Mapping[str, AcrossDatasets] = field(default_factory=dict)
    paired: Mapping[str, PairedScores] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> tuple[str, str]:
        """How tables name the two."""
        return self.a, self.b

    def behind(self, mean_key: str) -> list[Difference]:
        """The data sets' differences of which a mean is made."""
        return [one for one in self.differences if one.metric == mean_key.removeprefix(MEAN)]

    def tally(self, mean_key: str) -> Tally:
        """Wins, ties and losses behind a mean."""
        gains = [one.gain for one in self.behind(mean_key)]
        return Tally(
            sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains), sum(gain < 0 for gain in gains)
        )

    def mean(self, key: str) -> Difference:
        """The difference of one mean; raises NotFoundError naming those there are."""
        for one in self.means:
            if one.key == key:
                return one
        raise NotFoundError(
            f"suite {self.suite} has no figure {key!r}",
            hint=f"there are {', '.join(one.key for one in self.means)}",
        )

    def figures(self) -> dict[str, float]:
        """Flat numbers: a, b, delta, low, high and p for every key; of means also the tallies and Wilcoxon's p."""
        flat: dict[str, float] = {}
        for one in (*self.means, *self.differences):
            values = {
                "a": one.a,
                "b": one.b,
                "delta": one.interval.delta,
                "low": one.interval.low,
                "high": one.interval.high,
                "p": one.p,
            }
            flat |= {f"{one.key}/{name}": value for name, value in values.items() if value is not None}
        for one in self.means:
            tally, across = self.tally(one.key), self.across[one.key]
            counts = {"wins": tally.wins, "ties": tally.ties, "losses": tally.losses}
            tests = {"wilcoxon_p": across.p, "wilcoxon_p_holm": across.p_holm}
            flat |= {f"{one.key}/{name}": value for name, value in (counts | tests).items() if value is not None}
        return flat


def compare(
    a: Subject,
    b: Subject,
    tracking: Tracking,
    suite: str | None = None,
    *,
    draws: int = DRAWS,
    only: Collection[str] | None = None,
) -> Comparison:
    """Compare the latest runs of both on a suite (by default the newest that both have, on the same data).

    `draws` is how often examples are drawn for each interval and p-value; `only` names the `task/metric` that are
    wanted. Raises NotFoundError when one was not evaluated, ConfigError when the runs cannot be compared.
    """
    matched = match((a, b), tracking, suite)
    scores_a, scores_b = (read_scores(tracking, run, matched.datasets, only) for run in matched.runs)
    return compared((a.label, b.label), matched, (0, 1), scores_a, scores_b, draws=draws, only=only)


def compared(
    labels: tuple[str, str],
    matched: Matched,
    sides: tuple[int, int],
    scores_a: Mapping[str, LoggedScores],
    scores_b: Mapping[str, LoggedScores],
    *,
    draws: int,
    only: Collection[str] | None = None,
) -> Comparison:
    """Compare two of the runs that belong together, from their scores by example."""
    run_a, run_b = (matched.runs[side] for side in sides)
    paired = {key: pair(scores_a[key], scores_b[key]) for key in sorted(scores_a) if key in scores_b}
    samples = {key: _sample(key, one, draws) for key, one in paired.items() if len(one.examples)}
    differences = tuple(
        _difference(key, run_a.metrics[key], run_b.metrics[key], [samples[key]] if key in samples else [])
        for key in sorted(run_a.metrics.keys() & run_b.metrics.keys())
        if key.partition("/")[0] in matched.datasets and (only is None or key.partition("/")[2] in only)
    )
    means = tuple(_means(differences, samples))
    headlines = tuple(json.loads(run_a.tags[HEADLINES]))
    return Comparison(
        matched.suite,
        *labels,
        differences,
        means,
        headlines,
        matched.notes,
        (run_a, run_b),
        _across(means, differences, headlines),
        paired,
    )


def is_cost(key: str) -> bool:
    """True for a figure that depends on the machine: `cost/…`, or a task named `cost`."""
    return COST in key.split("/")[:2]


def is_quality(key: str) -> bool:
    """True for a figure of which more, or less, is better; False for costs and for what only describes."""
    return not is_cost(key) and key.split("/")[1:2] != [GEOMETRY]


def _sample(key: str, paired: PairedScores, draws: int) -> Sample:
    """Every figure has draws of its own, the same whatever else is compared."""
    return Sample(paired.differences, draws, zlib.crc32(key.encode()))


def _difference(key: str, a: float, b: float, samples: Sequence[Sample]) -> Difference:
    """Over one data set or several; without scores by example there is no interval."""
    if not samples:
        return Difference(key, a, b, Interval(b - a, None, None), 0)
    examples = sum(len(sample.differences) for sample in samples)
    return Difference(key, a, b, interval_of(samples), examples, p_value(samples))


def _means(differences: Sequence[Difference], samples: Mapping[str, Sample]) -> list[Difference]:
    """Mean over the shared data sets of every task and metric."""
    groups: dict[str, list[Difference]] = {}
    for one in differences:
        groups.setdefault(one.metric, []).append(one)
    found = []
    for metric, group in groups.items():
        a, b = (float(np.mean([getattr(one, side) for one in group])) for side in ("a", "b"))
        parts = [samples[one.key] for one in group if one.examples]
        if len(group) == 1:
            (single,) = group
            found.append(Difference(f"{MEAN}{metric}", a, b, single.interval, single.examples, single.p))
        else:
            found.append(_difference(f"{MEAN}{metric}", a, b, parts if len(parts) == len(group) else []))
    return found


def _across(
    means: Sequence[Difference], differences: Sequence[Difference], headlines: Sequence[str]
) -> dict[str, AcrossDatasets]:
    """Wilcoxon's test of every metric; corrected over the headlines, since those are what is asked."""
    raw = {
        mean.key: wilcoxon_p(np.array([one.gain for one in differences if one.metric == mean.metric]))
        for mean in means
    }
    asked = {key: p for key in headlines if (p := raw.get(key)) is not None and is_quality(key)}
    adjusted = holm(asked)
    return {key: AcrossDatasets(p, adjusted.get(key)) for key, p in raw.items()}
