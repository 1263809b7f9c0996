"""Trials of a wrist accelerometer, one text file each under a folder per activity.

The form of the dataset for human motion primitives detection (Bruno et al. 2013): three whole numbers a line,
6-bit codes of x, y and z at 32 Hz. A folder NAME_MODEL holds some trials of NAME once more, and is not read.
"""

from pathlib import Path
from typing import Final

import numpy as np

from lakebed.eval.datasets import Part
from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import FloatArray, Item

_FILES: Final = "Accelerometer-*.txt"
_CODES: Final = 63
_RANGE_G: Final = 1.5
_RATE_HZ: Final = 32.0


def holds_trials(folder: Path) -> bool:
    """Whether a folder is of this form."""
    return next(folder.glob(f"*/{_FILES}"), None) is not None


def read_trials(folder: Path) -> Part:
    """Every trial in g, 3 channels x samples, labelled with its activity's folder; in the order of their names."""
    paths = sorted(path for path in folder.glob(f"*/{_FILES}") if not path.parent.name.endswith("_MODEL"))
    items = [
        Item.of(series=_acceleration(path), channel_names=("x", "y", "z"), sampling_rate=_RATE_HZ)
        for path in paths
    ]
    return Part(items, np.array([path.parent.name for path in paths]))


def _acceleration(path: Path) -> FloatArray:
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        codes = np.array(rows, dtype=np.int64)
    except (OSError, ValueError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read as a trial: {error}") from None
    if codes.ndim != 2 or codes.shape[1] != 3 or codes.min() < 0 or codes.max() > _CODES:
        raise DatasetNotFoundError(f"{path}: expected lines of three whole numbers from 0 to {_CODES}")
    return -_RANGE_G + 2 * _RANGE_G * codes.T / _CODES
