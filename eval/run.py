"""Running a suite on one encoder: each data set is embedded once, then every task of its entry measures it.

Pure of MLflow and of printing: `record.py` stores what comes out, the command line shows it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa

from lakebed.eval.brought_vectors import brought_vectors
from lakebed.eval.datasets import Dataset
from lakebed.eval.entries import source_of, task_of
from lakebed.eval.tasks.protocol import EncoderTask, Task, TaskResult, Vectors, at_length, require_finite
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.protocol import Encoder, check_dimensions, encode
from lakebed.platform.errors import LakebedError

Progress = Callable[[str, int, int], None]
"""Called with what is done now, how many data sets are behind, and how many there are."""

HALVES: Final = ("even", "odd")

EXAMPLE_SCHEMA = pa.schema(
    [(name, pa.dictionary(pa.int32(), pa.string())) for name in ("dataset", "task", "metric")]
    + [("example", pa.string()), ("score", pa.float64()), ("expected", pa.string()), ("predicted", pa.string())]
)
"""Per-example scores in long form: one row per data set, task, metric and example."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One task's result on one data set; the vectors stay for the figures."""

    data: Dataset
    task: Task
    result: TaskResult
    vectors: Vectors = field(repr=False)
    in_halves: bool = False

    @property
    def half(self) -> str:
        """Which fixed half of data sets this one belongs to, `even` or `odd`, whatever else is measured."""
        return HALVES[hashlib.sha256(self.data.name.encode()).digest()[0] % 2]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that one run of a suite found; `seconds` are wall-clock, by phase.

    `notes` say what a user might miss: what was left out, and what was changed in the data.
    """

    suite: Suite
    measured: Sequence[Measured]
    rows: int
    seconds: Mapping[str, float]
    notes: Sequence[str] = ()

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
        costs = {f"cost/{phase}/seconds": seconds for phase, seconds in self.seconds.items()}
        return {**costs, "cost/embed/rows_per_second": self.rows / max(self.seconds["embed"], 1e-9)}


def evaluate(
    encoder: Encoder, suite: Suite, *, limit: int | None = None, progress: Progress = lambda *_: None
) -> Evaluation:
    """Run a suite; `limit` is the most examples per part, for a quick look. Same input, same scores."""
    check_dimensions(encoder.info, suite.dimensions)
    total = sum(len(source_of(entry).names()) for entry in suite.entries)
    measured: list[Measured] = []
    seconds = {"embed": 0.0, "tasks": 0.0}
    rows = 0
    for entry in suite.entries:
        task = task_of(entry)
        for data in source_of(entry).load(limit):
            progress(data.name, len(measured), total)
            started = time.perf_counter()
            vectors = _embed(encoder, data, suite.dimensions)
            embedded = time.perf_counter()
            result = _measure(encoder, task, data, vectors, entry.dimensions)
            require_finite(result, data, task)
            measured.append(Measured(data, task, result, vectors, entry.in_halves))
            seconds["embed"] += embedded - started
            seconds["tasks"] += time.perf_counter() - embedded
            rows += data.rows
    return Evaluation(suite, measured, rows, seconds, tuple(dict.fromkeys(_notes(suite, encoder, measured))))


def _measure(encoder: Encoder, task: Task, data: Dataset, vectors: Vectors, lengths: Sequence[int]) -> TaskResult:
    """Run the task, and again on shorter vectors: those give numbers only, scores by example are of the whole."""
    if isinstance(task, EncoderTask):
        return task.run_with(encoder, data, vectors)
    result = task.run(data, vectors)
    metrics = dict(result.metrics)
    for length in lengths:
        if all(length < part.shape[1] for part in vectors.values()):
            cut = {name: encoder.finish(part, length) for name, part in vectors.items()}
            shorter = task.run(data, cut).metrics
            metrics |= {at_length(metric, length): value for metric, value in shorter.items()}
    return replace(result, metrics=metrics)


def _notes(suite: Suite, encoder: Encoder, measured: Sequence[Measured]) -> Iterator[str]:
    for entry in suite.entries:
        missing = source_of(entry).missing()
        if missing:
            yield f"{entry.task}: not there and left out: {', '.join(missing)}"
    native = suite.dimensions or encoder.info.dimensions
    for length in sorted({length for entry in suite.entries for length in entry.dimensions if length >= native}):
        yield f"vectors have {native} dimensions: no figures at {length}"
    for one in measured:
        yield from (f"{one.data.name}: {remark}" for remark in one.data.remarks)
        if one.data.filled:
            yield f"{one.data.name}: {one.data.filled} missing values were interpolated"


def _means(prefix: str, measured: Sequence[Measured]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in measured:
        for metric, value in one.result.figures.items():
            values.setdefault(f"{prefix}/{one.task.name}/{metric}", []).append(value)
    return {key: float(np.mean(found)) for key, found in values.items()}


def _embed(encoder: Encoder, data: Dataset, dimensions: int | None) -> Vectors:
    """Embed all parts in one go, so that short and long ones share batches; not what brings vectors."""
    if (brought := brought_vectors(data, encoder.info, dimensions)) is not None:
        return brought
    items = [item for part in data.parts.values() for item in part.items]
    vectors = encode(encoder, items, dimensions).vectors
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise LakebedError(
            f"data set {data.name}: {encoder.info.name} gave {len(bad)} vectors that are not finite numbers",
            hint="its scores would mean nothing",
        )
    ends = np.cumsum([len(part) for part in data.parts.values()])[:-1]
    return dict(zip(data.parts, np.split(vectors, ends), strict=True))


def _example_table(one: Measured) -> pa.Table:
    def column(name: str) -> list[object]:
        return [value for example in one.result.examples for value in getattr(example, name)]

    metrics = [example.metric for example in one.result.examples for _ in example.keys]
    return pa.table(
        {
            "dataset": [one.data.name] * len(metrics),
            "task": [one.task.name] * len(metrics),
            "metric": metrics,
            "example": column("keys"),
            "score": column("scores"),
            "expected": column("expected"),
            "predicted": column("predicted"),
        }
    )
