"""Clustering of frozen vectors: k-means with as many clusters as classes, measured against the labels.

Adjusted figures are 0 for random clusters, so chance needs no formula of its own; V-measure is not adjusted and
grows with the number of clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Dataset, LabelArray
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.config.entries.clustering import KMeans
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError

Clusters = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClusteringTask:
    """Clusters parts `test` and `train` together."""

    kmeans: KMeans
    name: ClassVar[str] = "clustering"
    headlines: ClassVar[tuple[str, ...]] = ("v_measure", "accuracy")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The clustering in full."""
        return {"clusterer": "KMeans", "init": "k-means++", "k": "number of classes", **self.kmeans.model_dump()}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """V-measure, adjusted Rand index, adjusted mutual information and accuracy, means over clusterings."""
        parts = [data.parts[name] for name in ("test", "train")]
        labels = np.concatenate([part.labels for part in parts])
        if len(np.unique(labels)) < 2:
            raise ConfigError(f"data set {data.name}: labels hold one class, nothing to find")
        found = _clusterings(self.kmeans, np.concatenate([vectors["test"], vectors["train"]]), labels)
        right = np.stack([matched(labels, clusters) == labels for clusters in found])
        scores = [_scores(labels, clusters) for clusters in found]
        metrics = {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
        metrics["accuracy"] = float(right.mean())
        keys = [f"{name}-{key}" for name, part in zip(("test", "train"), parts, strict=True) for key in part.keys]
        said = [f"right in {count} of {len(found)} clusterings" for count in right.sum(axis=0)]
        return TaskResult(
            metrics,
            [ExampleScores("accuracy", keys, right.mean(axis=0), labels.tolist(), said)],
            chance={"ari_chance": 0.0, "ami_chance": 0.0},
        )


def _clusterings(config: KMeans, vectors: VectorArray, labels: LabelArray) -> list[Clusters]:
    from sklearn.cluster import KMeans as Clusterer

    wanted = len(np.unique(labels))
    k = min(wanted, len(np.unique(vectors, axis=0)))  # a collapsed encoder has fewer points than classes
    return [
        Clusterer(k, n_init=config.restarts, random_state=config.seed + number).fit_predict(vectors)
        for number in range(config.clusterings)
    ]


def _scores(labels: LabelArray, clusters: Clusters) -> dict[str, float]:
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score

    return {
        "v_measure": float(v_measure_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "ami": float(adjusted_mutual_info_score(labels, clusters)),
    }


def matched(labels: LabelArray, clusters: Clusters) -> LabelArray:
    """The class of each example's cluster, when every cluster is given the class that makes most examples right.

    No two clusters have one class (assignment problem); a cluster too many has the class "".
    """
    from scipy.optimize import linear_sum_assignment

    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.zeros((clusters.max() + 1, len(classes)), np.int64)
    np.add.at(counts, (clusters, codes), 1)
    of_cluster = np.full(len(counts), "", dtype=classes.dtype)
    chosen, given = linear_sum_assignment(counts, maximize=True)
    of_cluster[chosen] = classes[given]
    return of_cluster[clusters]
