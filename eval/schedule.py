"""The order of work: chunks are encoded, and a data set's task begins when its vectors are there.

Looks up before it asks: vectors that are on disk, and results that were kept. Tasks that measure time run at the
end, one after the other, with nothing beside them. Knows nothing of suites or MLflow, and not where the work is
done.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lakebed.eval.brought_vectors import brought_vectors
from lakebed.eval.chunks import Chunk, ChunkedSet
from lakebed.eval.datasets import Dataset
from lakebed.eval.kept_results import KeptResults
from lakebed.eval.progress import Watcher
from lakebed.eval.tasks.protocol import Task, TaskResult, Vectors, is_lasting, require_finite
from lakebed.eval.vector_files import VectorFiles
from lakebed.eval.workplace import Assignment, Workplace, runs_alone
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import truncate
from lakebed.platform.errors import LakebedError


@dataclass(frozen=True, eq=False)
class Planned:
    """A data set and its task; `key` says what its scores depend on, None where nobody knows all of that."""

    data: Dataset
    task: Task
    lengths: Sequence[int] = ()
    key: str | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a planned data set; `kept` says that the result is from an earlier evaluation."""

    planned: Planned
    vectors: Vectors = field(repr=False)
    result: TaskResult
    kept: bool = False


@dataclass(frozen=True)
class Stores:
    """What is known from before; `model` is the key of the model's vectors in `vectors`."""

    model: str = ""
    vectors: VectorFiles | None = None
    results: KeptResults | None = None
    again: bool = False

    def find_vectors(self, chunk: Chunk) -> VectorArray | None:
        """Vectors of a chunk that are on disk."""
        return self.vectors.find(self.model, chunk.key) if self.vectors else None

    def store_vectors(self, chunk: Chunk, vectors: VectorArray) -> None:
        """Keep them."""
        if self.vectors:
            self.vectors.store(self.model, chunk.key, vectors)

    def find_result(self, planned: Planned) -> TaskResult | None:
        """A result of an earlier evaluation; never one that another day changes."""
        if self.results is None or planned.key is None or self.again or not is_lasting(planned.task):
            return None
        return self.results.find(planned.key)

    def keep_result(self, planned: Planned, result: TaskResult) -> None:
        """Keep a result for later."""
        if self.results is not None and planned.key is not None and is_lasting(planned.task):
            self.results.keep(planned.key, result)


@dataclass
class Spent:
    """Seconds of wall-clock during which something of a phase was under way, and rows that were encoded."""

    embed: float = 0.0
    tasks: float = 0.0
    rows: int = 0


class Schedule:
    """Brings planned data sets to their outcomes at one place of work; `spent` says what that took."""

    def __init__(self, place: Workplace, stores: Stores, dimensions: int | None, watcher: Watcher) -> None:
        self._place = place
        self._stores = stores
        self._dimensions = dimensions
        self._watcher = watcher
        self._queue: deque[tuple[_SetInWork, int]] = deque()
        self._pending: dict[Future[Any], Callable[[Any], None]] = {}
        self._alone: list[_SetInWork] = []
        self._outcomes: dict[int, Outcome] = {}
        self._encoding = self._measuring = 0
        self._clock = time.perf_counter()
        self.spent = Spent()

    def run(self, plan: Sequence[Planned]) -> list[Outcome]:
        """Measure every set; returns outcomes in the order of the plan. The first error ends it."""
        sets = iter([_SetInWork(number, one) for number, one in enumerate(plan)])
        self._clock = time.perf_counter()
        while True:
            self._feed(sets)
            if not self._pending:
                break
            finished, _ = wait(self._pending, return_when=FIRST_COMPLETED)
            self._count_time()
            for future in finished:
                self._pending.pop(future)(future.result())
        for one in self._alone:
            self._run_alone(one)
        return [self._outcomes[number] for number in range(len(plan))]

    def _feed(self, sets: "Iterator[_SetInWork]") -> None:
        """Keep as much under way as the place wants, looking up what is there already."""
        while max(self._encoding, self._measuring) < self._place.width:
            if not self._queue:
                one = next(sets, None)
                if one is None:
                    return
                self._begin(one)
                continue
            one, number = self._queue.popleft()
            self._count_time()
            self._encoding += 1
            future = self._place.encode(one.chunks[number].items)
            self._count_time()
            self._pending[future] = self._encoded(one, number)

    def _begin(self, one: "_SetInWork") -> None:
        for number, chunk in enumerate(one.chunks):
            found = self._stores.find_vectors(chunk)
            if found is None:
                self._queue.append((one, number))
            else:
                one.vectors[number] = found
                self._watcher.encoded(len(chunk), kept=True)
        if one.is_whole:
            self._vectors_are_there(one)
        else:
            self._watcher.encoding(one.data.name)

    def _encoded(self, one: "_SetInWork", number: int) -> Callable[[VectorArray], None]:
        def done(vectors: VectorArray) -> None:
            self._encoding -= 1
            chunk = one.chunks[number]
            _check_finite(vectors, one.data, self._place.info.name)
            self._stores.store_vectors(chunk, vectors)
            one.vectors[number] = vectors
            self.spent.rows += len(chunk)
            self._watcher.encoded(len(chunk), kept=False)
            if one.is_whole:
                self._vectors_are_there(one)

        return done

    def _vectors_are_there(self, one: "_SetInWork") -> None:
        kept = self._stores.find_result(one.planned)
        if kept is not None:
            self._finish(one, self._vectors_of(one), kept, kept=True)
        elif runs_alone(one.planned.task):
            self._alone.append(one)
        else:
            self._measure(one)

    def _measure(self, one: "_SetInWork") -> None:
        assignment = self._assignment(one)

        def done(result: TaskResult) -> None:
            self._measuring -= 1
            self._finish(one, assignment.vectors, result)

        self._count_time()
        self._measuring += 1
        future = self._place.run(assignment)
        self._count_time()
        self._pending[future] = done

    def _assignment(self, one: "_SetInWork") -> Assignment:
        return Assignment(one.planned.task, one.data, self._vectors_of(one), one.planned.lengths)

    def _vectors_of(self, one: "_SetInWork") -> Vectors:
        """Vectors by part, cut to the length that is measured: those that the set brings, or that were encoded."""
        brought = brought_vectors(one.data, self._place.info, self._dimensions)
        if brought is not None:
            return brought
        return {name: truncate(part, self._dimensions) for name, part in one.joined().items()}

    def _run_alone(self, one: "_SetInWork") -> None:
        assignment = self._assignment(one)
        self._count_time()
        self._measuring += 1
        result = self._place.run_alone(assignment)
        self._count_time()
        self._measuring -= 1
        self._finish(one, assignment.vectors, result)

    def _finish(self, one: "_SetInWork", vectors: Vectors, result: TaskResult, *, kept: bool = False) -> None:
        require_finite(result, one.data, one.planned.task)
        if not kept:
            self._stores.keep_result(one.planned, result)
        self._outcomes[one.number] = Outcome(one.planned, vectors, result, kept)
        self._watcher.measured(one.data.name, one.planned.task.name, kept=kept)

    def _count_time(self) -> None:
        """Give the time since the last call to the phases that were under way; called before that changes."""
        now = time.perf_counter()
        passed, self._clock = now - self._clock, now
        self.spent.embed += passed if self._encoding else 0
        self.spent.tasks += passed if self._measuring else 0


class _SetInWork:
    """A data set some of whose chunks have their vectors."""

    def __init__(self, number: int, planned: Planned) -> None:
        self.number = number
        self.planned = planned
        self.data = planned.data
        self._chunked = ChunkedSet.of(planned.data)
        self.chunks = self._chunked.chunks  # none where the set brings vectors
        self.vectors: list[VectorArray | None] = [None] * len(self.chunks)

    @property
    def is_whole(self) -> bool:
        return all(vectors is not None for vectors in self.vectors)

    def joined(self) -> Vectors:
        """Whole vectors by part."""
        return self._chunked.joined([vectors for vectors in self.vectors if vectors is not None])


def _check_finite(vectors: VectorArray, data: Dataset, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise LakebedError(
            f"data set {data.name}: {name} gave {len(bad)} vectors that are not finite numbers",
            hint="its scores would mean nothing",
        )
