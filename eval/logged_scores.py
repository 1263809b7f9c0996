"""Scores by example, as a run logged them, and those of two runs paired by the examples' names.

Knows the columns of the table that `lakebed eval` stores; computes nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakebed.eval.record import EXAMPLES
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray
from lakebed.platform.tracking import RunRecord, Tracking

_TEXT = "text"
"""A column that a run may have beside the others: what an example says, to be read by people."""


@dataclass(frozen=True, eq=False)
class LoggedScores:
    """One figure (`dataset/task/metric`) of one run, example by example, in the order of the examples' names."""

    examples: Sequence[str]
    scores: FloatArray
    expected: Sequence[str | None]
    predicted: Sequence[str | None]
    texts: Sequence[str | None]


@dataclass(frozen=True, eq=False)
class PairedScores:
    """The examples that two runs have in common; all fields are in the same order."""

    examples: Sequence[str]
    a: FloatArray
    b: FloatArray
    expected: Sequence[str | None]
    predicted_a: Sequence[str | None]
    predicted_b: Sequence[str | None]
    texts: Sequence[str | None]

    @property
    def differences(self) -> FloatArray:
        """B less A."""
        return self.b - self.a

    def most_changed(self, limit: int) -> list[int]:
        """Positions of the examples whose scores differ most, losses and gains alike; equal ones are left out."""
        size = np.abs(self.differences)
        order = np.lexsort((np.arange(len(size)), -size))[:limit]
        return [int(position) for position in order if size[position] > 0]


def read_scores(
    tracking: Tracking, run: RunRecord, datasets: Collection[str], only: Collection[str] | None = None
) -> dict[str, LoggedScores]:
    """Scores of a run by figure key; `only` names the `task/metric` that are wanted.

    Raises ConfigError for a score that is not a finite number: any interval over it would mean nothing.
    """
    table = tracking.table(run.id, EXAMPLES)
    keys = [
        f"{dataset}/{task}/{metric}"
        for dataset, task, metric in zip(
            *(table.column(name).to_pylist() for name in ("dataset", "task", "metric")), strict=True
        )
    ]
    wanted = {key for key in set(keys) if _is_wanted(key, datasets, only)}
    places: dict[str, list[int]] = {key: [] for key in sorted(wanted)}
    for place, key in enumerate(keys):
        if key in places:
            places[key].append(place)
    return {key: _one_figure(table.take(found), run, key) for key, found in places.items()}


def _is_wanted(key: str, datasets: Collection[str], only: Collection[str] | None) -> bool:
    dataset, _, metric = key.partition("/")
    return dataset in datasets and (only is None or metric in only)


def _one_figure(rows: pa.Table, run: RunRecord, key: str) -> LoggedScores:
    rows = rows.sort_by("example")
    scores = rows.column("score").cast(pa.float64()).to_numpy(zero_copy_only=False)
    if not np.isfinite(scores).all():
        bad = rows.column("example")[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise ConfigError(
            f"run {run.name!r} ({run.id}) holds a score of {key} that is not a finite number, of example {bad}",
            hint="evaluate that model again",
        )
    texts = rows.column(_TEXT).to_pylist() if _TEXT in rows.column_names else [None] * len(rows)
    expected, predicted = (rows.column(name).to_pylist() for name in ("expected", "predicted"))
    return LoggedScores(rows.column("example").to_pylist(), scores, expected, predicted, texts)


def pair(a: LoggedScores, b: LoggedScores) -> PairedScores:
    """Scores of the examples of both."""
    places = {example: position for position, example in enumerate(b.examples)}
    of_a = [position for position, example in enumerate(a.examples) if example in places]
    of_b = [places[a.examples[position]] for position in of_a]
    return PairedScores(
        [a.examples[position] for position in of_a],
        a.scores[of_a],
        b.scores[of_b],
        [a.expected[position] for position in of_a],
        [a.predicted[position] for position in of_a],
        [b.predicted[position] for position in of_b],
        [a.texts[position] or b.texts[other] for position, other in zip(of_a, of_b, strict=True)],
    )
