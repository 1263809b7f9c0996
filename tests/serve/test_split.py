"""The split shape's pieces: cutting work into parts, asking replicas, finding a version that is not held yet."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError

from lakebed.platform.config.serve import Batching, ServeConfig
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import Model, resolve_model
from lakebed.platform.encoder.prepared import Prepared
from lakebed.platform.items import Item
from lakebed.serve.errors import NotReadyError
from lakebed.serve.meter import Meter
from lakebed.serve.split import Forwarded, ModelServer, RemoteRunner, parts_of
from lakebed.serve.timings import Timings

ENCODER = FakeEncoder(8)
MODEL = resolve_model("fake:8")


class Handle:
    """Calls a model server in this process, as Serve's handle calls one elsewhere; first fails `deaths` times."""

    def __init__(self, server: ModelServer, deaths: int = 0) -> None:
        self.server = server
        self.deaths = deaths
        self.sizes: list[int] = []
        self.forward = self

    async def remote(self, reference: str, digest: str, work: Prepared, owner: str) -> Forwarded:
        if self.deaths:
            self.deaths -= 1
            raise ActorDiedError
        self.sizes.append(len(work))
        return await self.server.forward(reference, digest, work, owner)


def model_server(model: Model = MODEL) -> ModelServer:
    config = ServeConfig(models={"m": model.reference}, batching=Batching(tokens=8, rows=4), device="cpu")
    return ModelServer(config, "m", model)


def ask(handle: Any, texts: list[str], part_cost: int = 6, timings: Timings | None = None) -> np.ndarray:
    digest = ENCODER.info.digest

    async def story() -> np.ndarray:
        runner = RemoteRunner(handle, MODEL, digest, part_cost, Meter())
        assert not runner.busy
        vectors = await runner.run(ENCODER.prepare([Item.of(text) for text in texts]), "key", timings)
        assert not runner.busy
        assert runner.succeeded >= runner.started
        return vectors

    return asyncio.run(story())


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 100))
def test_parts_cover_every_item_once_within_their_cost(costs: list[int], part_cost: int) -> None:
    parts = list(parts_of(np.array(costs), part_cost))
    assert sorted(int(index) for part in parts for index in part) == list(range(len(costs)))
    for part in parts:
        assert len(part) == 1 or sum(costs[index] for index in part) <= part_cost


def test_a_large_request_is_shared_out_and_put_together_in_its_order() -> None:
    texts = [f"text {number}" + " word" * (number % 5) for number in range(20)]
    handle, timings = Handle(model_server()), Timings()
    vectors = ask(handle, texts, timings=timings)
    np.testing.assert_array_equal(vectors, ENCODER.forward(ENCODER.prepare([Item.of(text) for text in texts])))
    assert len(handle.sizes) > 5
    assert timings.forward > 0
    assert handle.server.queued_tokens == 0


def test_another_replica_is_asked_when_one_dies() -> None:
    assert len(ask(Handle(model_server(), deaths=2), ["one text"])) == 1


def test_a_request_that_no_replica_answers_is_to_be_sent_again() -> None:
    with pytest.raises(NotReadyError):
        ask(Handle(model_server(), deaths=100), ["one text"])


def run_on(server: ModelServer, story: Callable[[ModelServer], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        return await story(server)

    return asyncio.run(whole())


def test_a_replica_finds_a_version_that_it_does_not_hold_and_keeps_the_one_before() -> None:
    server = model_server()

    async def story(server: ModelServer) -> None:
        for dimensions in (8, 16, 8, 16):
            encoder = FakeEncoder(dimensions)
            work = encoder.prepare([Item.of("a text")])
            forwarded = await server.forward(f"fake:{dimensions}", encoder.info.digest, work, "")
            np.testing.assert_array_equal(forwarded.vectors, encoder.forward(work))
        await server.check()

    run_on(server, story)


def test_a_version_that_is_not_what_was_asked_for_is_never_used() -> None:
    async def story(server: ModelServer) -> None:
        work = ENCODER.prepare([Item.of("a text")])
        with pytest.raises(NotReadyError):
            await server.forward("fake:16", "another digest", work, "")

    run_on(model_server(), story)


def test_a_moving_reference_is_pinned_to_the_version_that_was_prepared_for() -> None:
    moving = replace(MODEL, reference="m@champion", version=7)

    class Recorder:
        def __init__(self) -> None:
            self.forward = self
            self.asked: list[str] = []

        async def remote(self, reference: str, digest: str, work: Prepared, owner: str) -> Forwarded:
            self.asked.append(reference)
            return Forwarded(ENCODER.forward(work), 0.0, 0.1)

    recorder, meter, work = Recorder(), Meter(), ENCODER.prepare([Item.of("a text")])
    runner = RemoteRunner(recorder, moving, ENCODER.info.digest, 100, meter, replicas=3)
    asyncio.run(runner.run(work))
    assert recorder.asked == ["m@7"]
    assert meter.rate == pytest.approx(3 * work.costs.sum() / 0.1)
