"""Runs prepared work on the device, each batch formed at the moment the device, or a lane of it, is free.

There is no timer: while a batch runs, what arrives waits and forms the next one. A thread of the device forms it,
so that it never waits for the event loop, which has requests to read and answers to write. Work whose caller has
left is dropped before it runs. An item that breaks the forward fails its own request only.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import count

import numpy as np

from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray, concat
from lakebed.serve.batch_queue import BatchQueue, Pick
from lakebed.serve.timings import Timings

_log = logging.getLogger(__name__)


class _Job:
    """One request's work, its vectors as they come, and who waits for them, in which event loop."""

    def __init__(self, work: Prepared, timings: Timings) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[VectorArray] = self.loop.create_future()
        self.timings = timings
        self.left = len(work)
        self.vectors: VectorArray | None = None

    def receive(self, indices: IntArray, vectors: VectorArray) -> None:
        """Store finished vectors; answers the caller with the last of them."""
        if self.vectors is None:
            self.vectors = np.empty((len(self.work), vectors.shape[1]), np.float32)
        self.vectors[indices] = vectors
        self.left -= len(indices)
        if not self.left:
            self._tell(self._answer)

    def fail(self, error: BaseException) -> None:
        """Tell the caller."""
        self._tell(self._refuse, error)

    def _tell(self, tell: Callable[..., None], *arguments: BaseException) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(tell, *arguments)

    def _answer(self) -> None:
        if not self.future.done() and self.vectors is not None:
            self.future.set_result(self.vectors)

    def _refuse(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Scheduler:
    """Feeds one encoder's `forward` from many callers: `lanes` batches at a time, on the executor `device`.

    Callers live in an event loop, batches on the device's threads; a lock is between them. `started` and
    `succeeded` say when, by the monotonic clock, it last had something to do and last brought something to an end.
    `on_batch` gets, on a thread of the device, the costs of the items in every batch that ran.
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
        self._lanes = lanes
        self._lock = threading.Lock()
        self._queue = BatchQueue(budget)
        self._jobs: dict[int, _Job] = {}
        self._numbers = count()
        self._running = 0
        self.started = self.succeeded = -math.inf

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self._running > 0

    async def run(self, work: Prepared, owner: str = "", timings: Timings | None = None) -> VectorArray:
        """Return raw vectors (n, native dimensions) in the order of `work`; cancelling drops what waits.

        The device is shared out fairly between owners. `timings` gets what the queue and the forwards took.
        """
        number, job = next(self._numbers), _Job(work, timings or Timings())
        entered = time.perf_counter()
        with self._lock:
            if not self.busy:
                self.started = time.monotonic()
            self._jobs[number] = job
            self._queue.add(number, work.costs, owner)
            lanes = min(self._lanes - self._running, len(work))
            self._running += lanes
        for _ in range(lanes):
            self._device.submit(self._run_batch)
        try:
            return await job.future
        finally:
            job.timings.queue = max(0.0, time.perf_counter() - entered - job.timings.forward)
            with self._lock:
                self._queue.drop(number)
                self._jobs.pop(number, None)

    def _run_batch(self) -> None:
        """On a thread of the device: run a batch and see to the next, which takes its turn with other models'."""
        try:
            with self._lock:
                live = [(self._jobs[pick.job], pick) for pick in self._queue.next_batch()]
            if live:
                self._run(live)
        except BaseException as error:  # noqa: BLE001 - without anybody who runs batches, nobody would ever be answered
            with self._lock:
                waiting = list(self._jobs.values())
            for job in waiting:
                job.fail(RuntimeError(f"the scheduler stopped: {type(error).__name__}"))
            _log.exception("no batch could be formed")
        finally:
            with self._lock:
                again = len(self._queue) > 0
                self._running -= not again
            if again:
                self._device.submit(self._run_batch)

    def _run(self, live: list[tuple[_Job, Pick]]) -> None:
        try:
            vectors, costs, seconds = self._gather_and_forward(live)
        except Exception as error:  # noqa: BLE001 - a user's encoder may raise anything; the caller gets it
            self._isolate(live, error)
            return
        self.succeeded = time.monotonic()
        self._on_batch(costs)
        start = 0
        with self._lock:
            for job, pick in live:
                job.timings.forward += seconds
                job.receive(pick.indices, vectors[start : start + len(pick.indices)])
                start += len(pick.indices)

    def _isolate(self, live: list[tuple[_Job, Pick]], error: Exception) -> None:
        """Find whose items broke the batch by running each job's part alone."""
        if len(live) == 1:
            job, pick = live[0]
            with self._lock:
                self._queue.drop(pick.job)
            job.fail(error)
            return
        for one in live:
            self._run([one])

    def _gather_and_forward(self, live: list[tuple[_Job, Pick]]) -> tuple[VectorArray, IntArray, float]:
        """The vectors, what each item cost, and the seconds it all took."""
        started = time.perf_counter()
        batch = concat([job.work.take(pick.indices) for job, pick in live])
        vectors = self._forward(batch)
        return vectors, batch.costs, time.perf_counter() - started
