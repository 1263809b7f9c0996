"""Reading one split of a UCR or UEA problem: .ts files, the archive's .tsv, unequal lengths, missing values.

A missing value inside a series is filled by linear interpolation between its neighbours in the same channel; at
the end of all channels it is padding and is cut off. How many were filled is reported, since it changes the data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import FloatArray

SplitName = Literal["TRAIN", "TEST"]


def read_split(folder: Path, split: SplitName) -> tuple[list[FloatArray], list[str], int]:
    """Series (channels x samples), labels, and how many missing values were filled.

    The .tsv files are read where both lie beside the .ts: there, the archive's .ts lost rows (Chinatown,
    MelbournePedestrian). Raises DatasetNotFoundError for a missing or unreadable file.
    """
    both = all((folder / f"{folder.name}_{part}.tsv").is_file() for part in ("TRAIN", "TEST"))
    path = folder / f"{folder.name}_{split}.{'tsv' if both else 'ts'}"
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: no such file", hint="a data set needs a TRAIN and a TEST file")
    try:
        raw, labels = _read_tsv(path) if both else _read_ts(path)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read as a data set: {error}") from None
    if len(labels) != len(raw) or not labels:
        raise DatasetNotFoundError(
            f"{path}: cannot be read as a data set: {len(raw)} series with {len(labels)} labels"
        )
    series, filled = [], 0
    for position, values in enumerate(raw):
        whole, missing = without_missing(np.atleast_2d(values), f"{path}, series {position}")
        series.append(whole)
        filled += missing
    return series, labels, filled


def predicts_numbers(path: Path) -> bool:
    """Whether the header of a .ts file says that its labels are numbers to be predicted, not classes."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.lower().split()
                if words[:2] == ["@targetlabel", "true"]:
                    return True
                if words[:1] == ["@data"]:
                    return False
    except OSError as error:
        raise DatasetNotFoundError(f"{path}: cannot be read as a data set: {error}") from None
    return False


def _read_ts(path: Path) -> tuple[Sequence[Any], list[str]]:
    from aeon.datasets import load_from_ts_file

    series, labels = load_from_ts_file(str(path))
    return series, [str(label) for label in labels]


def _read_tsv(path: Path) -> tuple[Sequence[Any], list[str]]:
    table = np.loadtxt(path, delimiter="\t", ndmin=2)
    return list(table[:, 1:]), [f"{label:g}" for label in table[:, 0]]


def without_missing(series: Any, where: str) -> tuple[FloatArray, int]:
    """Channels x samples without gaps, and how many values were filled; `where` names the series in an error."""
    values = np.array(series, dtype=np.float64)
    known = np.isfinite(values)
    if not known.size or not known.any(axis=1).all():
        raise DatasetNotFoundError(f"{where}: a channel holds no value at all")
    length = int(np.flatnonzero(known.any(axis=0))[-1]) + 1
    values, known = values[:, :length], known[:, :length]
    places = np.arange(length)
    for channel, present in zip(values, known, strict=True):
        if not present.all():
            channel[~present] = np.interp(places[~present], places[present], channel[present])
    return values, int((~known).sum())
