"""Which items go into the next device batch: fair to callers and requests, within a token budget, little padding.

Pure: no clock, no threads, no arrays but costs. `scheduler.Scheduler` asks it for a batch when the device is free.

Between callers it is start-time fair queueing (Goyal, Vin and Cheng 1996) by the padded cost of what each was
given: who got least goes first, and who comes back after a pause starts where the others are, with neither debt
nor credit. Of one caller's requests the oldest and the one that got least lead in turn, so that a small request
does not wait for a huge one, and a stream of small ones does not starve it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice, zip_longest
from operator import attrgetter
from typing import Final

import numpy as np

from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray

_LOOK_AHEAD: Final = 128
_MOST_PADDING: Final = 4
_HASTE: Final = 2


@dataclass(frozen=True)
class Pick:
    """Items `indices` of job `job`."""

    job: int
    indices: IntArray


class _Waiting:
    """The items of one job that wait, most expensive first; `given` is the padded cost of those that ran."""

    def __init__(self, number: int, costs: IntArray, owner: "_Owner") -> None:
        self.number = number
        self.owner = owner
        self.order = np.argsort(-costs, kind="stable")
        self.costs = np.maximum(1, costs[self.order])
        self.given = 0

    def take(self, most: int, least: int, room: int) -> IntArray:
        """Remove and return up to `room` items that cost between `least` and `most`."""
        start = int(np.searchsorted(-self.costs, -most, side="left"))
        stop = min(int(np.searchsorted(-self.costs, -least, side="right")), start + room)
        taken = self.order[start:stop]
        self.order = np.delete(self.order, slice(start, stop))
        self.costs = np.delete(self.costs, slice(start, stop))
        return taken


class _Owner:
    """One caller with jobs that wait, oldest first. `due` is its virtual time: padded cost that it was given."""

    def __init__(self, name: str, due: int) -> None:
        self.name = name
        self.due = due
        self.jobs: dict[int, _Waiting] = {}
        self.oldest_leads = True

    def in_turn(self) -> list[_Waiting]:
        """As many of its jobs as are looked at, the one that leads ahead."""
        order = nsmallest(_LOOK_AHEAD, self.jobs.values(), key=attrgetter("given"))
        oldest = next(iter(self.jobs.values()))
        return [oldest, *(job for job in order if job is not oldest)] if self.oldest_leads else order


class BatchQueue:
    """Jobs of owners, each job a number and the costs of its items.

    The job that leads, of the owner who got least, sets the length of the next batch by its most expensive item,
    and so is moved on. Others ride along while rows x length stays within the budget, if padding them to that
    length costs at most four times their own; room is shared out evenly before anyone gets more. An item above
    the whole budget goes alone. While small requests wait beside large ones, batches are smaller: they end sooner.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._owners: dict[str, _Owner] = {}
        self._jobs: dict[int, _Waiting] = {}
        self._now = 0
        self._left: dict[str, int] = {}
        """Virtual times of owners that wait for nothing, as long as they are ahead of `_now`."""

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: int, costs: IntArray, owner: str = "") -> None:
        """Queue a job's items; `job` must be new, `costs` must not be empty."""
        if job in self._jobs or not len(costs):
            raise ValueError(f"job {job} is queued already, or has no items")
        if owner not in self._owners:
            self._owners[owner] = _Owner(owner, max(self._now, self._left.pop(owner, 0)))
        waiting = _Waiting(job, costs, self._owners[owner])
        self._jobs[job] = waiting.owner.jobs[job] = waiting

    def drop(self, job: int) -> None:
        """Forget what still waits of a job; does nothing for one that is not queued."""
        waiting = self._jobs.pop(job, None)
        if waiting is None:
            return
        owner = waiting.owner
        del owner.jobs[job]
        if not owner.jobs:
            del self._owners[owner.name]
            self._left[owner.name] = owner.due
        if not self._owners:
            self._now = 0
            self._left.clear()

    def next_batch(self) -> list[Pick]:
        """Remove and return what the device should run next; empty when nothing waits."""
        candidates = self._in_turn()
        if not candidates:
            return []
        first = candidates[0]
        longest = int(first.costs[0])
        room = max(1, min(self._budget.rows, self._cost_now(candidates) // longest))
        self._pass_time(first.owner.due)
        first.owner.oldest_leads = not first.owner.oldest_leads
        picks = [
            Pick(waiting.number, indices) for waiting, indices in _fill(candidates, longest, room) if len(indices)
        ]
        for pick in picks:
            waiting, cost = self._jobs[pick.job], len(pick.indices) * longest
            waiting.given += cost
            waiting.owner.due += cost
        for pick in picks:
            if not len(self._jobs[pick.job].costs):
                self.drop(pick.job)
        return picks

    def _in_turn(self) -> list[_Waiting]:
        """What is looked at for a batch: of each owner the job that leads, then of each the next …"""
        owners = sorted(self._owners.values(), key=attrgetter("due"))[:_LOOK_AHEAD]
        rounds = zip_longest(*(owner.in_turn() for owner in owners))
        return list(islice((job for jobs in rounds for job in jobs if job is not None), _LOOK_AHEAD))

    def _cost_now(self, candidates: list[_Waiting]) -> int:
        """The budget of a batch: half of it while requests that had batches already wait beside new ones."""
        begun = sum(1 for waiting in candidates if waiting.given)
        return self._budget.cost // _HASTE if 0 < begun < len(candidates) else self._budget.cost

    def _pass_time(self, now: int) -> None:
        self._now = now
        if self._left:
            self._left = {name: due for name, due in self._left.items() if due > now}


def _fill(candidates: list[_Waiting], longest: int, room: int) -> Iterator[tuple[_Waiting, IntArray]]:
    """Share out `room` rows of `longest` tokens: to each candidate as many as to the others, the rest in turn."""
    least, share = -(-longest // _MOST_PADDING), -(-room // len(candidates))
    taken: dict[int, list[IntArray]] = {}
    for most in (share, room):
        for waiting in candidates:
            indices = waiting.take(longest, least, min(most, room))
            room -= len(indices)
            taken.setdefault(waiting.number, []).append(indices)
            if not room:
                break
    for waiting in candidates:
        if waiting.number in taken:
            yield waiting, np.concatenate(taken[waiting.number])
