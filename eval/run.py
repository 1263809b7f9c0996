"""Running a suite on one encoder: each data set is embedded once, then the task of its entry measures it.

Pure of MLflow and of printing: `record.py` stores what comes out, the command line shows it. What is done when is
in `schedule.py`, where it is done in `workplace.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakebed.eval.datasets import Dataset
from lakebed.eval.entries import source_of, task_of
from lakebed.eval.progress import Silent, Watcher
from lakebed.eval.schedule import Planned, Schedule, Stores
from lakebed.eval.tasks.protocol import Task, TaskResult, Vectors
from lakebed.eval.workplace import InProcess, Workplace
from lakebed.platform.config.suite import Entry, Suite
from lakebed.platform.encoder.protocol import Encoder, EncoderInfo, check_dimensions
from lakebed.platform.errors import ConfigError

HALVES: Final = ("even", "odd")

EXAMPLE_SCHEMA = pa.schema(
    [(name, pa.dictionary(pa.int32(), pa.string())) for name in ("dataset", "task", "metric")]
    + [("example", pa.string()), ("score", pa.float64()), ("expected", pa.string()), ("predicted", pa.string())]
    + [("text", pa.string())]
)
"""Per-example scores in long form: one row per data set, task, metric and example.

`text` is the beginning of an example's text, so that people see what changed; null for a signal alone.
"""

_SHOWN_CHARACTERS: Final = 200


@dataclass(frozen=True, eq=False)
class Measured:
    """One task's result on one data set; the vectors stay for the figures.

    `kept` says that the result is from an earlier evaluation, which was not finished.
    """

    data: Dataset
    task: Task
    result: TaskResult
    vectors: Vectors = field(repr=False)
    in_halves: bool = False
    kept: bool = False

    @property
    def half(self) -> str:
        """Which fixed half of data sets this one belongs to, `even` or `odd`, whatever else is measured."""
        return HALVES[hashlib.sha256(self.data.name.encode()).digest()[0] % 2]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that one run of a suite found; `seconds` are wall-clock, by phase.

    `notes` say what a user might miss: what was left out, and what was changed in the data. `encoded` is how many
    contents were embedded: the others of `rows` repeat them, or had their vectors on disk.
    """

    suite: Suite
    measured: Sequence[Measured]
    rows: int
    seconds: Mapping[str, float]
    notes: Sequence[str] = ()
    encoded: int = 0

    def figures(self) -> dict[str, float]:
        """Flat numbers: `dataset/task/metric`, and those over all data sets."""
        each = {
            f"{one.data.name}/{one.task.name}/{metric}": value
            for one in self.measured
            for metric, value in one.result.figures.items()
        }
        return each | self.overall()

    def overall(self) -> dict[str, float]:
        """Flat numbers of no single data set: `mean/…`, `mean_even/…`, `mean_odd/…` and `cost/phase/…`."""
        halved = [one for one in self.measured if one.in_halves]
        halves = {
            key: value
            for half in HALVES
            for key, value in _means(f"mean_{half}", [one for one in halved if one.half == half]).items()
        }
        return self.means() | halves | self._costs()

    def means(self) -> dict[str, float]:
        """`mean/task/metric` over the data sets of a task."""
        return _means("mean", self.measured)

    def headlines(self) -> dict[str, float]:
        """The means that stand for the suite, the most telling one first."""
        means = self.means()
        keys = {f"mean/{one.task.name}/{name}": None for one in self.measured for name in one.task.headlines}
        return {key: means[key] for key in keys}

    def examples(self) -> pa.Table:
        """Per-example scores of every metric that has them, as `EXAMPLE_SCHEMA`."""
        tables = [_example_table(one) for one in self.measured]
        return pa.concat_tables([table.cast(EXAMPLE_SCHEMA) for table in tables]).unify_dictionaries()

    def _costs(self) -> dict[str, float]:
        """What this run spent; nothing of a phase whose results were all there before."""
        costs: dict[str, float] = {}
        if self.encoded:
            seconds = self.seconds["embed"]
            costs["cost/embed/seconds"] = seconds
            costs["cost/embed/rows_per_second"] = self.encoded / max(seconds, 1e-9)
        if any(not one.kept for one in self.measured):
            costs["cost/tasks/seconds"] = self.seconds["tasks"]
        return costs


def evaluate(
    encoder: Encoder, suite: Suite, *, limit: int | None = None, progress: Watcher | None = None
) -> Evaluation:
    """Run a suite in this process, looking up nothing and keeping nothing. Same input, same scores.

    `limit` is the most examples per part, for a quick look.
    """
    check_dimensions(encoder.info, suite.dimensions)
    with InProcess(encoder) as place:
        return evaluate_at(place, suite, plan_of(suite, limit), progress=progress)


@dataclass(frozen=True, eq=False)
class SuitePart:
    """A data set of an entry of a suite, read, and the task that measures it."""

    data: Dataset
    task: Task
    entry: Entry


def plan_of(suite: Suite, limit: int | None = None) -> list[SuitePart]:
    """Read every data set of a suite; raises DatasetNotFoundError or ConfigError for one that cannot be had."""
    return [
        SuitePart(data, task_of(entry), entry) for entry in suite.entries for data in source_of(entry).load(limit)
    ]


def evaluate_at(
    place: Workplace,
    suite: Suite,
    parts: Sequence[SuitePart],
    *,
    keys: Mapping[int, str] | None = None,
    stores: Stores | None = None,
    progress: Watcher | None = None,
) -> Evaluation:
    """Run a suite at a place of work; `keys` say what the scores of each part depend on, by its position.

    Raises ConfigError when the encoder takes none of the data sets, LakebedError for vectors or scores that are no
    finite numbers.
    """
    check_dimensions(place.info, suite.dimensions)
    watcher = progress or Silent()
    taken, left_out = _taken(place, parts)
    watcher.planned(len(taken), sum(parts[number].data.rows for number in taken))
    schedule = Schedule(place, stores or Stores(), suite.dimensions, watcher)
    outcomes = schedule.run(
        [
            Planned(
                parts[number].data, parts[number].task, parts[number].entry.dimensions, (keys or {}).get(number)
            )
            for number in taken
        ]
    )
    measured = [
        Measured(
            one.planned.data, one.planned.task, one.result, one.vectors, parts[number].entry.in_halves, one.kept
        )
        for number, one in zip(taken, outcomes, strict=True)
    ]
    rows = sum(one.data.rows for one in measured)
    seconds = {"embed": schedule.spent.embed, "tasks": schedule.spent.tasks}
    notes = tuple(dict.fromkeys((*left_out, *_notes(suite, place.info, measured))))
    return Evaluation(suite, measured, rows, seconds, notes, schedule.spent.rows)


def _taken(place: Workplace, parts: Sequence[SuitePart]) -> tuple[list[int], list[str]]:
    """Positions of the parts whose items the encoder takes, and a note on each other."""
    taken, notes = [], []
    for number, part in enumerate(parts):
        if all(place.takes(one.items) for one in part.data.parts.values()):
            taken.append(number)
        else:
            notes.append(f"{part.data.name}: {part.task.name} left out, {place.info.name} takes texts only")
    if not taken:
        raise ConfigError(
            f"{place.info.name} takes texts only, and no data set of this suite is text alone",
            hint="choose another suite, such as sts",
        )
    return taken, notes


def _notes(suite: Suite, info: EncoderInfo, measured: Sequence[Measured]) -> Iterator[str]:
    for entry in suite.entries:
        missing = source_of(entry).missing()
        if missing:
            yield f"{entry.task}: not there and left out: {', '.join(missing)}"
    native = suite.dimensions or info.dimensions
    for length in sorted({length for entry in suite.entries for length in entry.dimensions if length >= native}):
        yield f"vectors have {native} dimensions: no figures at {length}"
    for one in measured:
        yield from (f"{one.data.name}: {remark}" for remark in one.data.remarks)
        if one.data.filled:
            yield f"{one.data.name}: {one.data.filled} missing values were interpolated"
    kept = sum(one.kept for one in measured)
    if kept:
        yield f"{kept} of {len(measured)} results are from an earlier evaluation"


def _means(prefix: str, measured: Sequence[Measured]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in measured:
        for metric, value in one.result.figures.items():
            values.setdefault(f"{prefix}/{one.task.name}/{metric}", []).append(value)
    return {key: float(np.mean(found)) for key, found in values.items()}


def _example_table(one: Measured) -> pa.Table:
    def column(name: str) -> list[Any]:
        return [value for example in one.result.examples for value in getattr(example, name)]

    metrics = [example.metric for example in one.result.examples for _ in example.keys]
    texts = _texts_by_key(one.data)
    return pa.table(
        {
            "dataset": [one.data.name] * len(metrics),
            "task": [one.task.name] * len(metrics),
            "metric": metrics,
            "example": column("keys"),
            "score": column("scores"),
            "expected": column("expected"),
            "predicted": column("predicted"),
            "text": pa.array(map(texts.get, column("keys")), pa.string()),
        }
    )


def _texts_by_key(data: Dataset) -> dict[str, str]:
    """The beginning of each example's text, by its key alone and after its part's name; of a pair, both texts."""
    pairs = {"first", "second"} <= data.parts.keys()
    found = {}
    for name, part in data.parts.items():
        for position, (key, item) in enumerate(zip(part.keys, part.items, strict=False)):
            said = item.text
            if pairs and name == "first":
                said = " | ".join(filter(None, (said, data.parts["second"].items[position].text)))
            if said:
                found[key] = found[f"{name}-{key}"] = said[:_SHOWN_CHARACTERS]
    return found
