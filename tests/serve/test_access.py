"""The line, the headers and the answer that every request gets, in this process."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.errors import ArtifactError
from lakebed.serve.access import Access
from lakebed.serve.auth import StoredKeys
from lakebed.serve.logs import ACCESS_LOGGER, Lines, described
from lakebed.serve.metrics import NoMetrics
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key
from lakebed.serve.timings import Timings

ClientFactory = Callable[..., TestClient]
Requests = list[dict[str, Any]]


@pytest.fixture
def requests(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], Requests]]:
    """Read the lines of answered requests."""
    with caplog.at_level(logging.INFO, "lakebed"):
        yield lambda: [json.loads(entry.message) for entry in caplog.records if entry.name == ACCESS_LOGGER]


def test_a_line_tells_what_was_done_and_how_long_it_took(
    client: TestClient, requests: Callable[[], Requests]
) -> None:
    body = {"model": "org/fake", "input": ["one", {"text": "two words", "time_series": [[0.5] * 32]}]}
    client.post("/v1/embeddings", json=body, headers={"x-request-id": "mine"})
    [line] = requests()
    assert {"one", "two words"}.isdisjoint(map(str, line.values()))
    milliseconds = {name for name in line if name.endswith("_ms")}
    assert milliseconds == {f"{stage}_ms" for stage in ("prepare", "queue", "forward", "write", "total")}
    assert line.pop("time").endswith("Z")
    assert {name: value for name, value in line.items() if name not in milliseconds} == {
        "request_id": "mine",
        "method": "POST",
        "route": "/v1/embeddings",
        "status": 200,
        "code": "",
        "model": "org/fake",
        "key_id": "",
        "items": 2,
        "text_tokens": 3,
        "signal_tokens": 2,
        "truncated_tokens": 0,
        "cached_items": 0,
    }


def test_a_refusal_is_a_line_with_its_code_and_without_its_words(
    client: TestClient, requests: Callable[[], Requests]
) -> None:
    client.post("/v1/embeddings", json={"model": "zyzzyva", "input": "x"})
    client.request("ZYZZYVA", "/zyzzyva?zyzzyva")
    lines = requests()
    assert [(line["status"], line["code"]) for line in lines] == [(404, "model_not_found"), (404, "not_found")]
    assert "zyzzyva" not in json.dumps(lines).lower()


def test_a_line_names_the_key_by_its_id(
    client_of: ClientFactory, key_store: str, requests: Callable[[], Requests]
) -> None:
    secret, key = create_key(open_database(key_store), "mine")
    client = client_of(authenticator=StoredKeys(open_database(key_store), 1))
    for authorization in (f"Bearer {secret}", f"Bearer {secret}x"):
        client.post(
            "/v1/embeddings", json={"model": "fake", "input": "x"}, headers={"authorization": authorization}
        )
    assert [(line["status"], line["key_id"]) for line in requests()] == [(200, key.id), (401, "")]
    assert secret not in json.dumps(requests())


def test_probes_that_succeed_are_no_lines(client: TestClient, requests: Callable[[], Requests]) -> None:
    assert client.get("/health").status_code == client.get("/healthz").status_code == 200
    assert requests() == []


def test_answers_of_the_embeddings_paths_tell_their_timings(client: TestClient) -> None:
    good = client.post("/v1/embeddings", json={"model": "fake", "input": "x"})
    refused = client.post("/api/v1/embeddings", json={"model": "fake", "input": []})
    names = {f"x-lakebed-{stage}-ms" for stage in ("queue", "prepare", "forward", "total")}
    for answer in (good, refused):
        timings = {name: float(answer.headers[name]) for name in names}
        assert timings["x-lakebed-total-ms"] >= max(timings.values()) > 0
        assert answer.headers["openai-processing-ms"].isdecimal()
    assert "x-lakebed-total-ms" not in client.get("/v1/models").headers


def test_milliseconds_have_two_places_and_openai_s_none() -> None:
    headers = Timings(queue=0.0012345, prepare=0.5, forward=2, write=9, total=2.6786).headers()
    assert headers == {
        "x-lakebed-prepare-ms": "500.00",
        "x-lakebed-queue-ms": "1.23",
        "x-lakebed-forward-ms": "2000.00",
        "x-lakebed-total-ms": "2678.60",
        "openai-processing-ms": "2679",
    }


def test_a_fault_of_ours_is_answered_and_logged_without_its_words(
    client_of: ClientFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    requests: Callable[[], Requests],
) -> None:
    def prepare(_encoder: FakeEncoder, items: Any) -> None:
        raise ValueError(f"cannot digest {items[0].text!r}")

    client = client_of()
    monkeypatch.setattr(FakeEncoder, "prepare", prepare)
    answer = client.post("/v1/embeddings", json={"model": "fake", "input": "zyzzyva"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert [line["code"] for line in requests()] == ["internal_error"]
    assert "ValueError (words left out)" in caplog.text
    assert "zyzzyva" not in caplog.text


def test_an_answer_that_breaks_off_is_not_finished_by_another(caplog: pytest.LogCaptureFixture) -> None:
    words = "zyzzyva"

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(words)

    client = TestClient(Access(broken, NoMetrics()))
    with pytest.raises(ConnectionAbortedError, match="broke off") as caught:
        client.get("/")
    assert "ValueError (words left out)" in caplog.text
    assert words not in caplog.text
    assert caught.value.__suppress_context__


def test_an_error_is_described_by_kind_and_place_from_its_first_cause_on() -> None:
    def break_down() -> None:
        try:
            raise KeyError("zyzzyva")
        except KeyError as error:
            raise RuntimeError("because of zyzzyva") from error

    with pytest.raises(RuntimeError) as caught:
        break_down()
    text = described(caught.value)
    assert text.index("KeyError (words left out)") < text.index("RuntimeError (words left out)")
    assert "in break_down" in text
    assert "'zyzzyva'" not in text
    assert "because of zyzzyva\n" not in text


@pytest.mark.parametrize("error", [OSError("no space left"), ArtifactError("forward gave no vectors")])
def test_words_about_the_machine_are_kept(error: Exception) -> None:
    assert described(error).endswith(f"{type(error).__name__}: {error}")


def test_lines_reach_their_file_when_flushed_and_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = Lines(path)
    for text in ("one", "two"):
        lines.handle(logging.makeLogRecord({"msg": text}))
    lines.flush()
    assert path.read_text() == "one\ntwo\n"
    lines.handle(logging.makeLogRecord({"msg": "three"}))
    lines.close()
    assert path.read_text() == "one\ntwo\nthree\n"
