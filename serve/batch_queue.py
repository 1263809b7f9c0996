"""Which items go into the next device batch: oldest first, within a token budget, without needless padding.

Pure: no clock, no threads, no arrays but costs. `scheduler.Scheduler` asks it for a batch when the device is free.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray

_LOOK_AHEAD: Final = 128
_MOST_PADDING: Final = 4


@dataclass(frozen=True)
class Pick:
    """Items `indices` of job `job`."""

    job: int
    indices: IntArray


class _Waiting:
    """The items of one job that wait, most expensive first."""

    def __init__(self, costs: IntArray) -> None:
        self.order = np.argsort(-costs, kind="stable")
        self.costs = np.maximum(1, costs[self.order])

    def take(self, most: int, least: int, room: int) -> IntArray:
        """Remove and return up to `room` items that cost between `least` and `most`."""
        start = int(np.searchsorted(-self.costs, -most, side="left"))
        stop = min(int(np.searchsorted(-self.costs, -least, side="right")), start + room)
        taken = self.order[start:stop]
        self.order = np.delete(self.order, slice(start, stop))
        self.costs = np.delete(self.costs, slice(start, stop))
        return taken


class BatchQueue:
    """Jobs in the order they came, each a number and the costs of its items.

    The most expensive waiting item of the oldest job sets the length of the next batch, so every batch moves the
    oldest job on and none starves. Younger items ride along while rows x length stays within the budget, if
    padding them to that length costs at most four times their own. An item above the whole budget goes alone.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._jobs: dict[int, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: int, costs: IntArray) -> None:
        """Queue a job's items; `job` must be new, `costs` must not be empty."""
        if job in self._jobs or not len(costs):
            raise ValueError(f"job {job} is queued already, or has no items")
        self._jobs[job] = _Waiting(costs)

    def drop(self, job: int) -> None:
        """Forget what still waits of a job; does nothing for one that is not queued."""
        self._jobs.pop(job, None)

    def next_batch(self) -> list[Pick]:
        """Remove and return what the device should run next; empty when nothing waits."""
        if not self._jobs:
            return []
        longest = int(next(iter(self._jobs.values())).costs[0])
        room = max(1, min(self._budget.rows, self._budget.cost // longest))
        picks = []
        for job, waiting in islice(self._jobs.items(), _LOOK_AHEAD):
            taken = waiting.take(longest, -(-longest // _MOST_PADDING), room)
            if len(taken):
                picks.append(Pick(job, taken))
                room -= len(taken)
            if not room:
                break
        for pick in picks:
            if not len(self._jobs[pick.job].order):
                del self._jobs[pick.job]
        return picks
