"""What is cut of a long text, by this contract's `truncate` and by vLLM's `truncate_prompt_tokens`."""

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Limits
from lakebed.platform.encoder.protocol import TokenEncoder
from lakebed.platform.items import Item
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.models import ServedModels
from lakebed.serve.service import Service

LONG = "word " * 300


@pytest.fixture
def real(packaged: ServedModels) -> Iterator[TestClient]:
    with TestClient(create_api(Service(packaged, NoKeys(), Limits()))) as client:
        yield client


def ask(client: TestClient, value: Any, **fields: Any) -> httpx.Response:
    model = client.get("/v1/models").json()["data"][0]["id"]
    return client.post("/v1/embeddings", json={"model": model, "input": value, **fields})


def usage(answer: httpx.Response) -> dict[str, int]:
    assert answer.status_code == 200, answer.text
    counts: dict[str, int] = answer.json()["usage"]
    return counts


def error(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 400
    found: dict[str, str] = answer.json()["error"]
    return found


def vector(answer: httpx.Response) -> Any:
    return np.array(answer.json()["data"][0]["embedding"], np.float32)


@pytest.mark.parametrize("tokens", [-1, 256, 1000])
@pytest.mark.parametrize("truncate", [None, "end"])
def test_the_window_or_more_cuts_at_the_window(client: TestClient, tokens: int, truncate: str | None) -> None:
    answer = ask(client, LONG, truncate_prompt_tokens=tokens, truncate=truncate)
    assert usage(answer) == {"prompt_tokens": 256, "total_tokens": 256, "truncated_tokens": 44}
    assert answer.headers["x-lakebed-truncated-tokens"] == "44"


def test_without_it_a_long_text_is_refused(client: TestClient) -> None:
    answer = ask(client, LONG, truncate_prompt_tokens=None, truncation_side="right")
    assert error(answer)["code"] == "context_length_exceeded"


def test_it_contradicts_a_wish_to_be_refused(client: TestClient) -> None:
    found = error(ask(client, "short", truncate_prompt_tokens=-1, truncate="error"))
    assert (found["param"], found["code"]) == ("truncate_prompt_tokens", "conflicting_fields")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": "8"}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": True}, "truncate_prompt_tokens"),
        ({"truncation_side": "left"}, "truncation_side"),
        ({"embed_dtype": "bfloat16"}, "embed_dtype"),
    ],
)
def test_what_is_not_offered_is_refused_rather_than_ignored(
    client: TestClient, fields: dict[str, Any], param: str
) -> None:
    assert error(ask(client, "short", **fields))["param"] == param


def test_a_model_that_cannot_cut_shorter_says_so(client: TestClient) -> None:
    found = error(ask(client, "short", truncate_prompt_tokens=8))
    assert found["code"] == "unsupported_truncation"
    assert "256" in found["message"]


def test_fewer_tokens_than_the_window_give_the_vector_of_the_shorter_text(real: TestClient) -> None:
    cut = ask(real, "the pump is loud at night", truncate_prompt_tokens=5)
    assert usage(cut)["prompt_tokens"] == 5
    assert np.sum(vector(cut) * vector(ask(real, "the pump is"))) >= 0.9999
    assert int(cut.headers["x-lakebed-truncated-tokens"]) == usage(cut)["truncated_tokens"] > 0


def test_a_text_that_is_short_enough_is_left_alone(real: TestClient) -> None:
    cut, whole = ask(real, "the pump", truncate_prompt_tokens=4), ask(real, "the pump")
    assert usage(cut) == usage(whole) == {"prompt_tokens": 4, "total_tokens": 4}
    np.testing.assert_array_equal(vector(cut), vector(whole))


@pytest.mark.parametrize("tokens", [0, 1, 2])
def test_a_window_that_leaves_nothing_of_a_text_is_refused(real: TestClient, tokens: int) -> None:
    found = error(ask(real, "the pump", truncate_prompt_tokens=tokens))
    assert "at least 3" in found["message"]


def test_only_text_is_cut_and_every_item_for_itself(packaged: ServedModels) -> None:
    encoder = packaged.find("lakebed-embed").encoder
    assert isinstance(encoder, TokenEncoder)
    series = [[1.0, 2.0, 3.0]]
    prepared = encoder.prepare_within([Item.of("a b c d e f"), Item.of(series=series), Item.of("a", series)], 5)
    assert prepared.tokens.tolist() == [5, 0, 3]
    assert prepared.truncated.tolist() == [3, 0, 0]
    assert prepared.samples.tolist() == [0, 3, 3]
