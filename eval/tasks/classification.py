"""Classification on frozen vectors: a linear probe and nearest neighbours, both fixed.

The probe is worth as much as the encoder (on one encoder's UCR features, 0.67 to 0.84 by the head alone, README of
Mantis, arXiv 2502.15637), so it is standardisation and logistic regression, never tuned, and logged. Where a suite
asks for it, the same probe is trained on few examples too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.tasks.calibration import BINS, calibration_error, log_losses
from lakebed.eval.tasks.few_shot import few_shot
from lakebed.eval.tasks.linear_probe import fit_probe
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.config.entries.classification import FewShot, LinearProbe, NearestNeighbours
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError


@dataclass(frozen=True)
class ClassificationTask:
    """Trains on part `train`, scores on part `test`."""

    linear_probe: LinearProbe
    neighbours: NearestNeighbours
    few_shot: FewShot = field(default_factory=FewShot)
    name: ClassVar[str] = "classification"
    headlines: ClassVar[tuple[str, ...]] = ("linear_probe_accuracy", "knn_accuracy")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The classifiers in full."""
        few = {"few_shot": self.few_shot.model_dump()} if self.few_shot.shots else {}
        return few | {
            "linear_probe": {
                "scaler": "StandardScaler",
                "classifier": "LogisticRegression",
                "solver": "lbfgs",
                "calibration_bins": BINS,
                **self.linear_probe.model_dump(),
            },
            "knn": {"classifier": "KNeighborsClassifier", "metric": "cosine", **self.neighbours.model_dump()},
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Fit both on the train part; accuracy, balanced accuracy and macro-F1 on the test part, calibration of
        the probe.

        Few-shot figures are means over draws, `_sd` their standard deviation.
        """
        labels, test = data.parts["train"].labels, data.parts["test"]
        if len(np.unique(labels)) < 2:
            raise ConfigError(f"data set {data.name}: training labels hold one class, nothing to classify")
        probe = fit_probe(self.linear_probe, vectors["train"], labels)
        probed = probe.predict(vectors["test"])
        nearest = _nearest(self.neighbours, vectors["train"], labels, vectors["test"])
        metrics: dict[str, float] = {}
        examples = []
        for name, predicted in (("linear_probe", probed), ("knn", nearest)):
            metrics |= _metrics(name, test.labels, predicted)
            examples.append(_examples(f"{name}_accuracy", test, predicted))
        probabilities = probe.probabilities(vectors["test"])
        losses = log_losses(test.labels, probe.classes, probabilities)
        metrics["linear_probe_log_loss"] = float(losses.mean())
        metrics["linear_probe_ece"] = calibration_error(probabilities.max(axis=1), probed == test.labels)
        expected, said = test.labels.tolist(), probed.tolist()
        examples.append(ExampleScores("linear_probe_log_loss", test.keys, losses, expected, said))
        few_metrics, few_examples = few_shot(self.few_shot, self.linear_probe, data, vectors)
        return TaskResult(
            metrics | few_metrics, [*examples, *few_examples], {"linear_probe_iterations": probe.iterations}
        )


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
