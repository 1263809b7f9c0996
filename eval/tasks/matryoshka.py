"""The Matryoshka curve: what is left of a classification when the same vectors are cut shorter.

Cutting keeps the first dimensions and brings the vector back to unit length (Kusupati et al. 2022, arXiv
2205.13147). Every length has scores by example, so that two encoders can be compared at each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors, at_length
from lakebed.platform.encoder.protocol import truncate

HEADS: Final = ("linear_probe", "knn")


@dataclass(frozen=True)
class MatryoshkaTask:
    """Classification at each of `lengths` that the vectors exceed, and at their whole length."""

    classification: ClassificationTask
    lengths: tuple[int, ...]
    name: ClassVar[str] = "matryoshka"
    headlines: ClassVar[tuple[str, ...]] = tuple(f"{head}_over_lengths" for head in HEADS)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Both classifiers, and the lengths."""
        return {**self.classification.configuration, "lengths": self.lengths}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Accuracy whole and at each length, `…_64d`; what that keeps of it, `…_retention_64d`; means over all."""
        whole = vectors["train"].shape[1]
        short = [length for length in sorted(set(self.lengths)) if length < whole]
        at = {length: self._at(length, data, vectors) for length in (*short, whole)}
        metrics: dict[str, float] = {}
        examples: list[ExampleScores] = []
        for head in HEADS:
            name = f"{head}_accuracy"
            curve = [at[whole][name], *(replace(at[n][name], metric=at_length(name, n)) for n in short)]
            curve.append(_over_lengths(f"{head}_over_lengths", curve))
            found = {one.metric: float(one.scores.mean()) for one in curve}
            metrics |= found
            for length in short:
                kept = found[at_length(name, length)] / found[name] if found[name] else 0.0
                metrics[at_length(f"{head}_retention", length)] = kept
            examples += curve
        return TaskResult(metrics, examples)

    def _at(self, length: int, data: Dataset, vectors: Vectors) -> dict[str, ExampleScores]:
        cut = {name: truncate(part, length) for name, part in vectors.items()}
        return {one.metric: one for one in self.classification.run(data, cut).examples}


def _over_lengths(metric: str, scores: Sequence[ExampleScores]) -> ExampleScores:
    share = np.mean([one.scores for one in scores], axis=0)
    said = [f"right at {hits:.0%} of {len(scores)} lengths" for hits in share]
    return ExampleScores(metric, scores[0].keys, share, scores[0].expected, said)
