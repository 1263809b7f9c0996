"""Token arrays: refused, the model's own, or decoded by tiktoken; and what the server says at its start."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Limits, ServeConfig, TokenInput
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.multimodal import MultiModalEncoder
from lakebed.platform.encoder.protocol import TokenEncoder, encode
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import Item
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.errors import InvalidRequestError
from lakebed.serve.models import ServedModels
from lakebed.serve.server import serve_until_stopped
from lakebed.serve.service import Service
from lakebed.serve.tokens import DecodedTokens, token_reader

ClientFactory = Callable[..., TestClient]

TEXTS = ["a pump that rattles", "Überdruck im Kessel 7 👩‍👩‍👧, 42 bar\n", "def f(x):\n\treturn x ** 2"]


@pytest.fixture
def encoder(packaged: ServedModels) -> MultiModalEncoder:
    encoder = packaged.find("lakebed-embed").encoder
    assert isinstance(encoder, MultiModalEncoder)
    return encoder


@pytest.fixture
def own(packaged: ServedModels) -> Iterator[TestClient]:
    """The packaged model, told that token arrays are its own."""
    with TestClient(create_api(Service(packaged, NoKeys(), Limits(), tokens=token_reader("model")))) as client:
        yield client


def ask(client: TestClient, value: Any, model: str = "fake", **fields: Any) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": model, "input": value, **fields})


def vectors(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)


def ids_of(encoder: MultiModalEncoder, text: str) -> list[int]:
    return list(encoder.text.tokenizer.encode(text).ids)


@pytest.mark.parametrize("value", [[1, 2, 3], [[1, 2], [3]]])
def test_by_default_they_are_refused_and_both_ways_out_are_named(client: TestClient, value: Any) -> None:
    error = ask(client, value).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_token_input", "input")
    assert "check_embedding_ctx_length=False" in error["message"]
    assert "token_input: cl100k_base" in error["message"]


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base"])
def test_ids_of_an_openai_encoding_are_the_text_they_were_made_of(
    client_of: ClientFactory, offline_encodings: Path, name: TokenInput
) -> None:
    client, encoding = client_of(token_input=name), tiktoken.get_encoding(name)
    rows = [encoding.encode(text) for text in TEXTS]
    expected = encode(FakeEncoder(64), [Item.of(text) for text in TEXTS])
    np.testing.assert_array_equal(vectors(ask(client, rows)), expected.vectors)
    np.testing.assert_array_equal(vectors(ask(client, rows[0])), expected.vectors[:1])
    assert ask(client, rows).json()["usage"]["prompt_tokens"] == expected.tokens


@pytest.fixture
def decoded(offline_encodings: Path) -> DecodedTokens:
    reader = token_reader("cl100k_base")
    assert isinstance(reader, DecodedTokens)
    return reader


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable()))
def test_any_text_survives_its_ids(decoded: DecodedTokens, text: str) -> None:
    row = tiktoken.get_encoding("cl100k_base").encode_ordinary(text)
    [item] = decoded.read([row], FakeEncoder())
    assert item.text == text


def test_half_a_character_at_the_end_is_marked(decoded: DecodedTokens) -> None:
    row = tiktoken.get_encoding("cl100k_base").encode("word 👩")
    [item] = decoded.read([row[:-1]], FakeEncoder())
    assert item.text == "word \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("token", [-1, 100_256, 100_257, 100_261, 10**9, 2**40])
def test_an_id_that_stands_for_no_text_is_located(decoded: DecodedTokens, token: int) -> None:
    with pytest.raises(
        InvalidRequestError, match=f"input 1: token 2 is {token}, and cl100k_base has no"
    ) as caught:
        decoded.read([[5, 6], [7, 8, token]], FakeEncoder())
    assert (caught.value.code, caught.value.position) == ("invalid_token", 1)


def test_ids_of_nothing_but_space_are_an_empty_text(decoded: DecodedTokens) -> None:
    with pytest.raises(InvalidRequestError, match="input 0: text is empty") as caught:
        decoded.read([tiktoken.get_encoding("cl100k_base").encode("  \n")], FakeEncoder())
    assert caught.value.code == "empty_text"


def test_own_ids_give_the_vector_of_their_text(own: TestClient, encoder: MultiModalEncoder) -> None:
    rows = [ids_of(encoder, text) for text in TEXTS]
    answer = ask(own, rows, "lakebed-embed")
    expected = encode(encoder, [Item.of(text) for text in TEXTS])
    assert np.sum(vectors(answer) * expected.vectors, axis=1).min() >= 0.9999
    assert answer.json()["usage"]["prompt_tokens"] == sum(map(len, rows)) == expected.tokens


def test_nothing_is_added_to_own_ids(encoder: MultiModalEncoder) -> None:
    bare = np.array(ids_of(encoder, "a pump")[1:-1])
    prepared = encoder.prepare_tokens([bare], 256)
    assert prepared.columns["tokens"].row(0).tolist() == bare.tolist()
    assert encoder.forward(prepared).shape == (1, 768)


def test_own_ids_over_the_window_are_refused_or_cut_as_their_text_is(
    own: TestClient, encoder: MultiModalEncoder
) -> None:
    text = "pump " * 300
    row = ids_of(encoder, text)
    refused = ask(own, [[5], row], "lakebed-embed").json()["error"]
    assert (refused["code"], "input 1" in refused["message"]) == ("context_length_exceeded", True)
    cut = ask(own, [row], "lakebed-embed", truncate="end")
    assert cut.json()["usage"] == {"prompt_tokens": 256, "total_tokens": 256, "truncated_tokens": 46}
    expected = vectors(ask(own, text, "lakebed-embed", truncate="end"))
    assert np.sum(vectors(cut) * expected) >= 0.9999


@pytest.mark.parametrize("token", [-1, 30_522, 2**63])
def test_an_id_beyond_the_vocabulary_is_located(own: TestClient, token: int) -> None:
    error = ask(own, [[101, 102], [101, token]], "lakebed-embed").json()["error"]
    assert error["message"] == f"input 1: token 1 is {token}, and lakebed-embed has ids 0 to 30,521"
    assert error["code"] == "invalid_token"


def test_ids_count_against_the_limits_before_they_are_read(
    client_of: ClientFactory, offline_encodings: Path
) -> None:
    limits = Limits(max_input_tokens=8, max_request_tokens=10, max_queued_tokens=10)
    client = client_of(limits, token_input="cl100k_base")
    assert "at most 8" in ask(client, [5] * 9).json()["error"]["message"]
    assert "at most 10" in ask(client, [[5] * 6] * 2).json()["error"]["message"]


def test_text_and_series_are_taken_beside_tokens(own: TestClient) -> None:
    assert vectors(ask(own, ["a", {"time_series": [[1.0, 2.0]]}], "lakebed-embed")).shape == (2, 768)


def test_a_model_without_token_ids_is_found_out_at_the_start(client_of: ClientFactory) -> None:
    assert not isinstance(FakeEncoder(), TokenEncoder)
    with pytest.raises(ConfigError, match="token_input model: the encoder fake takes no token ids"):
        client_of(token_input="model")


def start(token_input: TokenInput, port: int) -> None:
    config = ServeConfig(port=port, models={"m": "fake"}, require_keys=False, token_input=token_input)
    serve_until_stopped(config, lambda url: pytest.fail(f"it must not come up at {url}"))


def test_a_missing_package_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ConfigError, match=r"tiktoken is not installed \(pip install 'lakebed\[tiktoken\]'\)"):
        start("cl100k_base", free_port)


def test_an_encoding_that_cannot_be_had_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port}")
    with pytest.raises(ConfigError, match=r"token_input p50k_base: .*\(ProxyError\).*TIKTOKEN_CACHE_DIR"):
        start("p50k_base", free_port)
