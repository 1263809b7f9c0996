"""Runs prepared work on the device, each batch formed at the moment the device, or a lane of it, is free.

There is no timer: while a batch runs, what arrives waits and forms the next one. Work whose caller has left is
dropped before it runs. An item that breaks the forward fails its own request only.
"""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import count

import numpy as np

from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray, concat
from lakebed.serve.batch_queue import BatchQueue, Pick
from lakebed.serve.timings import Timings


class _Job:
    """One request's work, its vectors as they come, and who waits for them."""

    def __init__(self, work: Prepared, future: asyncio.Future[VectorArray], timings: Timings) -> None:
        self.work = work
        self.future = future
        self.timings = timings
        self.left = len(work)
        self.vectors: VectorArray | None = None

    def receive(self, indices: IntArray, vectors: VectorArray) -> None:
        """Store finished vectors; answers the caller with the last of them."""
        if self.vectors is None:
            self.vectors = np.empty((len(self.work), vectors.shape[1]), np.float32)
        self.vectors[indices] = vectors
        self.left -= len(indices)
        if not self.left and not self.future.done():
            self.future.set_result(self.vectors)

    def fail(self, error: BaseException) -> None:
        """Tell the caller."""
        if not self.future.done():
            self.future.set_exception(error)


class Scheduler:
    """Feeds one encoder's `forward` from many callers: `lanes` batches at a time, on the executor `device`.

    Lives in one event loop; nothing runs while nothing waits. `started` and `succeeded` say when, by the monotonic
    clock, it last had something to do and last brought something to an end. `on_batch` gets the costs of the items
    in every batch that ran.
    """

    def __init__(
        self,
        forward: Callable[[Prepared], VectorArray],
        device: Executor,
        budget: Budget,
        on_batch: Callable[[IntArray], None] = lambda _costs: None,
        lanes: int = 1,
    ) -> None:
        self._forward = forward
        self._on_batch = on_batch
        self._device = device
        self._queue = BatchQueue(budget)
        self._jobs: dict[int, _Job] = {}
        self._numbers = count()
        self._lanes = lanes
        self._drivers: set[asyncio.Task[None]] = set()
        self.started = self.succeeded = -math.inf

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return any(not driver.done() for driver in self._drivers)

    async def run(self, work: Prepared, owner: str = "", timings: Timings | None = None) -> VectorArray:
        """Return raw vectors (n, native dimensions) in the order of `work`; cancelling drops what waits.

        The device is shared out fairly between owners. `timings` gets what the queue and the forwards took.
        """
        number = next(self._numbers)
        job = _Job(work, asyncio.get_running_loop().create_future(), timings or Timings())
        entered = time.perf_counter()
        self._jobs[number] = job
        self._queue.add(number, work.costs, owner)
        if not self.busy:
            self.started = time.monotonic()
        # Asked here and not told by a callback, which would come after the caller that a driver's end has woken.
        self._drivers = {driver for driver in self._drivers if not driver.done()}
        for _ in range(min(self._lanes - len(self._drivers), len(work))):
            self._drivers.add(asyncio.create_task(self._drive()))
        try:
            return await job.future
        finally:
            job.timings.queue = max(0.0, time.perf_counter() - entered - job.timings.forward)
            self._queue.drop(number)
            self._jobs.pop(number, None)

    async def _drive(self) -> None:
        """Run one batch after the other until nothing waits."""
        try:
            while batch := self._queue.next_batch():
                await self._run(batch)
        except BaseException as error:  # without a driver nobody would ever be answered
            for job in self._jobs.values():
                job.fail(RuntimeError(f"the scheduler stopped: {type(error).__name__}"))
            raise

    async def _run(self, batch: list[Pick]) -> None:
        live = [(self._jobs[pick.job], pick) for pick in batch if pick.job in self._jobs]
        if not live:
            return
        parts = [(job.work, pick) for job, pick in live]
        loop = asyncio.get_running_loop()
        try:
            vectors, costs, seconds = await loop.run_in_executor(self._device, self._gather_and_forward, parts)
        except Exception as error:  # noqa: BLE001 - a user's encoder may raise anything; the caller gets it
            await self._isolate(live, error)
            return
        self.succeeded = time.monotonic()
        self._on_batch(costs)
        start = 0
        for job, pick in live:
            job.timings.forward += seconds
            job.receive(pick.indices, vectors[start : start + len(pick.indices)])
            start += len(pick.indices)

    async def _isolate(self, live: list[tuple[_Job, Pick]], error: Exception) -> None:
        """Find whose items broke the batch by running each job's part alone."""
        if len(live) == 1:
            job, pick = live[0]
            self._queue.drop(pick.job)
            job.fail(error)
            return
        for _, pick in live:
            await self._run([pick])

    def _gather_and_forward(self, parts: list[tuple[Prepared, Pick]]) -> tuple[VectorArray, IntArray, float]:
        """On the device's thread: the vectors, what each item cost, and the seconds it all took."""
        started = time.perf_counter()
        batch = concat([work.take(pick.indices) for work, pick in parts])
        vectors = self._forward(batch)
        return vectors, batch.costs, time.perf_counter() - started
