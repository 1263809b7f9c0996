"""Refusals and retries, as openai and inertialai-python see them over real HTTP."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import inertialai_python
import openai
import pytest
from fastapi import FastAPI
from inertialai_python import EmbeddingModel
from inertialai_python.types import EmbeddingMultiModalInput
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakebed.platform.config.serve import INERTIAL_NAME, Limits
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.serve.auth import NoKeys, StoredKeys
from lakebed.serve.errors import NotReadyError
from lakebed.serve.store.database import open_database

AppFactory = Callable[..., FastAPI]
Listen = Callable[[ASGIApp], str]

TEXT = "word " * 40
SMALL = Limits(max_queued_tokens=50, max_request_tokens=50, max_input_tokens=50)


@dataclass
class Watched:
    """An application that writes down each answer's status, and which attempt of openai's client it answers."""

    app: ASGIApp
    on_refusal: Callable[[], None] = lambda: None
    answers: list[tuple[int, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                attempt = dict(scope["headers"]).get(b"x-stainless-retry-count", b"-").decode()
                self.answers.append((message["status"], attempt))
                if message["status"] >= 400:
                    self.on_refusal()
            await send(message)

        await self.app(scope, receive, watch)

    @property
    def statuses(self) -> list[int]:
        return [status for status, _ in self.answers]


def ask_openai(url: str, retries: int, text: str = TEXT) -> int:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-wrong", max_retries=retries) as client:
        return len(client.embeddings.create(model="fake", input=text).data)


def ask_openai_async(url: str, retries: int) -> int:
    async def ask() -> int:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-wrong", max_retries=retries) as client:
            return len((await client.embeddings.create(model="fake", input=TEXT)).data)

    return asyncio.run(ask())


INERTIAL: dict[str, Any] = {
    "model": EmbeddingModel.INERTIAL_EMBED_ALPHA,
    "input": [EmbeddingMultiModalInput(text=TEXT)],
}


def ask_inertialai(url: str, retries: int) -> int:
    with inertialai_python.InertialAI(base_url=url, api_key="iai_wrong", max_retries=retries) as client:
        return len(client.embeddings.create(**INERTIAL).data)


def ask_inertialai_async(url: str, retries: int) -> int:
    async def ask() -> int:
        options: dict[str, Any] = {"base_url": url, "api_key": "iai_wrong", "max_retries": retries}
        async with inertialai_python.AsyncInertialAI(**options) as client:
            return len((await client.embeddings.create(**INERTIAL)).data)

    return asyncio.run(ask())


CLIENTS = [ask_openai, ask_openai_async, ask_inertialai, ask_inertialai_async]


@pytest.fixture
def busy(app_of: AppFactory, listen: Listen) -> Iterator[tuple[str, Watched]]:
    """A server that is full until it has refused somebody."""
    gate, inside = threading.Event(), threading.Event()

    class Gated(FakeEncoder):
        def forward(self, work: Prepared) -> VectorArray:
            inside.set()
            assert gate.wait(30)
            return super().forward(work)

    watched = Watched(app_of(SMALL, encoder=Gated(64)), on_refusal=gate.set)
    url = listen(watched)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(httpx.post, f"{url}/v1/embeddings", json={"model": "fake", "input": TEXT}, timeout=60)
        assert inside.wait(30)
        yield url, watched
        gate.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_client_comes_back_after_429(busy: tuple[str, Watched], ask: Callable[[str, int], int]) -> None:
    url, watched = busy
    assert ask(url, 2) == 1
    assert watched.statuses[0] == 429
    assert watched.statuses[-1] in (200, 201)


class StartsLate(NoKeys):
    """Cannot answer the first time, as a key store that is starting."""

    asked = 0

    async def check(self, authorization: str | None, address: str | None = None) -> None:
        self.asked += 1
        if self.asked == 1:
            raise NotReadyError("starting")


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_client_comes_back_after_503(app_of: AppFactory, listen: Listen, ask: Callable[[str, int], int]) -> None:
    watched = Watched(app_of(authenticator=StartsLate()))
    assert ask(listen(watched), 2) == 1
    assert len(watched.answers) == 2
    assert watched.statuses[0] == 503


def test_openai_counts_its_retries(busy: tuple[str, Watched]) -> None:
    url, watched = busy
    ask_openai(url, 2)
    assert [answer for answer in watched.answers if answer[1] != "-"] == [(429, "0"), (200, "1")]


def test_a_faulty_request_is_not_tried_again(app_of: AppFactory, listen: Listen) -> None:
    watched = Watched(app_of())
    with pytest.raises(openai.BadRequestError):
        ask_openai(listen(watched), 2, text="")
    assert watched.statuses == [400]


@pytest.mark.parametrize(
    ("ask", "expected"),
    [(ask_openai, openai.RateLimitError), (ask_inertialai, inertialai_python.RateLimitError)],
)
def test_a_full_server_is_a_rate_limit_error(
    busy: tuple[str, Watched], ask: Callable[[str, int], int], expected: type[Exception]
) -> None:
    with pytest.raises(expected, match="the server is busy") as caught:
        ask(busy[0], 0)
    headers = caught.value.response.headers  # type: ignore[attr-defined]
    assert float(headers["retry-after"]) > 0
    assert float(headers["retry-after-ms"]) > 0


class Broken(FakeEncoder):
    def forward(self, work: Prepared) -> VectorArray:
        raise RuntimeError("spoilt weights")


@pytest.fixture
def faulty(request: pytest.FixtureRequest, app_of: AppFactory, listen: Listen, key_store: str) -> str:
    """A server that answers with the status that is asked for."""
    options: dict[int, dict[str, Any]] = {
        401: {"authenticator": StoredKeys(open_database(key_store), 1.0)},
        413: {"limits": Limits(max_body_bytes=10)},
        422: {"limits": Limits(max_input_tokens=8)},
        500: {"encoder": Broken(64)},
        503: {"authenticator": StartsLate()},
    }
    return listen(app_of(**options[request.param]))


@pytest.mark.parametrize(
    ("faulty", "expected", "code"),
    [
        (401, openai.AuthenticationError, "invalid_api_key"),
        (413, openai.APIStatusError, "payload_too_large"),
        (422, openai.BadRequestError, "input_too_large"),
        (500, openai.InternalServerError, "internal_error"),
        (503, openai.InternalServerError, "overloaded"),
    ],
    indirect=["faulty"],
)
def test_openai_has_a_class_and_a_code_for_each_fault(
    faulty: str, expected: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask_openai(faulty, 0)
    assert type(caught.value) is expected
    assert caught.value.code == code
    assert caught.value.message.startswith(f"Error code: {caught.value.status_code}")


@pytest.mark.parametrize("faulty", [422], indirect=True)
def test_openai_on_inertialai_s_path_has_its_class_for_422(faulty: str) -> None:
    client = openai.OpenAI(base_url=f"{faulty}/api/v1", api_key="sk", max_retries=0)
    with client, pytest.raises(openai.UnprocessableEntityError) as caught:
        client.embeddings.create(model=INERTIAL_NAME, input=TEXT)
    assert caught.value.code == "input_too_large"


@pytest.mark.parametrize(
    ("faulty", "expected", "message"),
    [
        (401, inertialai_python.AuthenticationError, "incorrect API key"),
        (413, inertialai_python.APIStatusError, "over 10 bytes"),
        (422, inertialai_python.ValidationError, "at most 8 are allowed"),
        (500, inertialai_python.InternalServerError, "the server failed"),
        (503, inertialai_python.InternalServerError, "starting"),
    ],
    indirect=["faulty"],
)
@pytest.mark.parametrize("ask", [ask_inertialai, ask_inertialai_async])
def test_inertialai_has_a_class_and_a_message_for_each_fault(
    faulty: str, ask: Callable[[str, int], int], expected: type[Exception], message: str
) -> None:
    with pytest.raises(inertialai_python.APIStatusError) as caught:
        ask(faulty, 0)
    assert type(caught.value) is expected
    assert message in str(caught.value)
    assert not str(caught.value).startswith("{")
