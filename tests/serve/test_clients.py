"""A real server behind HAProxy, asked by the clients that people have: openai, inertialai-python, raw HTTP."""

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import inertialai_python
import numpy as np
import openai
import pytest
from inertialai_python import EmbeddingEncodingFormat, EmbeddingModel
from inertialai_python.types import EmbeddingMultiModalInput

from lakebed.platform.config.serve import INERTIAL_NAME, ServeConfig
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item
from lakebed.serve.errors import ServerError
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key, revoke_key

SERIES = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
INERTIAL = EmbeddingModel.INERTIAL_EMBED_ALPHA


def expected(*items: Item, dimensions: int | None = None) -> Any:
    return encode(FakeEncoder(64), items, dimensions).vectors


@pytest.fixture
def openai_client(server_url: str, server_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key=server_key, max_retries=0) as client:
        yield client


@pytest.fixture
def inertial_client(server_url: str, server_key: str) -> Iterator[inertialai_python.InertialAI]:
    with inertialai_python.InertialAI(base_url=server_url, api_key=server_key, max_retries=0) as client:
        yield client


@pytest.fixture
def raw(server_url: str, server_key: str) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server_key}"}
    with httpx.Client(base_url=server_url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def test_openai_gets_the_vectors_it_asked_for(openai_client: openai.OpenAI) -> None:
    answer = openai_client.embeddings.create(model="fake", input=["a pump", "a fan"])
    vectors = np.array([entry.embedding for entry in answer.data], np.float32)
    np.testing.assert_array_equal(vectors, expected(Item.of("a pump"), Item.of("a fan")))
    assert (answer.model, answer.object, answer.usage.prompt_tokens, answer.usage.total_tokens) == (
        "fake",
        "list",
        4,
        4,
    )


def test_openai_s_own_base64_and_asked_for_floats_agree(openai_client: openai.OpenAI) -> None:
    decoded = openai_client.embeddings.create(model="fake", input="a pump").data[0].embedding
    floats = openai_client.embeddings.create(model="fake", input="a pump", encoding_format="float")
    np.testing.assert_array_equal(np.array(decoded, np.float32), np.array(floats.data[0].embedding, np.float32))


def test_openai_may_send_series_as_objects_or_as_one_json_string(openai_client: openai.OpenAI) -> None:
    batch: Any = [{"text": "a pump", "time_series": SERIES}, {"time_series": SERIES}]
    wanted = expected(Item.of("a pump", SERIES), Item.of(series=SERIES), dimensions=8)
    for value in (batch, json.dumps(batch)):
        answer = openai_client.embeddings.create(model="fake", input=value, dimensions=8)
        np.testing.assert_array_equal(np.array([e.embedding for e in answer.data], np.float32), wanted)


def test_openai_gets_metadata_through_and_the_request_id_back(openai_client: openai.OpenAI) -> None:
    answer = openai_client.embeddings.with_raw_response.create(
        model="fake",
        input="x",
        extra_body={"metadata": {"webhook_id": "w"}},
        extra_headers={"X-Request-ID": "my-request"},
    )
    assert answer.headers.get_list("x-request-id") == ["my-request"]
    assert answer.headers["x-lakebed-model-digest"] == FakeEncoder(64).info.digest
    assert answer.parse()._request_id == "my-request"


def test_openai_works_on_inertialai_s_path_too(server_url: str, server_key: str) -> None:
    with openai.OpenAI(base_url=f"{server_url}/api/v1", api_key=server_key, max_retries=0) as client:
        assert client.embeddings.create(model=INERTIAL_NAME, input="x").model == INERTIAL_NAME


def test_openai_asks_asynchronously_and_many_at_once(server_url: str, server_key: str) -> None:
    texts = [f"text number {i}" for i in range(40)]

    async def ask_all() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{server_url}/v1", api_key=server_key) as client:
            answers = await asyncio.gather(*(client.embeddings.create(model="fake", input=t) for t in texts))
        return np.array([answer.data[0].embedding for answer in answers], np.float32)

    np.testing.assert_array_equal(asyncio.run(ask_all()), expected(*map(Item.of, texts)))


def test_openai_lists_models(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == ["fake", INERTIAL_NAME]
    assert openai_client.models.retrieve("fake").owned_by == "lakebed"


def test_openai_raises_the_exception_of_each_fault(openai_client: openai.OpenAI, server_url: str) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        openai_client.embeddings.create(model="fake", input="")
    assert (bad.value.code, bad.value.param, bad.value.type) == ("empty_text", "input", "invalid_request_error")
    assert "text is empty" in bad.value.message
    with pytest.raises(openai.BadRequestError, match="token ids"):
        openai_client.embeddings.create(model="fake", input=[1, 2, 3])
    with pytest.raises(openai.NotFoundError) as missing:
        openai_client.embeddings.create(model="gpt", input="x")
    assert missing.value.code == "model_not_found"
    wrong = openai.OpenAI(base_url=f"{server_url}/v1", api_key="sk-wrong-key-of-some-length", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError) as unknown:
        wrong.embeddings.create(model="fake", input="x")
    assert unknown.value.code == "invalid_api_key"
    assert unknown.value.request_id


def test_inertialai_gets_text_series_and_both(inertial_client: inertialai_python.InertialAI) -> None:
    answer = inertial_client.embeddings.create(
        model=INERTIAL,
        input=[
            EmbeddingMultiModalInput(text="a pump"),
            EmbeddingMultiModalInput(time_series=SERIES),
            EmbeddingMultiModalInput(text="a pump", time_series=SERIES),
        ],
    )
    items = Item.of("a pump"), Item.of(series=SERIES), Item.of("a pump", SERIES)
    vectors = np.array([entry.embedding for entry in answer.data], np.float32)
    np.testing.assert_array_equal(vectors, expected(*items))
    assert answer.model is INERTIAL
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 6)


def test_inertialai_gets_dimensions_and_base64(inertial_client: inertialai_python.InertialAI) -> None:
    answer = inertial_client.embeddings.create(
        model=INERTIAL,
        input=[EmbeddingMultiModalInput(text="a pump")],
        dimensions=16,
        encoding_format=EmbeddingEncodingFormat.BASE64,
    )
    text = answer.data[0].embedding
    assert isinstance(text, str)
    vector = np.frombuffer(base64.b64decode(text), "<f4")
    np.testing.assert_array_equal(vector, expected(Item.of("a pump"), dimensions=16)[0])


def test_inertialai_asks_asynchronously(server_url: str, server_key: str) -> None:
    async def ask() -> int:
        async with inertialai_python.AsyncInertialAI(base_url=server_url, api_key=server_key) as client:
            answer = await client.embeddings.create(model=INERTIAL, input=[EmbeddingMultiModalInput(text="x")])
            return len(answer.data)

    assert asyncio.run(ask()) == 1


def test_inertialai_raises_the_exception_of_each_fault(
    inertial_client: inertialai_python.InertialAI, server_url: str
) -> None:
    for value in (
        EmbeddingMultiModalInput(text=""),
        EmbeddingMultiModalInput(time_series=[]),
        EmbeddingMultiModalInput(time_series=[[1.0, 2.0], [3.0]]),
    ):
        with pytest.raises(inertialai_python.ValidationError, match="input 0"):
            inertial_client.embeddings.create(model=INERTIAL, input=[value])
    wrong = inertialai_python.InertialAI(base_url=server_url, api_key="iai_wrong", max_retries=0)
    with wrong, pytest.raises(inertialai_python.AuthenticationError, match="incorrect API key"):
        wrong.embeddings.create(model=INERTIAL, input=[EmbeddingMultiModalInput(text="x")])


def test_raw_http_gets_each_path_s_status(raw: httpx.Client) -> None:
    body = {"model": "fake", "input": {"text": "a pump", "time_series": SERIES}}
    assert raw.post("/v1/embeddings", json=body).status_code == 200
    assert raw.post("/api/v1/embeddings", json=body).status_code == 201
    assert raw.post("/v1/embeddings", json={"model": "fake"}).status_code == 400
    assert raw.post("/api/v1/embeddings", json={"model": "fake"}).status_code == 422
    assert raw.post("/v1/embeddings/", json=body).status_code == 404
    assert raw.get("/healthz", headers={"authorization": ""}).json() == {"status": "ready"}


def test_a_full_request_of_2048_texts_comes_back_in_order(raw: httpx.Client) -> None:
    texts = [f"text {i} {'and more ' * (i % 7)}" for i in range(2048)]
    answer = raw.post("/v1/embeddings", json={"model": "fake", "input": texts})
    vectors = np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)
    np.testing.assert_array_equal(vectors, expected(*map(Item.of, texts)))


def test_a_revoked_key_stops_working(server_url: str, server_key_store: str) -> None:
    engine = open_database(server_key_store)
    secret, key = create_key(engine, "short-lived")
    with httpx.Client(base_url=server_url, trust_env=False) as client:

        def status() -> int:
            return client.get("/v1/models", headers={"authorization": f"Bearer {secret}"}).status_code

        assert status() == 200
        revoke_key(engine, key.id)
        for _ in range(1000):
            if status() == 401:
                break
        assert status() == 401


def test_a_client_that_leaves_does_not_hurt_the_next(server_url: str, server_key: str, raw: httpx.Client) -> None:
    host, port = server_url.removeprefix("http://").split(":")
    body = json.dumps({"model": "fake", "input": ["x"] * 2000}).encode()
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server_key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    for sent in (head.encode(), head.encode() + body[:100], head.encode() + body):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
    assert raw.post("/v1/embeddings", json={"model": "fake", "input": "x"}).status_code == 200


def test_a_body_over_the_limit_is_refused_without_reading_it(raw: httpx.Client) -> None:
    body = b'{"model": "fake", "input": "' + b"x" * (65 * 2**20) + b'"}'
    for path in ("/v1/embeddings", "/api/v1/embeddings"):
        answer = raw.post(path, content=body)
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "payload_too_large"


def test_a_server_that_does_not_come_up_says_why() -> None:
    config = ServeConfig(port=free_port(), models={"m": "./no/such/folder"})
    with pytest.raises(ServerError, match="no such model directory"), running_server(config):
        pytest.fail("it cannot be ready")
