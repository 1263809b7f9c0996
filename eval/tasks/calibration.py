"""Whether a classifier's probabilities are to be believed: log-loss, and expected calibration error."""

from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import LabelArray
from lakebed.platform.items import FloatArray

BINS: Final = 15
_LEAST: Final = float(np.finfo(np.float64).eps)  # as scikit-learn clips


def log_losses(expected: LabelArray, classes: LabelArray, probabilities: FloatArray) -> FloatArray:
    """Minus the logarithm of the probability given to each expected class; their mean is the log-loss.

    `probabilities` are examples x classes, `classes` sorted. A class that is not among them has probability 0,
    which counts as the least that float64 can tell from it beside 1.
    """
    places = np.minimum(np.searchsorted(classes, expected), len(classes) - 1)
    given = probabilities[np.arange(len(expected)), places] * (classes[places] == expected)
    return np.asarray(-np.log(np.clip(given, _LEAST, 1 - _LEAST)))


def calibration_error(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: confidence less accuracy, in absolute value, over 15 bins of equal width.

    Bins are open below and closed above, and weigh as much as they have examples (Guo et al. 2017, arXiv
    1706.04599).
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
