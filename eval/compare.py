"""Comparing two measured models: differences per data set and metric, each with a paired interval.

Reads what runs logged, computes nothing anew. Only data sets of equal digest and probes of equal configuration are
compared: anything else would compare data or heads, not encoders.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import pyarrow as pa

from lakebed.eval.record import DATA, DATA_PARAM, EXAMPLES, EXPERIMENT, HEADLINES, SUITE, TASK_PARAM
from lakebed.eval.statistics import Interval, mean_interval, paired_interval
from lakebed.eval.subject import Subject
from lakebed.eval.tasks.protocol import lower_is_better
from lakebed.platform.errors import ConfigError, NotFoundError
from lakebed.platform.items import FloatArray
from lakebed.platform.tracking import RunRecord, Tracking

Scores = Mapping[str, Mapping[str, float]]
"""Per-example scores by figure key (`dataset/task/metric`), then by example."""

MEAN: Final = "mean/"


@dataclass(frozen=True)
class Difference:
    """One figure of both sides, `delta` being B less A; `examples` is how many were paired, 0 for none."""

    key: str
    a: float
    b: float
    interval: Interval
    examples: int

    @property
    def gain(self) -> float:
        """How much better B is: the difference, turned round where lower is better."""
        return -self.interval.delta if lower_is_better(self.key) else self.interval.delta

    @property
    def is_surely_worse(self) -> bool:
        """True when the whole interval lies on the worse side of zero."""
        bound = self.interval.low if lower_is_better(self.key) else self.interval.high
        return bound is not None and (bound > 0 if lower_is_better(self.key) else bound < 0)


@dataclass(frozen=True)
class Tally:
    """Over data sets: on how many B is better, equal and worse."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Comparison:
    """B against A on one suite; `notes` say what was left out and why."""

    suite: str
    a: str
    b: str
    differences: tuple[Difference, ...]
    means: tuple[Difference, ...]
    headlines: tuple[str, ...]
    notes: tuple[str, ...]

    def tally(self, mean_key: str) -> Tally:
        """Wins, ties and losses behind a mean."""
        gains = [one.gain for one in self.differences if _without_dataset(one.key) == mean_key.removeprefix(MEAN)]
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
        """Flat numbers: a, b, delta, low and high for every key, and the tallies."""
        flat: dict[str, float] = {}
        for one in (*self.means, *self.differences):
            values = {"a": one.a, "b": one.b, "delta": one.interval.delta}
            bounds = {"low": one.interval.low, "high": one.interval.high}
            found = values | {name: bound for name, bound in bounds.items() if bound is not None}
            flat |= {f"{one.key}/{name}": value for name, value in found.items()}
        for one in self.means:
            tally = self.tally(one.key)
            flat |= {
                f"{one.key}/wins": tally.wins,
                f"{one.key}/ties": tally.ties,
                f"{one.key}/losses": tally.losses,
            }
        return flat


def compare(a: Subject, b: Subject, tracking: Tracking, suite: str | None = None) -> Comparison:
    """Compare the latest runs of both on a suite (by default the newest that both have, on the same data).

    Raises NotFoundError when one was not evaluated, ConfigError when the runs cannot be compared.
    """
    run_a, run_b = _paired_runs(a, b, tracking, suite)
    _check_probes(run_a, run_b)
    shared, notes = _shared_datasets(run_a, run_b)
    scores_a, scores_b = (_by_key(tracking.table(run.id, EXAMPLES), shared) for run in (run_a, run_b))
    paired = {key: _paired(scores_a[key], scores_b[key]) for key in sorted(scores_a) if key in scores_b}
    keys = [key for key in run_a.metrics if key in run_b.metrics and key.partition("/")[0] in shared]
    differences = tuple(_difference(key, run_a, run_b, paired.get(key)) for key in sorted(keys))
    return Comparison(
        run_a.tags[SUITE],
        a.label,
        b.label,
        differences,
        tuple(_means(differences, paired)),
        tuple(json.loads(run_a.tags[HEADLINES])),
        tuple(notes),
    )


def _paired_runs(a: Subject, b: Subject, tracking: Tracking, suite: str | None) -> tuple[RunRecord, RunRecord]:
    """The newest runs of both on one suite, on the very same data if there are such."""
    runs_a, runs_b = (_runs(subject, tracking, suite) for subject in (a, b))
    for tags in ((SUITE, DATA), (SUITE,)):
        for run_a, run_b in product(runs_a, runs_b):
            if all(run_a.tags[tag] == run_b.tags[tag] for tag in tags):
                return run_a, run_b
    suites_a, suites_b = (sorted({run.tags[SUITE] for run in runs}) for runs in (runs_a, runs_b))
    raise NotFoundError(
        f"{a.label} was evaluated on {', '.join(suites_a)}, {b.label} on {', '.join(suites_b)}: nothing in common",
        hint=f"run `lakebed eval --model {b.label} --suite {suites_a[0].partition('/')[0]}`",
    )


def _runs(subject: Subject, tracking: Tracking, suite: str | None) -> list[RunRecord]:
    tags = {**subject.tags, **({SUITE: suite} if suite else {})}
    runs = tracking.finished(EXPERIMENT, tags)
    if not runs:
        on = f" on suite {suite}" if suite else ""
        raise NotFoundError(
            f"{subject.label} was not evaluated{on} yet",
            hint=f"run `lakebed eval --model {subject.label} --suite {(suite or 'smoke').partition('/')[0]}`",
        )
    return runs


def _check_probes(a: RunRecord, b: RunRecord) -> None:
    for key in a.params.keys() & b.params.keys():
        if key.startswith(TASK_PARAM) and a.params[key] != b.params[key]:
            raise ConfigError(
                f"the runs measured {key.removeprefix(TASK_PARAM)} by different probes: "
                f"{a.params[key]} and {b.params[key]}",
                hint="evaluate both with the same suite file",
            )


def _shared_datasets(a: RunRecord, b: RunRecord) -> tuple[set[str], list[str]]:
    data_a, data_b = (
        {key.removeprefix(DATA_PARAM): value for key, value in run.params.items() if key.startswith(DATA_PARAM)}
        for run in (a, b)
    )
    shared = {name for name in data_a if data_b.get(name) == data_a[name]}
    notes = [f"{name}: in one run only, left out" for name in sorted(data_a.keys() ^ data_b.keys())]
    notes += [
        f"{name}: other data in the two runs, left out" for name in sorted(data_a.keys() & data_b.keys() - shared)
    ]
    if not shared:
        raise ConfigError(
            f"the runs of {a.name!r} and {b.name!r} share no data set", hint="evaluate both on the same data"
        )
    if a.params.get("code") != b.params.get("code"):
        notes.append(f"measured by different code: {a.params.get('code')} and {b.params.get('code')}")
    return shared, notes


def _by_key(table: pa.Table, datasets: set[str]) -> Scores:
    names = ("dataset", "task", "metric", "example", "score")
    columns = [table.column(name).to_pylist() for name in names]
    found: dict[str, dict[str, float]] = {}
    for dataset, task, metric, example, score in zip(*columns, strict=True):
        if dataset in datasets:
            found.setdefault(f"{dataset}/{task}/{metric}", {})[example] = score
    return found


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> FloatArray:
    """B less A for every example of both, in the order of their names."""
    return np.array([b[example] - a[example] for example in sorted(a) if example in b])


def _difference(key: str, a: RunRecord, b: RunRecord, paired: FloatArray | None) -> Difference:
    if paired is None or len(paired) == 0:
        interval = Interval(b.metrics[key] - a.metrics[key], None, None)
        return Difference(key, a.metrics[key], b.metrics[key], interval, 0)
    return Difference(key, a.metrics[key], b.metrics[key], paired_interval(paired), len(paired))


def _means(differences: tuple[Difference, ...], paired: Mapping[str, FloatArray]) -> Iterator[Difference]:
    """Mean over the shared data sets of every task and metric."""
    groups: dict[str, list[Difference]] = {}
    for one in differences:
        groups.setdefault(_without_dataset(one.key), []).append(one)
    for key, group in groups.items():
        a, b = (float(np.mean([getattr(one, side) for one in group])) for side in ("a", "b"))
        parts = [paired[one.key] for one in group if one.examples]
        whole = len(parts) == len(group)
        interval = mean_interval(parts) if whole else Interval(b - a, None, None)
        yield Difference(f"{MEAN}{key}", a, b, interval, sum(one.examples for one in group))


def _without_dataset(key: str) -> str:
    return key.partition("/")[2]
