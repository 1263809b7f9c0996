"""Robustness: how much of a classification's accuracy is left when the test signals are perturbed.

The heads are those of `classification`, fitted once on clean training vectors: what changes is the signals that
they are asked about, as it would in use (the corruption protocol of Hendrycks and Dietterich 2019, arXiv
1903.12261, with retention, accuracy over clean accuracy, in place of their baseline-relative error).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.sources.perturbed import MARK
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray

HEADS: Final = ("linear_probe", "knn")


@dataclass(frozen=True)
class RobustnessTask:
    """Trains on part `train`; scores on part `test` and on every `test~…`, the same examples in the same order."""

    classification: ClassificationTask
    perturbed_by: Mapping[str, Any]
    name: ClassVar[str] = "robustness"
    headlines: ClassVar[tuple[str, ...]] = ("linear_probe_perturbed_accuracy", "knn_perturbed_accuracy")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Both classifiers, and what was done to the signals."""
        return {**self.classification.configuration, "perturbed_by": self.perturbed_by}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """For each head: clean accuracy, accuracy and its change by perturbation, their mean, and retention."""
        clean = data.parts["test"]
        copies = [name for name in data.parts if name.startswith(f"test{MARK}")]
        if not copies:
            raise ConfigError(f"data set {data.name}: none of the perturbations applies to it")
        metrics: dict[str, float] = {}
        examples: list[ExampleScores] = []
        for head, right in self._right(data, vectors, ["test", *copies]).items():
            by_copy = {name.partition(MARK)[2]: right[name] for name in copies}
            metrics |= _metrics(head, right["test"], by_copy)
            examples += _examples(head, clean, right["test"], by_copy)
        return TaskResult(metrics, examples)

    def _right(self, data: Dataset, vectors: Vectors, parts: list[str]) -> dict[str, dict[str, FloatArray]]:
        """By head and part: 1 for each example classified rightly. Each head is fitted once, for all parts."""
        items = [item for name in parts for item in data.parts[name].items]
        labels = np.concatenate([data.parts[name].labels for name in parts])
        joined = Dataset(
            data.name, data.version, data.source, {"train": data.parts["train"], "test": Part(items, labels)}
        )
        asked = np.concatenate([vectors[name] for name in parts])
        result = self.classification.run(joined, {"train": vectors["train"], "test": asked})
        scores = {one.metric: one.scores for one in result.examples}
        return {
            head: dict(zip(parts, np.split(scores[f"{head}_accuracy"], len(parts)), strict=True)) for head in HEADS
        }


def _metrics(head: str, clean: FloatArray, by_copy: Mapping[str, FloatArray]) -> dict[str, float]:
    whole = float(clean.mean())
    metrics = {f"{head}_accuracy": whole}
    for name, right in by_copy.items():
        metrics[f"{head}_accuracy_{name}"] = float(right.mean())
        metrics[f"{head}_delta_{name}"] = float(right.mean()) - whole
    perturbed = float(np.mean([right.mean() for right in by_copy.values()]))
    metrics[f"{head}_perturbed_accuracy"] = perturbed
    metrics[f"{head}_retention"] = perturbed / whole if whole else 0.0
    return metrics


def _examples(head: str, clean: Part, right: FloatArray, by_copy: Mapping[str, FloatArray]) -> list[ExampleScores]:
    """Every example under the key of its clean series, so that its copies can be told to be of it."""
    expected = clean.labels.tolist()
    scores = {f"{head}_accuracy": right, **{f"{head}_accuracy_{name}": one for name, one in by_copy.items()}}
    found = [
        ExampleScores(metric, clean.keys, one, expected, ["right" if hit else "wrong" for hit in one])
        for metric, one in scores.items()
    ]
    share = np.mean(list(by_copy.values()), axis=0)
    said = [f"right in {hits:.0%} of {len(by_copy)}" for hits in share]
    return [*found, ExampleScores(f"{head}_perturbed_accuracy", clean.keys, share, expected, said)]
