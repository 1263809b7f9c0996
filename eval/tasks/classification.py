"""Classification on frozen vectors: a linear probe and nearest neighbours, both fixed.

The probe is worth as much as the encoder (on one encoder's UCR features, 0.67 to 0.84 by the head alone, README of
Mantis, arXiv 2502.15637), so it is standardisation and logistic regression, never tuned, and logged.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.config.entries.classification import LinearProbe, NearestNeighbours
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError


@dataclass(frozen=True)
class ClassificationTask:
    """Trains on part `train`, scores on part `test`."""

    linear_probe: LinearProbe
    neighbours: NearestNeighbours
    name: ClassVar[str] = "classification"
    headlines: ClassVar[tuple[str, ...]] = ("linear_probe_accuracy", "knn_accuracy")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Both classifiers in full."""
        return {
            "linear_probe": {
                "scaler": "StandardScaler",
                "classifier": "LogisticRegression",
                "solver": "lbfgs",
                **self.linear_probe.model_dump(),
            },
            "knn": {"classifier": "KNeighborsClassifier", "metric": "cosine", **self.neighbours.model_dump()},
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Fit both on the train part; accuracy, balanced accuracy and macro-F1 on the test part."""
        labels = data.parts["train"].labels
        if len(np.unique(labels)) < 2:
            raise ConfigError(f"data set {data.name}: training labels hold one class, nothing to classify")
        probed, iterations = _linear_probe(self.linear_probe, vectors["train"], labels, vectors["test"])
        nearest = _nearest(self.neighbours, vectors["train"], labels, vectors["test"])
        metrics: dict[str, float] = {}
        examples = []
        for name, predicted in (("linear_probe", probed), ("knn", nearest)):
            metrics |= _metrics(name, data.parts["test"].labels, predicted)
            examples.append(_examples(f"{name}_accuracy", data.parts["test"], predicted))
        return TaskResult(metrics, examples, {"linear_probe_iterations": iterations})


def _linear_probe(
    config: LinearProbe, train: VectorArray, labels: LabelArray, test: VectorArray
) -> tuple[LabelArray, float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(C=config.C, max_iter=config.max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are reported instead
        probe.fit(scaler.transform(train), labels)
    return probe.predict(scaler.transform(test)), float(np.max(probe.n_iter_))


def _nearest(config: NearestNeighbours, train: VectorArray, labels: LabelArray, test: VectorArray) -> LabelArray:
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(n_neighbors=min(config.k, len(train)), metric="cosine", algorithm="brute")
    predicted: LabelArray = classifier.fit(train, labels).predict(test)
    return predicted


def _metrics(name: str, expected: LabelArray, predicted: LabelArray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    classes = np.unique(expected)  # a class that the test part lacks has no recall to average
    return {
        f"{name}_accuracy": float(accuracy_score(expected, predicted)),
        f"{name}_balanced_accuracy": float(
            recall_score(expected, predicted, labels=classes, average="macro", zero_division=0)
        ),
        f"{name}_macro_f1": float(f1_score(expected, predicted, labels=classes, average="macro", zero_division=0)),
    }


def _examples(metric: str, part: Part, predicted: LabelArray) -> ExampleScores:
    right = (predicted == part.labels).astype(np.float64)
    return ExampleScores(metric, part.keys, right, part.labels.tolist(), predicted.tolist())
