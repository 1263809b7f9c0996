"""openai's client in its other ways: raw and streamed responses, token arrays, narrower vectors, truncation."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import tiktoken
from fastapi import FastAPI
from starlette.types import ASGIApp

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item

TEXTS = ["a pump that rattles", "a quiet fan"]


def expected(*texts: str) -> Any:
    return encode(FakeEncoder(64), [Item.of(text) for text in texts]).vectors


@pytest.fixture
def client(server_url: str, server_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key=server_key, max_retries=0) as client:
        yield client


def check_headers(headers: Any) -> None:
    assert headers["content-type"] == "application/json"
    assert headers["x-lakebed-model-digest"] == FakeEncoder(64).info.digest
    assert len(headers.get_list("x-request-id")) == 1


def test_a_raw_response_has_the_headers_and_parses(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="fake", input=TEXTS)
    check_headers(raw.headers)
    parsed = raw.parse()
    assert parsed._request_id == raw.request_id == raw.headers["x-request-id"]
    np.testing.assert_array_equal(np.array([e.embedding for e in parsed.data], np.float32), expected(*TEXTS))


def test_a_raw_response_is_had_asynchronously(server_url: str, server_key: str) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{server_url}/v1", api_key=server_key) as client:
            raw = await client.embeddings.with_raw_response.create(model="fake", input="x")
            return raw.headers, raw.parse()

    headers, parsed = asyncio.run(ask())
    check_headers(headers)
    assert parsed._request_id == headers["x-request-id"]


def test_a_response_may_be_streamed(client: openai.OpenAI) -> None:
    with client.embeddings.with_streaming_response.create(model="fake", input="x") as response:
        check_headers(response.headers)
        assert len(response.parse().data) == 1


def test_an_error_carries_the_request_id_of_its_header(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="fake", input="", extra_headers={"X-Request-ID": "my-request"})
    assert caught.value.request_id == "my-request"


def test_half_precision_is_had_as_numbers_and_as_bytes(client: openai.OpenAI) -> None:
    half = expected(*TEXTS).astype("<f2")
    options: dict[str, Any] = {"model": "fake", "input": TEXTS, "extra_body": {"embed_dtype": "float16"}}
    floats = client.embeddings.create(**options, encoding_format="float")
    np.testing.assert_array_equal(np.array([e.embedding for e in floats.data], np.float16), half)
    coded = client.embeddings.create(**options, encoding_format="base64")
    data = b"".join(base64.b64decode(str(entry.embedding)) for entry in coded.data)
    np.testing.assert_array_equal(np.frombuffer(data, "<f2").reshape(half.shape), half)


def test_int8_comes_with_its_scale(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(
        model="fake", input=TEXTS, encoding_format="float", extra_body={"embed_dtype": "int8"}
    )
    for entry, vector in zip(answer.data, expected(*TEXTS), strict=True):
        scale = entry.scale  # type: ignore[attr-defined]
        assert np.abs(np.array(entry.embedding) * scale - vector).max() <= scale / 2 * (1 + 1e-6)


def test_a_narrow_dtype_without_a_format_is_visibly_misread(client: openai.OpenAI) -> None:
    """The client then asks for base64 itself and takes whatever comes for float32; the length gives it away."""
    answer = client.embeddings.create(model="fake", input="x", extra_body={"embed_dtype": "float16"})
    assert len(answer.data[0].embedding) == 32


def test_vllm_s_truncation_is_understood(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(
        model="fake", input="word " * 300, extra_body={"truncate_prompt_tokens": -1}
    )
    assert raw.headers["x-lakebed-truncated-tokens"] == "44"
    assert raw.parse().usage.prompt_tokens == 256


def test_token_arrays_are_read_where_the_server_was_told_whose_they_are(
    app_of: Callable[..., FastAPI], listen: Callable[[ASGIApp], str], offline_encodings: Path
) -> None:
    url = listen(app_of(token_input="cl100k_base"))
    encoding = tiktoken.get_encoding("cl100k_base")
    rows = [encoding.encode(text) for text in TEXTS]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        several = client.embeddings.create(model="fake", input=rows)
        one = client.embeddings.create(model="fake", input=rows[0])
    np.testing.assert_array_equal(np.array([e.embedding for e in several.data], np.float32), expected(*TEXTS))
    np.testing.assert_array_equal(np.array([e.embedding for e in one.data], np.float32), expected(TEXTS[0]))
