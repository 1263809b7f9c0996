"""Anomalies by distance to what is normal: nearest neighbours among the vectors of a series' own normal windows.

Windows get the distance (Ramaswamy, Rastogi and Shim 2000, doi 10.1145/335191.335437), samples the mean over the
windows that hold them. Scores of samples are judged against labelled stretches; VUS, the volumes under the
surfaces of range-based curves over all margins (Paparrizos et al. 2022, doi 10.14778/3551793.3551830), does so
without asking that an alarm begin on the very sample that a person marked. Each series is one example. Beside
chance stands what the nearest neighbour of the raw windows would find, by Euclidean distance: `pr_auc_raw`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.monitored import TruthArray, spread, truth_of
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.items import FloatArray

AnyArray = npt.NDArray[np.floating[Any]]

METRICS = ("pr_auc", "vus_pr", "roc_auc", "vus_roc")


@dataclass(frozen=True)
class AnomalyTask:
    """Part `train` holds normal windows, part `test` those to be judged, as `monitored.parts_of` cuts them."""

    window: int
    stride: int
    neighbours: int
    buffer: int
    name: ClassVar[str] = "anomaly"
    headlines: ClassVar[tuple[str, ...]] = ("pr_auc", "vus_pr")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The rule, and the sizes of windows and margins."""
        return {
            "score": "mean cosine distance to the nearest normal windows of the series",
            "neighbours": self.neighbours,
            "window": self.window,
            "stride": self.stride,
            "samples": "mean over windows",
            "scale": "mean and deviation of the head",
            "vus_buffer": self.buffer,
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Areas under precision-recall and ROC curves and the volumes, as means over series."""
        train, test = data.parts["train"], data.parts["test"]
        names = list(dict.fromkeys(test.labels.tolist()))
        found: dict[str, list[float]] = {metric: [] for metric in METRICS}
        shares, raw = [], []
        for name in names:
            rows = np.flatnonzero(test.labels == name)
            known = np.flatnonzero(train.labels == name)
            distances = _distances(vectors["train"][known], vectors["test"][rows], self.neighbours)
            truth = truth_of(test, rows, self.window)
            for metric, value in _judged(truth, spread(distances, self.window, self.stride), self.buffer).items():
                found[metric].append(value)
            shares.append(float(truth.mean()))
            floor = _distances(_values(train, known), _values(test, rows), 1, "euclidean")
            raw.append(_areas(truth, spread(floor, self.window, self.stride)))
        return TaskResult(
            {metric: float(np.mean(values)) for metric, values in found.items()},
            [_examples(metric, names, values, shares) for metric, values in found.items()],
            chance={
                "pr_auc_chance": float(np.mean(shares)),
                "roc_auc_chance": 0.5,
                **{f"{metric}_raw": float(np.mean([one[metric] for one in raw])) for metric in raw[0]},
            },
        )


def _values(part: Part, rows: npt.NDArray[np.int64]) -> FloatArray:
    """Windows as they are, channels one after the other."""
    return np.stack([np.ravel(part.items[row].series) for row in rows])


def _distances(normal: AnyArray, judged: AnyArray, neighbours: int, metric: str = "cosine") -> FloatArray:
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, len(normal))
    nearest = NearestNeighbors(n_neighbors=count, metric=metric, algorithm="brute").fit(normal)
    distances, _ = nearest.kneighbors(judged)
    return np.asarray(distances.mean(axis=1), np.float64)


def _judged(truth: TruthArray, scores: FloatArray, buffer: int) -> dict[str, float]:
    """Every metric of one series; an encoder that sees no difference at all finds nothing, and scores 0."""
    if np.ptp(scores) == 0:
        return dict.fromkeys(METRICS, 0.0)
    return _areas(truth, scores) | _volumes(truth.astype(np.int64), scores, buffer)


def _areas(truth: TruthArray, scores: FloatArray) -> dict[str, float]:
    from aeon.benchmarking.metrics.anomaly_detection import pr_auc_score, roc_auc_score

    if np.ptp(scores) == 0:
        return {"pr_auc": 0.0, "roc_auc": 0.0}
    labels = truth.astype(np.int64)
    return {"pr_auc": float(pr_auc_score(labels, scores)), "roc_auc": float(roc_auc_score(labels, scores))}


def _volumes(labels: npt.NDArray[np.int64], scores: FloatArray, buffer: int) -> dict[str, float]:
    """VUS-PR and VUS-ROC: aeon's areas at every margin from 0 to `buffer`, both from one pass, averaged."""
    from aeon.benchmarking.metrics.anomaly_detection import range_pr_roc_auc_support

    areas = [range_pr_roc_auc_support(labels, scores, margin, skip_check=True) for margin in range(buffer + 1)]
    pr, roc = np.mean(areas, axis=0)
    return {"vus_pr": float(pr), "vus_roc": float(roc)}


def _examples(metric: str, names: list[str], values: list[float], shares: list[float]) -> ExampleScores:
    marked = [f"{share:.1%} of samples" for share in shares]
    return ExampleScores(metric, names, np.array(values), marked, [f"{value:.3f}" for value in values])
