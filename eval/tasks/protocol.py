"""What a task is: vectors of a data set's parts in, numbers and per-example scores out.

A task never embeds: each data set is embedded once, for all tasks and from one place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Dataset
from lakebed.platform.encoder.prepared import VectorArray

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
    """All metrics of one task on one data set; `details` are facts on how it went, such as iterations."""

    metrics: Mapping[str, float]
    examples: Sequence[ExampleScores]
    details: Mapping[str, float] = field(default_factory=dict)


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


def lower_is_better(metric: str) -> bool:
    """True for the few metrics that count what one wants little of."""
    return metric.endswith("median_rank")
