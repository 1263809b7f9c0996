"""The scheduler against a device that the test opens and closes by hand."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.items import Item
from lakebed.serve.scheduler import Scheduler

ENCODER = FakeEncoder(8)


class Device:
    """A forward that waits at a gate, remembers what it ran, and breaks on the texts it is told to."""

    def __init__(self, *, poison: str | None = None) -> None:
        self.open = threading.Event()
        self.busy = threading.Event()
        self.sizes: list[int] = []
        self._poison = None if poison is None else ENCODER.prepare([Item.of(poison)]).columns["key"].row(0)

    def forward(self, work: Prepared) -> VectorArray:
        self.busy.set()
        assert self.open.wait(10)
        self.sizes.append(len(work))
        keys = work.columns["key"]
        if any(np.array_equal(keys.row(i), self._poison) for i in range(len(work))):
            raise ValueError("a poisoned item")
        return ENCODER.forward(work)

    async def wait_until_busy(self) -> None:
        await asyncio.to_thread(self.busy.wait, 10)


def prepared(*texts: str) -> Prepared:
    return ENCODER.prepare([Item.of(text) for text in texts])


def alone(text: str) -> VectorArray:
    return ENCODER.forward(prepared(text))[0]


def run(device: Device, story: Callable[[Scheduler], Awaitable[None]], rows: int = 100) -> None:
    with ThreadPoolExecutor(1) as thread:
        scheduler = Scheduler(device.forward, thread, Budget(cost=10_000, rows=rows))
        asyncio.run(asyncio.wait_for(_as_coroutine(story, scheduler), 20))


async def _as_coroutine(story: Callable[[Scheduler], Awaitable[None]], scheduler: Scheduler) -> None:
    await story(scheduler)


def test_what_arrives_while_the_device_is_busy_forms_one_batch() -> None:
    device = Device()

    async def story(scheduler: Scheduler) -> None:
        first = asyncio.create_task(scheduler.run(prepared("first")))
        await device.wait_until_busy()
        others = [asyncio.create_task(scheduler.run(prepared(f"other {i}"))) for i in range(7)]
        await asyncio.sleep(0)
        device.open.set()
        await asyncio.gather(first, *others)

    run(device, story)
    assert device.sizes == [1, 7]


def test_each_caller_gets_its_own_vectors_in_its_own_order() -> None:
    device = Device()
    device.open.set()
    requests = [[f"text {i} {' word' * j}" for j in range(1, 9)] for i in range(20)]

    async def story(scheduler: Scheduler) -> None:
        answers = await asyncio.gather(*(scheduler.run(prepared(*texts)) for texts in requests))
        for texts, vectors in zip(requests, answers, strict=True):
            np.testing.assert_array_equal(vectors, np.stack([alone(text) for text in texts]))

    run(device, story, rows=5)
    assert max(device.sizes) == 5


def test_who_asks_again_the_moment_it_is_answered_is_answered_again() -> None:
    device = Device()
    device.open.set()

    async def story(scheduler: Scheduler) -> None:
        for number in range(20):
            text = f"text {number}"
            np.testing.assert_array_equal((await scheduler.run(prepared(text)))[0], alone(text))

    run(device, story)


def test_work_whose_caller_left_never_runs() -> None:
    device = Device()

    async def story(scheduler: Scheduler) -> None:
        first = asyncio.create_task(scheduler.run(prepared("first")))
        await device.wait_until_busy()
        left = asyncio.create_task(scheduler.run(prepared("left", "behind")))
        stayed = asyncio.create_task(scheduler.run(prepared("stayed")))
        await asyncio.sleep(0)
        left.cancel()
        device.open.set()
        await asyncio.gather(first, stayed)
        assert left.cancelled()

    run(device, story)
    assert device.sizes == [1, 1]


def test_a_caller_may_leave_while_its_batch_runs() -> None:
    device = Device()

    async def story(scheduler: Scheduler) -> None:
        leaver = asyncio.create_task(scheduler.run(prepared("leaver")))
        await device.wait_until_busy()
        leaver.cancel()
        device.open.set()
        np.testing.assert_array_equal((await scheduler.run(prepared("next")))[0], alone("next"))

    run(device, story)


def test_a_poisoned_item_fails_only_its_own_request() -> None:
    device = Device(poison="poison")

    async def story(scheduler: Scheduler) -> None:
        first = asyncio.create_task(scheduler.run(prepared("first")))
        await device.wait_until_busy()
        bad = asyncio.create_task(scheduler.run(prepared("fine", "poison")))
        good = asyncio.create_task(scheduler.run(prepared("good")))
        await asyncio.sleep(0)
        device.open.set()
        await first
        np.testing.assert_array_equal((await good)[0], alone("good"))
        with pytest.raises(ValueError, match="poisoned"):
            await bad
        np.testing.assert_array_equal((await scheduler.run(prepared("later")))[0], alone("later"))

    run(device, story)


def test_a_busy_scheduler_says_so_until_its_work_is_done() -> None:
    device = Device()

    async def story(scheduler: Scheduler) -> None:
        assert not scheduler.busy
        first = asyncio.create_task(scheduler.run(prepared("first")))
        await device.wait_until_busy()
        assert scheduler.busy
        assert scheduler.succeeded < scheduler.started
        device.open.set()
        await first
        assert scheduler.succeeded >= scheduler.started

    run(device, story)
