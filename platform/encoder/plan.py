"""Cutting work to size: windows of items that are prepared at once, and in them device batches by token budget.

A window bounds memory and is still large enough that its items, sorted by length, waste little on padding. Pure;
knows nothing of encoders or devices.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lakebed.platform.encoder.prepared import IntArray


@dataclass(frozen=True)
class Budget:
    """How large one device batch may be: padded cost in token equivalents, and rows."""

    cost: int = 2048
    rows: int = 256

    def __post_init__(self) -> None:
        if self.cost < 1 or self.rows < 1:
            raise ValueError(f"a budget must be positive, not {self}")


@dataclass(frozen=True)
class Window:
    """How much may be prepared at once: rows, and their summed sizes."""

    rows: int = 4096
    size: int = 2**22

    def __post_init__(self) -> None:
        if self.rows < 1 or self.size < 1:
            raise ValueError(f"a window must be positive, not {self}")


T = TypeVar("T")


def windows(items: Iterable[T], size_of: Callable[[T], int], window: Window) -> Iterator[list[T]]:
    """Yield the items in order, in lists within `window`; an item above the whole size is alone in its list.

    Takes no more items than it has yielded but one, so the items may be an endless stream.
    """
    held: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if held and (len(held) == window.rows or total + size > window.size):
            yield held
            held, total = [], 0
        held.append(item)
        total += size
    if held:
        yield held


def length_sorted_batches(costs: IntArray, budget: Budget) -> Iterator[IntArray]:
    """Yield index arrays that cover every item once, most expensive first.

    A batch's padded cost, rows x its largest cost, stays within `budget.cost`; an item above the whole budget
    gets a batch of its own, so nothing loops or is refused here. Longest first, as the largest batch then
    meets memory limits at the start of a run and not at its end.
    """
    order = np.argsort(-costs, kind="stable")
    start = 0
    while start < len(order):
        largest = max(1, int(costs[order[start]]))
        stop = start + max(1, min(budget.rows, budget.cost // largest))
        yield order[start:stop]
        start = stop
