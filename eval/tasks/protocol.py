"""What a task is: vectors of a data set's parts in, numbers and per-example scores out.

A task never embeds: each data set is embedded once, for all tasks and from one place. The exception is a task that
measures the encoder itself, an `EncoderTask`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Dataset
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import LakebedError

_LOWER_IS_BETTER: Final = (
    "median_rank", "mae", "rmse", "log_loss", "ece", "alignment", "uniformity", "modality_gap",
    r"latency_p\d+_ms", "memory_growth_mib",
)  # fmt: skip

Vectors = Mapping[str, VectorArray]
"""Vectors by part, in the order of the part's items."""


@dataclass(frozen=True, eq=False)
class ExampleScores:
    """One metric example by example, so that its mean is the metric; what two versions are compared on, paired.

    `keys` name the examples, `expected` and `predicted` say why a score is what it is.
    """

    metric: str
    keys: Sequence[str]
    scores: npt.NDArray[np.float64]
    expected: Sequence[str]
    predicted: Sequence[str]


@dataclass(frozen=True, eq=False)
class TaskResult:
    """All metrics of one task on one data set; `details` are facts on how it went, such as iterations.

    `chance` is what guessing would score, `METRIC_chance` or `chance_METRIC`: a matter of the data alone.
    """

    metrics: Mapping[str, float]
    examples: Sequence[ExampleScores]
    details: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        """Metrics and chance levels."""
        return {**self.metrics, **self.chance}

    def chance_of(self, metric: str) -> str | None:
        """The name of the figure that says what guessing would score in this metric, where there is one."""
        return next((name for name in (f"{metric}_chance", f"chance_{metric}") if name in self.chance), None)


class Task(Protocol):
    """One fixed protocol."""

    @property
    def name(self) -> str:
        """The middle of a figure's key, `dataset/task/metric`."""
        ...

    @property
    def headlines(self) -> Sequence[str]:
        """The metrics that stand for the task, the most telling one first."""
        ...

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Everything that a score depends on beside vectors and data; logged with every run."""
        ...

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Measure; raises ConfigError when the data cannot carry the task."""
        ...


@runtime_checkable
class EncoderTask(Task, Protocol):
    """A task on the encoder itself, such as whether an item alone gets the vector that it gets in a batch."""

    def run_with(self, encoder: Encoder, data: Dataset, vectors: Vectors) -> TaskResult:
        """Measure, with the encoder that made the vectors; called instead of `run`."""
        ...


def is_lasting(task: Task) -> bool:
    """Whether a task's scores are the same another day: not those of a machine's speed, or of a server.

    A task whose scores are not has an attribute `lasting` that is False.
    """
    return bool(getattr(task, "lasting", True))


def at_length(metric: str, dimensions: int) -> str:
    """The name of a metric of vectors cut to some dimensions."""
    return f"{metric}_{dimensions}d"


def require_finite(result: TaskResult, data: Dataset, task: Task) -> None:
    """Raise LakebedError naming data set, task and metric when a score is no finite number."""
    bad = [name for name, value in {**result.figures, **result.details}.items() if not np.isfinite(value)]
    bad += [one.metric for one in result.examples if not np.isfinite(one.scores).all()]
    if bad:
        raise LakebedError(
            f"data set {data.name}, task {task.name}: no finite number for {', '.join(dict.fromkeys(bad))}",
            hint="nothing was logged; look at the data set's labels and at the model's vectors",
        )


def lower_is_better(metric: str) -> bool:
    """True for the few metrics that count what one wants little of, at any length."""
    return re.search(rf"(^|[/_])({'|'.join(_LOWER_IS_BETTER)})(_\d+d)?$", metric) is not None
