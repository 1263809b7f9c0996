"""Geometry: how texts and signals lie in their common space, as figures that explain scores rather than rank
models.

A collapsed encoder shows as high mean cosine, low effective rank and duplicates; two modalities that do not mix as
a gap. Positive pairs are a text and a signal with equal labels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lakebed.eval import spread
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.relevance import right_answers
from lakebed.eval.tasks.protocol import TaskResult, Vectors
from lakebed.platform.encoder.prepared import VectorArray


@dataclass(frozen=True)
class GeometryTask:
    """Parts `text` and `signal`."""

    name: ClassVar[str] = "geometry"
    headlines: ClassVar[tuple[str, ...]] = ("alignment", "modality_gap", "text_uniformity", "signal_uniformity")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The definitions."""
        return {
            "alignment": "mean squared distance of positive pairs",
            "uniformity": "log mean exp(-2 squared distance)",
            "effective_rank": "exp entropy of singular values, not centred",
            "modality_gap": "distance of means",
            "duplicate": "another content within a cosine of 0.9999",
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Every figure; without scores by example, as most are of a set and of no single vector."""
        text, signal = data.parts["text"], data.parts["signal"]
        queries, answers = right_answers(text.labels, signal.labels).nonzero()
        metrics = {
            "alignment": spread.alignment(vectors["text"][queries], vectors["signal"][answers]),
            "modality_gap": spread.modality_gap(vectors["text"], vectors["signal"]),
        }
        for name, part in (("text", text), ("signal", signal)):
            metrics |= {f"{name}_{figure}": value for figure, value in _of_one(part, vectors[name])}
        return TaskResult(metrics, [])


def _of_one(part: Part, vectors: VectorArray) -> Iterator[tuple[str, float]]:
    """Figures of one part; items of equal content count once."""
    _, first = np.unique([item.content_key() for item in part.items], return_index=True)
    different = vectors[np.sort(first)]
    lengths = spread.norms(different)
    yield "uniformity", spread.uniformity(different)
    yield "effective_rank", spread.effective_rank(different)
    yield "mean_cosine", spread.mean_cosine(different)
    yield "duplicate_rate", spread.duplicate_rate(different)
    yield "norm_mean", float(lengths.mean())
    yield "norm_std", float(lengths.std())
    yield "norm_min", float(lengths.min())
    yield "norm_max", float(lengths.max())
