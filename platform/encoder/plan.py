"""Cutting work into batches: by token budget, from length-sorted items, so that little is padding.

Pure; knows nothing of encoders or devices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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
