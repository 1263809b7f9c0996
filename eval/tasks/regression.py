"""Regression on frozen vectors: standardisation and ridge, whose strength the train part chooses from a fixed
grid.

The choice is by leave-one-out error, as aeon's own regressors on random features make it; which strength it was is
logged. Beside the scores stands what predicting the mean of the train part would get.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.eval.tasks.sts import spearman_shares
from lakebed.platform.config.entries.regression import RidgeProbe
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray


@dataclass(frozen=True)
class RegressionTask:
    """Trains on part `train`, scores on part `test`; labels are numbers."""

    ridge: RidgeProbe
    name: ClassVar[str] = "regression"
    headlines: ClassVar[tuple[str, ...]] = ("r2", "spearman")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The probe in full."""
        return {
            "scaler": "StandardScaler",
            "regressor": "RidgeCV",
            "chosen_by": "leave-one-out squared error on the train part",
            **self.ridge.model_dump(),
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """R2, MAE, RMSE and Spearman's correlation on the test part."""
        train, gold = (_numbers(data, part) for part in ("train", "test"))
        predicted, alpha = _ridge(self.ridge, vectors["train"], train, vectors["test"])
        scores = _scores(gold, predicted)
        metrics = {name: float(values.mean()) for name, values in scores.items()}
        metrics["rmse"] = float(np.sqrt(((gold - predicted) ** 2).mean()))
        mean = _scores(gold, np.full_like(gold, train.mean()))
        part = data.parts["test"]
        said = [f"{value:.6g}" for value in predicted]
        return TaskResult(
            metrics,
            [
                ExampleScores(name, part.keys, values, part.labels.tolist(), said)
                for name, values in scores.items()
            ],
            {"alpha": alpha},
            {f"{name}_chance": float(mean[name].mean()) for name in ("r2", "mae")},
        )


def _numbers(data: Dataset, part: str) -> FloatArray:
    try:
        values = data.parts[part].labels.astype(np.float64)
    except ValueError as error:
        raise ConfigError(f"data set {data.name}: labels of the {part} part are no numbers: {error}") from None
    if not np.isfinite(values).all():
        raise ConfigError(f"data set {data.name}: labels of the {part} part are not all finite numbers")
    if len(np.unique(values)) < 2:
        raise ConfigError(f"data set {data.name}: labels of the {part} part are all equal, nothing to predict")
    return values


def _ridge(
    config: RidgeProbe, train: VectorArray, gold: FloatArray, test: VectorArray
) -> tuple[FloatArray, float]:
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    ridge = RidgeCV(alphas=list(config.alphas)).fit(scaler.transform(train.astype(np.float64)), gold)
    return np.asarray(ridge.predict(scaler.transform(test.astype(np.float64)))), float(ridge.alpha_)


def _scores(gold: FloatArray, predicted: FloatArray) -> dict[str, FloatArray]:
    """By example, so that the mean is the metric: shares in R2 and Spearman's correlation, absolute errors."""
    errors = gold - predicted
    return {
        "r2": 1 - errors**2 / ((gold - gold.mean()) ** 2).mean(),
        "mae": np.abs(errors),
        "spearman": spearman_shares(predicted, gold),
    }
