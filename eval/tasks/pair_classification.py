"""Pairs that belong together or not, told apart by their cosine.

ROC-AUC is no mean over pairs; what is kept by pair is each pair's share in it, so that encoders can be compared on
the same pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from lakebed.eval import chance
from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray

TOGETHER: Final = "1"
APART: Final = "0"


@dataclass(frozen=True)
class PairClassificationTask:
    """Compares parts `first` and `second`, labelled "1" for pairs that belong together and "0" for others."""

    name: ClassVar[str] = "pair_classification"
    headlines: ClassVar[tuple[str, ...]] = ("roc_auc", "ap")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What tells pairs apart."""
        return {"similarity": "cosine", "threshold": "the best on the same pairs, for f1 and for accuracy"}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Average precision, ROC-AUC, and F1 and accuracy at their best thresholds."""
        from sklearn.metrics import average_precision_score

        part = data.parts["first"]
        together = part.labels == TOGETHER
        if together.all() or not together.any():
            raise ConfigError(f"data set {data.name}: all pairs have one label, nothing to tell apart")
        similarity = (vectors["first"].astype(np.float64) * vectors["second"]).sum(axis=1).astype(np.float32)
        shares = auc_shares(similarity, together)
        metrics = {
            "ap": float(average_precision_score(together, similarity)),
            "roc_auc": float(shares.mean()),
            "best_f1": _best_f1(together, similarity),
            "best_accuracy": _best_accuracy(together, similarity),
        }
        said = [f"{value:.4f}" for value in similarity]
        share = float(together.mean())
        return TaskResult(
            metrics,
            [ExampleScores("roc_auc", part.keys, shares, part.labels.tolist(), said)],
            chance={
                "roc_auc_chance": 0.5,
                "ap_chance": float(chance.average_precision(np.array([together.sum()]), len(together))[0]),
                "best_f1_chance": 2 * share / (1 + share),
                "best_accuracy_chance": max(share, 1 - share),
            },
        )


def auc_shares(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> FloatArray:
    """Each example's share in the area under the ROC curve: their mean is the area itself.

    An example's share is the area plus its structural component's distance from it, weighed by how frequent its
    kind is, so that the variance of the mean is the one of DeLong, DeLong and Clarke-Pearson (1988, Biometrics
    44).
    """
    from scipy.stats import rankdata

    above = rankdata(scores)
    components = np.empty(len(scores))
    for kind, sign in ((positive, 1.0), (~positive, -1.0)):
        others = len(scores) - kind.sum()
        passed = (above[kind] - rankdata(scores[kind])) / others
        components[kind] = passed if sign > 0 else 1 - passed
    area = components[positive].mean()
    frequency = np.where(positive, positive.mean(), 1 - positive.mean())
    return np.asarray(area + (components - area) / frequency)


def _best_f1(together: npt.NDArray[np.bool_], similarity: FloatArray) -> float:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(together, similarity)
    total = precision + recall
    return float((2 * precision * recall / np.where(total > 0, total, 1)).max())


def _best_accuracy(together: npt.NDArray[np.bool_], similarity: FloatArray) -> float:
    from sklearn.metrics import roc_curve

    wrong, right, _ = roc_curve(together, similarity, drop_intermediate=False)
    share = together.mean()
    return float((right * share + (1 - wrong) * (1 - share)).max())
