"""The HTTP surface, in this process: success bodies, headers, models, health."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from lakebed.platform.config.serve import INERTIAL_NAME, Batching, Limits
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item
from lakebed.serve.models import load_models

PATHS = [("/v1/embeddings", 200), ("/api/v1/embeddings", 201)]
SERIES = [[0.1, 0.2, 0.3, 0.4] * 8, [1.0, 2.0, 3.0, 4.0] * 8]

ClientFactory = Callable[..., TestClient]


def embed(client: TestClient, value: Any, path: str = "/v1/embeddings", **fields: Any) -> httpx.Response:
    return client.post(path, json={"model": "fake", "input": value, **fields})


def vectors(answer: httpx.Response) -> np.ndarray[Any, Any]:
    return np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)


@pytest.mark.parametrize(("path", "status"), PATHS)
def test_each_vendor_gets_its_status_and_the_same_body(client: TestClient, path: str, status: int) -> None:
    answer = embed(client, ["one", "two"], path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"id", "object", "model", "data", "usage", "create_time"}
    assert [entry["index"] for entry in body["data"]] == [0, 1]


def test_vectors_are_those_of_the_encoder(client: TestClient) -> None:
    items = [Item.of("one"), Item.of(series=SERIES), Item.of("both", SERIES)]
    answer = embed(client, ["one", {"time_series": SERIES}, {"text": "both", "time_series": SERIES}])
    np.testing.assert_array_equal(vectors(answer), encode(FakeEncoder(64), items).vectors)


def test_dimensions_cut_and_renormalise(client: TestClient) -> None:
    whole, cut = vectors(embed(client, "one")), vectors(embed(client, "one", dimensions=16))
    expected = whole[:, :16] / np.linalg.norm(whole[:, :16])
    np.testing.assert_allclose(cut, expected, rtol=1e-6)


def test_base64_says_the_same_as_floats(client: TestClient) -> None:
    text = embed(client, "one", encoding_format="base64").json()["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    np.testing.assert_array_equal(decoded, vectors(embed(client, "one"))[0])


def test_usage_counts_text_as_prompt_and_series_in_the_total_only(client: TestClient) -> None:
    usage = embed(client, [{"text": "three short words", "time_series": SERIES}, "one"]).json()["usage"]
    assert usage == {"prompt_tokens": 4, "total_tokens": 4 + 2 * 32 // 16}


@pytest.mark.parametrize("name", ["fake", "org/fake", INERTIAL_NAME])
def test_the_name_asked_for_comes_back_and_the_model_is_in_headers(client: TestClient, name: str) -> None:
    answer = client.post("/v1/embeddings", json={"model": name, "input": "x"})
    assert answer.json()["model"] == name
    assert answer.headers["x-lakebed-model-digest"] == FakeEncoder(64).info.digest
    assert answer.headers["x-lakebed-model-version"] == "unversioned"


def test_one_string_may_hold_a_whole_batch_unless_the_header_says_text(client: TestClient) -> None:
    batch = json.dumps([{"text": "a"}, {"time_series": SERIES}])
    assert len(vectors(embed(client, batch))) == 2
    answer = client.post(
        "/v1/embeddings", json={"model": "fake", "input": batch}, headers={"x-lakebed-input": "text"}
    )
    assert len(vectors(answer)) == 1


def test_fields_of_other_vendors_are_ignored(client: TestClient) -> None:
    answer = embed(client, "x", user="u", metadata={"webhook_id": "w"}, priority=1, encoding_format=None)
    assert answer.status_code == 200


def test_a_text_over_the_window_is_refused_unless_it_may_be_cut(client: TestClient) -> None:
    text = "word " * 300
    refused = embed(client, ["short", text])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "input 1" in refused.json()["error"]["message"]
    cut = embed(client, ["short", text], truncate="end")
    assert cut.headers["x-lakebed-truncated-tokens"] == "44"
    assert cut.json()["usage"] == {"prompt_tokens": 257, "total_tokens": 257, "truncated_tokens": 44}


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_models_are_listed_and_looked_up_also_with_a_slash_in_the_name(client: TestClient, prefix: str) -> None:
    listed = client.get(f"{prefix}/models").json()
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]] == ["fake", "org/fake", INERTIAL_NAME]
    one = client.get(f"{prefix}/models/org%2Ffake").json()
    assert one == listed["data"][1]
    assert {"id": "org/fake", "object": "model", "owned_by": "lakebed", "dimensions": 64}.items() <= one.items()
    assert client.get(f"{prefix}/models/other").status_code == 404


def test_health_needs_no_key_and_readiness_embeds(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/healthz").json() == {"status": "ready"}


def test_limits_are_enforced_with_the_limit_in_the_message(client_of: ClientFactory) -> None:
    limits = Limits(
        max_inputs=2, max_input_tokens=8, max_request_tokens=10, max_body_bytes=2000, max_queued_tokens=10
    )
    client = client_of(limits)
    assert "at most 2" in embed(client, ["a"] * 3).json()["error"]["message"]
    assert "at most 8" in embed(client, [{"time_series": [[0.0] * 200]}]).json()["error"]["message"]
    assert "at most 10" in embed(client, ["a b c d e f"] * 2).json()["error"]["message"]
    assert embed(client, ["a b c"] * 2).status_code == 200
    assert "at most 8" in embed(client, "x" * 1000, truncate="end").json()["error"]["message"]
    too_large = embed(client, "x" * 2001)
    assert (too_large.status_code, too_large.json()["error"]["type"]) == (413, "payload_too_large")
    streamed = client.post("/v1/embeddings", content=iter([b"x" * 1500, b"x" * 1500]))
    assert streamed.status_code == 413


def test_a_registered_version_is_in_the_header_and_in_the_name() -> None:
    seventh = replace(resolve_model("fake:8"), version=7)
    models = load_models({"m": seventh, "other": seventh}, "cpu", Batching())
    assert models.find("m@7") is models.find("other")
    assert models.find("m").version == "7"
    assert len(models.distinct()) == 1


def test_a_request_that_takes_too_long_is_given_up(client: TestClient) -> None:
    answer = client.post(
        "/v1/embeddings", json={"model": "fake", "input": "x"}, headers={"x-request-timeout-seconds": "1e-9"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert embed(client, "x").status_code == 200


def test_the_limit_holds_even_if_a_client_would_wait_longer(client_of: ClientFactory) -> None:
    client = client_of(Limits(max_seconds=1e-9))
    answer = client.post(
        "/api/v1/embeddings", json={"model": "fake", "input": "x"}, headers={"x-request-timeout-seconds": "60"}
    )
    assert answer.status_code == 504


@pytest.mark.parametrize("seconds", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_no_positive_number_is_refused(client: TestClient, seconds: str) -> None:
    headers = {"x-request-timeout-seconds": seconds}
    answer = client.post("/v1/embeddings", json={"model": "fake", "input": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header")
