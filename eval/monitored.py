"""A series that was watched, with what was anomalous in it; cut into windows, and put together again from them.

The head of a series stands for what is normal. Everything is scaled by it, as a monitor that has seen no more
would do, so that a series keeps its own steps of level and spread. Knows no files and no vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Part
from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import FloatArray, Item

TruthArray = npt.NDArray[np.bool_]
"""True for each anomalous sample."""


@dataclass(frozen=True, eq=False)
class Monitored:
    """Values (channels x samples) and which samples are anomalous; the first `head` of them are known."""

    name: str
    values: FloatArray
    truth: TruthArray
    head: int
    filled: int = 0
    """Missing values that were interpolated."""

    @property
    def can_be_scored(self) -> bool:
        """Whether there is something to find after the head, and something else."""
        return 0 < int(self.truth[self.head :].sum()) < len(self.truth) - self.head


def parts_of(series: Sequence[Monitored], window: int, stride: int) -> dict[str, Part]:
    """Part `train`, normal windows of the heads, and part `test`, windows of the rest up to the last sample.

    Labels name the series; attributes are a window's first sample and the anomalous stretches in it, `12:40 60:64`
    from the start of the series. Raises DatasetNotFoundError for a head without a normal window.
    """
    found: dict[str, list[tuple[Item, str, list[str]]]] = {"train": [], "test": []}
    for one in series:
        scaled = _scaled(one)
        starts = {"train": _normal_starts(one, window, stride), "test": _test_starts(one, window, stride)}
        for part, firsts in starts.items():
            for first in firsts:
                item = Item.of(series=scaled[:, first : first + window])
                found[part].append((item, one.name, [str(first), _stretches(one.truth, first, window)]))
    return {name: _part(rows) for name, rows in found.items()}


def truth_of(part: Part, rows: npt.NDArray[np.int64], window: int) -> TruthArray:
    """Which samples are anomalous, from the first window of one series to its last; `rows` in order of time."""
    assert part.attributes is not None
    firsts = part.attributes[rows, 0].astype(np.int64)
    truth = np.zeros(firsts[-1] + window, np.bool_)
    for stretches in part.attributes[rows, 1]:
        for stretch in stretches.split():
            start, _, stop = stretch.partition(":")
            truth[int(start) : int(stop)] = True
    return truth[firsts[0] :]


def spread(scores: FloatArray, window: int, stride: int) -> FloatArray:
    """Scores of windows to scores of samples: each sample's is the mean over the windows that hold it."""
    from aeon.utils.windowing import reverse_windowing

    return np.asarray(reverse_windowing(scores, window, np.nanmean, stride, 0))


def _scaled(one: Monitored) -> FloatArray:
    """Less the head's mean, by its deviation, each channel; labelled samples of the head are not counted."""
    known = one.values[:, : one.head][:, ~one.truth[: one.head]]
    deviation = known.std(axis=1, keepdims=True)
    return np.asarray((one.values - known.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1))


def _normal_starts(one: Monitored, window: int, stride: int) -> list[int]:
    starts = [
        first for first in range(0, one.head - window + 1, stride) if not one.truth[first : first + window].any()
    ]
    if not starts:
        raise DatasetNotFoundError(
            f"{one.name}: no normal window of {window} samples in the first {one.head}",
            hint="take a shorter window or a longer head, or exclude the set",
        )
    return starts


def _test_starts(one: Monitored, window: int, stride: int) -> range:
    last = one.values.shape[1] - window
    if last < one.head:
        raise DatasetNotFoundError(
            f"{one.name}: no window of {window} samples after the first {one.head}", hint="take a shorter window"
        )
    return range(one.head + (last - one.head) % stride, last + 1, stride)


def _stretches(truth: TruthArray, first: int, window: int) -> str:
    edges = np.flatnonzero(np.diff(np.r_[False, truth[first : first + window], False])) + first
    return " ".join(f"{start}:{stop}" for start, stop in zip(edges[::2], edges[1::2], strict=True))


def _part(rows: Sequence[tuple[Item, str, list[str]]]) -> Part:
    items, labels, attributes = zip(*rows, strict=True)
    return Part(list(items), np.array(labels), np.array(attributes))


def scored(series: Iterator[Monitored], limit: int | None) -> list[Monitored]:
    """The series that can be scored, at most `limit` of them, in order."""
    found: list[Monitored] = []
    for one in series:
        if limit is not None and len(found) >= limit:
            break
        if one.can_be_scored:
            found.append(one)
    return found
