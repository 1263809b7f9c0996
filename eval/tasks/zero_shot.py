"""Classification without any label: the nearest class by the words for it.

A class is the mean of its words' vectors in a few fixed sentences (prompt ensembling, Radford et al. 2021, arXiv
2103.00020). The score stands beside what guessing would get with the same share of every class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lakebed.eval import chance
from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.encoder.prepared import VectorArray


@dataclass(frozen=True)
class ZeroShotTask:
    """Part `class` holds the sentences, labelled with the words; part `test` the signals."""

    templates: tuple[str, ...]
    name: ClassVar[str] = "zero_shot"
    headlines: ClassVar[tuple[str, ...]] = ("macro_f1", "accuracy")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The sentences, and how they are put together."""
        return {
            "similarity": "cosine",
            "templates": self.templates,
            "class_vector": "mean over templates",
            "chance": "each class as often as it occurs",
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Accuracy, and macro-F1 over the classes that the test part has."""
        from sklearn.metrics import accuracy_score, f1_score

        test = data.parts["test"]
        predicted = _nearest(data.parts["class"], vectors["class"], vectors["test"])
        present = np.unique(test.labels)
        macro = f1_score(test.labels, predicted, labels=present, average="macro", zero_division=0)
        right = (predicted == test.labels).astype(np.float64)
        return TaskResult(
            {"macro_f1": float(macro), "accuracy": float(accuracy_score(test.labels, predicted))},
            [ExampleScores("accuracy", test.keys, right, test.labels.tolist(), predicted.tolist())],
            chance={
                "chance_macro_f1": chance.macro_f1_by_shares(test.labels),
                "chance_accuracy": chance.accuracy_by_shares(test.labels),
            },
        )


def _nearest(classes: Part, sentences: VectorArray, signals: VectorArray) -> LabelArray:
    words, owner = np.unique(classes.labels, return_inverse=True)
    means = np.stack([sentences[owner == number].mean(axis=0) for number in range(len(words))])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    nearest: LabelArray = words[(signals @ means.T).argmax(axis=1)]
    return nearest
