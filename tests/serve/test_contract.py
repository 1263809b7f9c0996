"""The request as the three vendors document it, over HTTP: forms of `input` in their order, options, limits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item

ClientFactory = Callable[..., TestClient]

SERIES = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
BOTH = {"text": "a pump", "time_series": SERIES}
TEXT, PUMP, WAVE = Item.of("a pump"), Item.of("a pump", SERIES), Item.of(series=SERIES)
PATHS = ["/v1/embeddings", "/api/v1/embeddings"]
AS_TEXT = {"X-Lakebed-Input": "Text"}


def ask(client: TestClient, path: str, value: Any, headers: Any = None, **fields: Any) -> httpx.Response:
    return client.post(path, json={"model": "fake", "input": value, **fields}, headers=headers)


def check(answer: httpx.Response, *items: Item) -> None:
    assert answer.status_code in (200, 201), answer.text
    data = answer.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(items)))
    vectors = np.array([entry["embedding"] for entry in data], np.float32)
    np.testing.assert_array_equal(vectors, encode(FakeEncoder(64), items).vectors)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("a pump", [TEXT]),
        (json.dumps(BOTH), [PUMP]),
        (json.dumps([BOTH, {"time_series": SERIES}]), [PUMP, WAVE]),
        ('["a", "b"]', [Item.of('["a", "b"]')]),
        ("[1, 2]", [Item.of("[1, 2]")]),
        (["a pump", json.dumps(BOTH)], [TEXT, PUMP]),
        ([json.dumps([BOTH])], [Item.of(json.dumps([BOTH]))]),
        ([BOTH, {"time_series": SERIES}, {"text": "a pump"}], [PUMP, WAVE, TEXT]),
        ([{"time_series": SERIES}, "a pump"], [WAVE, TEXT]),
        (BOTH, [PUMP]),
        ({"text": "", "time_series": SERIES}, [WAVE]),
    ],
)
def test_every_form_of_input_is_what_its_vendor_means(
    client: TestClient, path: str, value: Any, items: list[Item]
) -> None:
    check(ask(client, path, value), *items)


@pytest.mark.parametrize("path", PATHS)
def test_token_arrays_come_after_strings_and_before_objects(
    client_of: ClientFactory, offline_encodings: Path, path: str
) -> None:
    client, row = client_of(token_input="cl100k_base"), tiktoken.get_encoding("cl100k_base").encode("a pump")
    check(ask(client, path, row), TEXT)
    check(ask(client, path, [row, row]), TEXT, TEXT)
    check(ask(client, path, json.dumps(row)), Item.of(json.dumps(row)))
    for mixed in ([row, "a pump"], [row, BOTH], ["a pump", row], [BOTH, row], [*row, "a"]):
        assert ask(client, path, mixed).status_code in (400, 422)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", [json.dumps(BOTH), json.dumps([BOTH])])
def test_the_opt_out_header_keeps_every_string_a_text(client: TestClient, path: str, text: str) -> None:
    check(ask(client, path, text, AS_TEXT), Item.of(text))
    check(ask(client, path, [text, "a pump"], AS_TEXT), Item.of(text), TEXT)
    check(ask(client, path, BOTH, AS_TEXT), PUMP)
    assert len(ask(client, path, text, {"X-Lakebed-Input": "auto"}).json()["data"]) == 1


def test_the_opt_out_header_keeps_json_of_several_items_one_text(client: TestClient) -> None:
    text = json.dumps([BOTH, BOTH])
    assert len(ask(client, PATHS[0], text).json()["data"]) == 2
    assert len(ask(client, PATHS[0], text, AS_TEXT).json()["data"]) == 1


def test_openai_s_limits_hold_by_default(client: TestClient) -> None:
    assert ask(client, PATHS[0], ["a"] * 2048).status_code == 200
    many = ask(client, PATHS[0], ["a"] * 2049).json()["error"]
    assert (many["code"], "at most 2,048" in many["message"]) == ("too_many_inputs", True)
    text = "a " * 250
    assert ask(client, PATHS[0], [text] * 1200).status_code == 200
    large = ask(client, PATHS[0], [text] * 1201).json()["error"]
    assert (large["code"], "at most 300,000" in large["message"]) == ("max_tokens_per_request", True)


@pytest.mark.parametrize("path", PATHS)
def test_every_option_may_be_null(client: TestClient, path: str) -> None:
    options = ["dimensions", "encoding_format", "embed_dtype", "truncate", "truncate_prompt_tokens", "user"]
    check(ask(client, path, "a pump", **dict.fromkeys([*options, "truncation_side", "metadata"])), TEXT)


@pytest.mark.parametrize("path", PATHS)
def test_truncation_is_in_usage_and_header_only_where_it_happened(client: TestClient, path: str) -> None:
    cut = ask(client, path, ["word " * 300, "a"], truncate="end")
    assert cut.json()["usage"]["truncated_tokens"] == int(cut.headers["x-lakebed-truncated-tokens"]) == 44
    whole = ask(client, path, "a", truncate="end")
    assert "x-lakebed-truncated-tokens" not in whole.headers
    assert "truncated_tokens" not in whole.json()["usage"]


odd = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=4)
rows = st.lists(st.integers(-5, 120_000) | odd, max_size=4)
options = st.fixed_dictionaries(
    {},
    optional={
        "embed_dtype": odd | st.sampled_from(["float16", "int8"]),
        "truncate_prompt_tokens": odd | st.integers(-2, 300),
        "truncation_side": odd,
        "encoding_format": st.sampled_from(["float", "base64"]),
    },
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=rows | st.lists(rows | odd, max_size=3), options=options)
def test_no_tokens_and_options_however_strange_break_the_server(
    decoding: TestClient, value: Any, options: dict[str, Any]
) -> None:
    answer = decoding.post(PATHS[0], content=orjson.dumps({"model": "fake", "input": value, **options}))
    assert answer.status_code in (200, 400)


@pytest.fixture
def decoding(client_of: ClientFactory, offline_encodings: Path) -> TestClient:
    return client_of(token_input="cl100k_base")
