"""Which items go into the next device batch: fair to callers and requests, within a token budget, little padding.

Pure: no clock, no threads, no arrays but costs. `scheduler.Scheduler` asks it for a batch when the device is free.

Between callers it is start-time fair queueing (Goyal, Vin and Cheng 1996) by the cost of what each was given: who
got least goes first, and who comes back after a pause starts where the others are, with neither debt
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
_HASTE: Final = 4


@dataclass(frozen=True)
class Pick:
    """Items `indices` of job `job`."""

    job: int
    indices: IntArray


class _Waiting:
    """The items of one job that wait, most expensive first; `given` is the cost of those that ran."""

    def __init__(self, number: int, costs: IntArray, owner: "_Owner") -> None:
        self.number = number
        self.owner = owner
        self.order = np.argsort(-costs, kind="stable")
        self.costs = np.maximum(1, costs[self.order])
        self.left = int(self.costs.sum())
        self.given = 0

    def take(self, most: int, least: int, room: Budget) -> tuple[IntArray, int]:
        """Remove items that cost between `least` and `most`, within `room`; return them and their cost."""
        start = int(np.searchsorted(-self.costs, -most, side="left"))
        stop = min(int(np.searchsorted(-self.costs, -least, side="right")), start + room.rows)
        sums = self.costs[start:stop].cumsum()
        stop = start + int(np.searchsorted(sums, room.cost, side="right"))
        taken, cost = self.order[start:stop], int(sums[stop - start - 1]) if stop > start else 0
        self.order = np.delete(self.order, slice(start, stop))
        self.costs = np.delete(self.costs, slice(start, stop))
        return taken, cost


class _Owner:
    """One caller with jobs that wait, oldest first. `due` is its virtual time: the cost that it was given."""

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

    The job that leads, of the owner who got least, has its most expensive item in the next batch, and so is moved
    on. Others ride along while all costs together stay within the budget, if an encoder that pads them to that
    length would spend at most four times their own; room is shared out evenly before anyone gets more. An item
    above the whole budget goes alone. While small requests wait beside large ones, batches end sooner.
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
        self._pass_time(first.owner.due)
        first.owner.oldest_leads = not first.owner.oldest_leads
        picks = []
        for waiting, indices, cost in _fill(candidates, self._room(candidates)):
            picks.append(Pick(waiting.number, indices))
            waiting.given += cost
            waiting.left -= cost
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

    def _room(self, candidates: list[_Waiting]) -> Budget:
        """The budget of a batch: a quarter of it while small new requests wait beside some that had batches."""
        hasty = self._budget.cost // _HASTE
        small = any(not waiting.given and waiting.left <= hasty for waiting in candidates)
        cost = hasty if small and any(waiting.given for waiting in candidates) else self._budget.cost
        return Budget(max(cost, int(candidates[0].costs[0])), self._budget.rows)

    def _pass_time(self, now: int) -> None:
        self._now = now
        if self._left:
            self._left = {name: due for name, due in self._left.items() if due > now}


def _fill(candidates: list[_Waiting], room: Budget) -> Iterator[tuple[_Waiting, IntArray, int]]:
    """Share `room` out: the first one's most expensive item, then as much to each, then the rest in turn."""
    longest = int(candidates[0].costs[0])
    least, share = -(-longest // _MOST_PADDING), room.cost // len(candidates)
    taken: dict[int, list[tuple[IntArray, int]]] = {}
    left, rows = room.cost, room.rows
    for first, most in ((longest, share), (room.cost, room.cost)):
        for waiting in candidates:
            if not rows or left < least:
                break
            allowed = max(first, most) if waiting is candidates[0] else most
            indices, cost = waiting.take(longest, least, Budget(max(1, min(allowed, left)), rows))
            left, rows = left - cost, rows - len(indices)
            if cost:
                taken.setdefault(waiting.number, []).append((indices, cost))
    for waiting in candidates:
        if parts := taken.get(waiting.number):
            yield waiting, np.concatenate([indices for indices, _ in parts]), sum(cost for _, cost in parts)
