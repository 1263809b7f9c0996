"""Every refusal: its status on each path, and a body that both vendors' clients can read."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Limits
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys, StoredKeys
from lakebed.serve.models import ServedModel, ServedModels
from lakebed.serve.scheduler import Scheduler
from lakebed.serve.service import Service
from lakebed.serve.store.database import connect, open_database
from lakebed.serve.store.keys import create_key

ClientFactory = Callable[..., TestClient]


def check_body(answer: httpx.Response) -> dict[str, Any]:
    """Both vendors' shapes, whatever went wrong."""
    body = answer.json()
    assert set(body) == {"error", "detail", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    detail = body["detail"]
    if isinstance(detail, list):
        assert all({"type", "loc", "msg"} == set(fault) for fault in detail)
        assert detail
    else:
        assert detail == error["message"]
    return error


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": "x"}, "model", "missing"),
        ({"model": "fake"}, "input", "missing"),
        ({"model": 5, "input": "x"}, "model", "string_type"),
        ({"model": "fake", "input": []}, "input", "empty_input"),
        ({"model": "fake", "input": ["a", ""]}, "input", "empty_text"),
        ({"model": "fake", "input": [1, 2]}, "input", "unsupported_token_input"),
        ({"model": "fake", "input": "x", "dimensions": 0}, "dimensions", "greater_than_equal"),
        ({"model": "fake", "input": "x", "dimensions": 65}, "dimensions", "invalid_dimensions"),
        ({"model": "fake", "input": "x", "dimensions": "8"}, "dimensions", "int_type"),
        ({"model": "fake", "input": "x", "dimensions": True}, "dimensions", "int_type"),
        ({"model": "fake", "input": "x", "encoding_format": "hex"}, "encoding_format", "literal_error"),
        ({"model": "fake", "input": "x", "truncate": "start"}, "truncate", "literal_error"),
        ({"model": "fake", "input": "x", "metadata": "m"}, "metadata", "dict_type"),
    ],
)
def test_a_faulty_request_is_400_for_openai_and_422_for_inertialai(
    client: TestClient, body: dict[str, Any], param: str, code: str
) -> None:
    for path, status in (("/v1/embeddings", 400), ("/api/v1/embeddings", 422)):
        answer = client.post(path, json=body)
        assert answer.status_code == status
        error = check_body(answer)
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
        assert isinstance(answer.json()["detail"], list)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "fake", "input": [{"time_series": [[NaN, 1.0]]}]}',
        b'{"model": "fake", "input": [{"time_series": [[Infinity]]}]}',
        b'{"model": "fake", "input": [{"time_series": [[1e999]]}]}',
        b'{"model": "fake", "input": "\\ud800"}',
        b'{"model": "fake", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "fake", "input": [{"time_series": [[' + b"9" * 5000 + b"]]}]}",
    ],
    ids=range(12),
)
def test_a_body_that_is_no_request_is_refused(client: TestClient, body: bytes) -> None:
    for path, status in (("/v1/embeddings", 400), ("/api/v1/embeddings", 422)):
        answer = client.post(path, content=body)
        assert answer.status_code == status
        check_body(answer)


def test_several_faults_are_all_named(client: TestClient) -> None:
    answer = client.post("/api/v1/embeddings", json={"dimensions": 0})
    assert [fault["loc"] for fault in answer.json()["detail"]] == [
        ["body", "model"],
        ["body", "input"],
        ["body", "dimensions"],
    ]


def test_an_input_at_fault_is_located(client: TestClient) -> None:
    answer = client.post("/api/v1/embeddings", json={"model": "fake", "input": ["a", {"time_series": [[]]}]})
    assert answer.json()["detail"][0]["loc"] == ["body", "input", 1]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("POST", "/v1/embeddings/", 404, "not_found"),
        ("GET", "/v1/embeddings", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/nothing", 404, "model_not_found"),
    ],
)
def test_the_framework_s_own_errors_have_the_same_body(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path, follow_redirects=False)
    assert (answer.status_code, check_body(answer)["code"]) == (status, code)


def test_a_wrong_method_says_which_is_right(client: TestClient) -> None:
    assert client.get("/v1/embeddings").headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/v1/embeddings"])
def test_an_unknown_model_is_404_and_the_served_ones_are_named(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"model": "gpt", "input": "x"})
    error = check_body(answer)
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "org/fake" in error["message"]


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", content=b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, check_body(answer)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/v1/embeddings"])
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic abc", "Bearer " + "x" * 5000])
def test_without_a_good_key_nothing_is_answered(
    client_of: ClientFactory, key_store: str, path: str, header: str | None
) -> None:
    client = client_of(authenticator=StoredKeys(open_database(key_store), 1.0))
    headers = {} if header is None else {"authorization": header}
    answer = client.post(path, json={"model": "fake", "input": "x"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    check_body(answer)
    assert isinstance(answer.json()["detail"], str)
    assert client.get("/v1/models", headers=headers).status_code == 401
    assert client.get("/healthz").status_code == 200


def test_a_wrong_key_is_not_repeated(client_of: ClientFactory, key_store: str) -> None:
    client = client_of(authenticator=StoredKeys(open_database(key_store), 1.0))
    answer = client.post("/v1/embeddings", headers={"authorization": "Bearer sk-secret-of-someone-else"})
    assert "secret" not in answer.text


def test_a_good_key_opens(client_of: ClientFactory, key_store: str) -> None:
    engine = open_database(key_store)
    secret, _ = create_key(engine, "me")
    client = client_of(authenticator=StoredKeys(engine, 1.0))
    headers = {"authorization": f"bearer  {secret} "}
    assert client.post("/v1/embeddings", json={"model": "fake", "input": "x"}, headers=headers).status_code == 200


def test_a_key_store_that_does_not_answer_is_503_and_may_be_retried(
    client_of: ClientFactory, key_store: str
) -> None:
    client = client_of(authenticator=StoredKeys(connect(key_store), 1.0))  # its tables were never made
    answer = client.post("/v1/embeddings", headers={"authorization": "Bearer something"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    check_body(answer)


class Broken(FakeEncoder):
    """Prepares, and fails in forward."""

    def forward(self, work: Prepared) -> VectorArray:
        raise RuntimeError("secret internals")


def client_of_broken() -> TestClient:
    encoder = Broken(8)
    scheduler = Scheduler(encoder.forward, ThreadPoolExecutor(1), Budget())
    models = ServedModels({"broken": ServedModel(encoder, scheduler, "1", 0)})
    return TestClient(create_api(Service(models, NoKeys(), Limits())), raise_server_exceptions=False)


def test_a_fault_of_ours_is_500_without_internals() -> None:
    with client_of_broken() as client:
        answer = client.post("/v1/embeddings", json={"model": "broken", "input": "x"})
        assert answer.status_code == 500
        assert check_body(answer)["type"] == "server_error"
        assert "secret" not in answer.text


def test_readiness_is_honest(caplog: pytest.LogCaptureFixture) -> None:
    with client_of_broken() as client, caplog.at_level(logging.ERROR):
        assert client.get("/health").status_code == 200
        answer = client.get("/healthz")
    assert answer.status_code == 503
    assert "secret internals" in caplog.text


def test_a_model_answers_to_its_version() -> None:
    encoder = FakeEncoder(8)
    scheduler = Scheduler(encoder.forward, ThreadPoolExecutor(1), Budget())
    models = ServedModels({"m": ServedModel(encoder, scheduler, "7", 0)})
    with TestClient(create_api(Service(models, NoKeys(), Limits()))) as client:
        assert client.get("/v1/models/m@7").json()["id"] == "m@7"
        assert client.get("/v1/models/m@8").status_code == 404
        assert client.get("/v1/models/m@").status_code == 404


def test_a_full_server_says_when_to_come_back() -> None:
    gate, busy = threading.Event(), threading.Event()

    class Slow(FakeEncoder):
        def forward(self, work: Prepared) -> VectorArray:
            busy.set()
            assert gate.wait(20)
            return super().forward(work)

    encoder = Slow(8)
    scheduler = Scheduler(encoder.forward, ThreadPoolExecutor(1), Budget())
    limits = Limits(max_queued_tokens=50, max_request_tokens=50, max_input_tokens=50)
    service = Service(ServedModels({"m": ServedModel(encoder, scheduler, "1", 0)}), NoKeys(), limits)
    request = {"model": "m", "input": "word " * 40}
    with TestClient(create_api(service)) as client, ThreadPoolExecutor(1) as other:
        first = other.submit(client.post, "/v1/embeddings", json=request)
        assert busy.wait(20)
        refused = client.post("/v1/embeddings", json=request)
        assert client.get("/healthz").status_code == 200, "a busy model is not an ill one"
        gate.set()
        assert first.result().status_code == 200
        assert client.post("/v1/embeddings", json=request).status_code == 200
    assert refused.status_code == 429
    assert check_body(refused)["code"] == "rate_limit_exceeded"
    assert 0 < int(refused.headers["retry-after"]) <= 5
    assert 0 < int(refused.headers["retry-after-ms"]) <= 5000
