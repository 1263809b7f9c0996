"""The linear probe: standardisation and logistic regression on frozen vectors, as configured, not tuned."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from lakebed.eval.datasets import LabelArray
from lakebed.platform.config.entries.classification import LinearProbe
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A scaler and a classifier; `classes` in the order of the columns of `probabilities`."""

    scaler: Any
    classifier: Any

    @property
    def classes(self) -> LabelArray:
        """Labels that it knows."""
        classes: LabelArray = self.classifier.classes_
        return classes

    @property
    def iterations(self) -> float:
        """L-BFGS iterations that were needed."""
        return float(np.max(self.classifier.n_iter_))

    def predict(self, vectors: VectorArray) -> LabelArray:
        """The likeliest class of each vector."""
        predicted: LabelArray = self.classifier.predict(self.scaler.transform(vectors))
        return predicted

    def probabilities(self, vectors: VectorArray) -> FloatArray:
        """Probability of every class, vectors x classes."""
        return np.asarray(self.classifier.predict_proba(self.scaler.transform(vectors)), dtype=np.float64)


def fit_probe(config: LinearProbe, train: VectorArray, labels: LabelArray) -> FittedProbe:
    """Fit the probe on vectors with labels of at least two classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(C=config.C, max_iter=config.max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are reported instead
        probe.fit(scaler.transform(train), labels)
    return FittedProbe(scaler, probe)
