"""Positions in a file as ranges: sorted, disjoint, from start to stop. Pure."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Range = tuple[int, int]
Ranges = tuple[Range, ...]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NONE: Final[Ranges] = ()


def ranges_of(positions: Positions) -> Ranges:
    """Join positions, in any order, to ranges; one that comes twice makes ranges that overlap."""
    if not len(positions):
        return NONE
    ordered = np.sort(positions)
    breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
    starts, stops = ordered[np.r_[0, breaks]], ordered[np.r_[breaks - 1, len(ordered) - 1]] + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))


def joined(ranges: Iterable[Range]) -> Ranges:
    """Sort ranges and join those that touch; those that overlap stay apart, see `first_overlap`."""
    found: list[Range] = []
    for start, stop in sorted(ranges):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)


def first_overlap(ranges: Sequence[Range]) -> int | None:
    """The first position that lies in two of sorted ranges; None when they are disjoint."""
    return next((after[0] for before, after in pairwise(ranges) if after[0] < before[1]), None)


def count(ranges: Iterable[Range]) -> int:
    """How many positions there are."""
    return sum(stop - start for start, stop in ranges)


def without(whole: Ranges, taken: Ranges) -> Ranges:
    """Positions of `whole` that are not in `taken`; each is gone through once."""
    left: list[Range] = []
    place = 0
    for first, last in whole:
        at = first
        while place < len(taken) and taken[place][0] < last:
            start, stop = taken[place]
            if start > at:
                left.append((at, start))
            at = max(at, stop)
            if stop > last:  # it may take of the next one, too
                break
            place += 1
        if at < last:
            left.append((at, last))
    return tuple(left)


def within(ranges: Ranges, first: int, last: int) -> Ranges:
    """Positions from `first` to `last` of the ranges."""
    cut = ((max(start, first), min(stop, last)) for start, stop in ranges)
    return tuple((start, stop) for start, stop in cut if start < stop)


def members(ranges: Ranges | Positions, positions: Positions) -> Mask:
    """Which positions lie in the ranges; who asks often gives them as an array (n, 2)."""
    if not len(ranges):
        return np.zeros(len(positions), np.bool_)
    starts, stops = np.asarray(ranges, np.int64).T
    before = np.searchsorted(starts, positions, side="right") - 1
    inside: Mask = (before >= 0) & (positions < stops[np.maximum(before, 0)])
    return inside


def split_at(positions: Positions, chosen: Mask) -> tuple[Ranges, Ranges]:
    """Ranges of the positions that are chosen, and of the others."""
    return ranges_of(positions[chosen]), ranges_of(positions[~chosen])
