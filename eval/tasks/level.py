"""Level and scale: of two series that differ only by a factor of 10 in level, which does a text mean?

A choice between two, so guessing is right half of the time. Equal similarities count as half: an encoder that sees
shapes only cannot tell the two apart, and scores what a guess does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.cross_modal import DIRECTIONS
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray


@dataclass(frozen=True)
class LevelTask:
    """Parts `text` and `signal` hold pairs one after the other; each item chooses within its own pair."""

    name: ClassVar[str] = "level"
    headlines: ClassVar[tuple[str, ...]] = ("accuracy",)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The rule."""
        return {"similarity": "cosine", "alternatives": 2, "ties": "count half"}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Accuracy of texts that choose a signal, of signals that choose a text, and of both."""
        metrics: dict[str, float] = {}
        examples: list[ExampleScores] = []
        for asked, answering in DIRECTIONS:
            metric = f"{asked}_to_{answering}_accuracy"
            scores = _choices(vectors[asked], vectors[answering])
            metrics[metric] = float(scores.mean())
            part = data.parts[asked]
            chosen = [("other", "tie", "own")[int(2 * score)] for score in scores]
            examples.append(ExampleScores(metric, part.keys, scores, ["own"] * len(part), chosen))
        metrics["accuracy"] = float(np.mean(list(metrics.values())))
        return TaskResult(metrics, [*examples, _both(examples)], chance={"accuracy_chance": 0.5})


def _choices(asked: VectorArray, answering: VectorArray) -> FloatArray:
    """1 where an item is nearer to its own counterpart than to the other of the pair, 0.5 where equally near."""
    other = answering.reshape(-1, 2, answering.shape[1])[:, ::-1].reshape(answering.shape)
    lead = (asked * answering).sum(axis=1) - (asked * other).sum(axis=1)
    return np.asarray(0.5 * (1.0 + np.sign(lead, dtype=np.float64)))


def _both(examples: list[ExampleScores]) -> ExampleScores:
    first, second = examples
    return ExampleScores(
        "accuracy",
        [*first.keys, *second.keys],
        np.concatenate([first.scores, second.scores]),
        [*first.expected, *second.expected],
        [*first.predicted, *second.predicted],
    )
