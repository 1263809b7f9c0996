"""Requests that were made to break the server: it refuses them, says why, and goes on answering others."""

import asyncio
import gzip
import http.client
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from copy import deepcopy
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Batching, Limits
from lakebed.platform.encoder.load import resolve_model
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.models import load_models
from lakebed.serve.service import Service

ClientFactory = Callable[..., TestClient]

SERIES: Final = [[0.5, 1.5, -2.0, 1e-3], [1, 2, 3, 4]]
GOOD: Final[dict[str, Any]] = {"model": "fake", "input": ["a pump", {"time_series": SERIES}], "dimensions": 8}
SEEDS: Final[list[dict[str, Any]]] = [
    GOOD,
    {"model": "fake", "input": "a pump that rattles"},
    {"model": "fake", "input": "x", "encoding_format": "base64", "user": "u", "metadata": {"a": {"b": [1]}}},
    {"model": "fake", "input": json.dumps([{"text": "a"}, {"time_series": SERIES}])},
    {"model": "fake", "input": [json.dumps({"time_series": SERIES}), "b"], "truncate": "end"},
    {"model": "fake", "input": {"text": "both", "time_series": SERIES, "sampling_rate": 50}},
    {"model": "fake", "input": [{"time_series": SERIES, "channel_names": ["x", "y"], "sampling_rate": 0.5}]},
    {"model": "fake", "input": [[1, 2, 3], [4]]},
]
STRANGE: Final[list[Any]] = [
    None, True, False, 0, -1, 7, 1.5, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, float("nan"), float("-inf"),
    "", " ", "\x00", "\ud800", "é" * 600, "NaN", "[1, 2]", '{"text": "x"}', '[{"text": 1}]', '{"text": NaN}',
    "[" * 3000, '{"text": ' * 2000, "model", [], {}, [[]], [[[]]], [None], {"text": None}, {"time_series": [[]]},
    {"time_series": [[1], [2, 3]]}, {"time_series": "1"}, {"text": "x", "time_series": [[True]]}, ["x"] * 3000,
]  # fmt: skip
NUMBERS: Final = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1e-999",
    b"9" * 5000,
    b"0x1F",
    b"01",
    b"1.",
    b"--1",
    b"1e",
    b"1_0",
]

NAMES: Final = ["model", "input", "text", "time_series", "channel_names", "sampling_rate", "é", ""]


def mutated(chance: random.Random) -> bytes:
    """One body: a good request, spoilt in its values, its structure, its numbers or its bytes."""
    value = json.loads(json.dumps(chance.choice(SEEDS)))
    for _ in range(chance.randrange(4)):
        _spoil(chance, value)
    body = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")
    for _ in range(chance.choice([0, 0, 0, 1, 3])):
        body = chance.choice([_other_number, _other_bytes])(chance, body)
    return body


def _spoil(chance: random.Random, value: Any) -> None:
    """Replace, remove, wrap, repeat or rename one thing somewhere inside."""
    inside = list(parts_of(value))
    while inside:
        holder, key = chance.choice(inside)
        held = holder[key]
        deeper = list(parts_of(held))
        if deeper and chance.random() < 0.6:
            inside = deeper
            continue
        action = chance.randrange(5)
        if action == 0 and isinstance(holder, dict):
            holder[chance.choice(NAMES)] = holder.pop(key)
        elif action == 1:
            del holder[key]
        elif action == 2:
            holder[key] = [deepcopy(held) for _ in range(chance.choice([1, 2, 40]))]
        else:
            holder[key] = deepcopy(chance.choice(STRANGE))
        return


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return ((value, key) for key in keys)


def _other_number(chance: random.Random, body: bytes) -> bytes:
    places = [place for place, byte in enumerate(body) if chr(byte).isdigit()]
    if not places:
        return body
    place = chance.choice(places)
    return body[:place] + chance.choice(NUMBERS) + body[place + 1 :]


def _other_bytes(chance: random.Random, body: bytes) -> bytes:
    start = chance.randrange(len(body) + 1)
    stop = min(len(body), start + chance.choice([0, 1, 1, 5, 50]))
    new = chance.choice(
        [b"", bytes([chance.randrange(256)]), chance.randbytes(4), body[start:stop] * 2, b'"', b"[", b"}"]
    )
    return body[:start] + new + body[stop:]


@pytest.fixture(scope="module")
def api() -> FastAPI:
    models = load_models({"fake": resolve_model("fake:64")}, "cpu", Batching())
    return create_api(Service(models, NoKeys(), Limits()))


def check_refusal(answer: httpx.Response, status: int | None = None) -> None:
    """Short JSON in both vendors' forms."""
    body = answer.json()
    assert status in (None, answer.status_code)
    assert set(body) == {"error", "detail", "request_id"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["detail"]
    assert len(answer.content) < 10_000


def test_ten_thousand_spoilt_bodies_are_answered_or_refused_and_never_a_fault(api: FastAPI) -> None:
    chance = random.Random(4)
    bodies = [mutated(chance) for _ in range(10_000)]
    counts = asyncio.run(ask_all(api, bodies))
    assert sum(counts.values()) == len(bodies)
    assert set(counts) <= {201, 404, 422}
    assert min(counts.values()) > 100, counts


async def ask_all(api: FastAPI, bodies: list[bytes]) -> dict[int, int]:
    """How many got which status; 50 at a time, and a good request among every thousand."""
    counts: dict[int, int] = {}
    gate = asyncio.Semaphore(50)

    async def ask(client: httpx.AsyncClient, number: int, body: bytes) -> None:
        async with gate:
            answer = await client.post("/api/v1/embeddings", content=body)
            assert answer.status_code < 500, body[:2000]
            if answer.status_code != 201:
                check_refusal(answer)
            counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
            if number % 1000 == 0:
                assert (await client.post("/v1/embeddings", json=GOOD)).status_code == 200

    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        await asyncio.gather(*(ask(client, number, body) for number, body in enumerate(bodies)))
    return counts


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode("utf-32-le"),
        json.dumps(GOOD).encode() * 2,
        json.dumps(GOOD).encode() + b"\0",
        b'{"model": "fake", "input": [{"time_series": [[1e400]]}]}',
        b'{"model": "fake", "input": "x", "dimensions": 1' + b"0" * 4000 + b"}",
        b'{"model": "fake", "input": {"text": "x", "sampling_rate": ' + b"9" * 400 + b"}}",
        b'{"model": "fake", "input": {"time_series": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}}",
    ],
    ids=["bom", "utf-16", "utf-32", "twice", "nul", "infinite", "dimensions", "rate", "deep"],
)
def test_a_body_that_only_looks_like_json_is_refused(client: TestClient, body: bytes) -> None:
    check_refusal(client.post("/v1/embeddings", content=body), 400)


def test_the_last_of_two_equal_keys_counts(client: TestClient) -> None:
    answer = client.post(
        "/v1/embeddings", content=b'{"model": "no", "input": ["a", "b"], "model": "fake", "input": "c"}'
    )
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1)


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"text": ' * 50_000, "[" * 100_000])
def test_a_text_that_looks_like_bottomless_json_is_a_text(client: TestClient, text: str) -> None:
    answer = client.post("/v1/embeddings", json={"model": "fake", "input": text, "truncate": "end"})
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1)


@pytest.mark.parametrize(
    "name", ["a\r\nx-evil: 1", "\x00", "fake@" + "7" * 5000, "é", "../fake", "%00", "x" * 100_000]
)
def test_a_model_s_name_is_repeated_only_as_much_as_is_safe(client: TestClient, name: str) -> None:
    answer = client.post("/v1/embeddings", json={"model": name, "input": "x"})
    check_refusal(answer, 404)
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (None, 200),
        ("application/json; charset=utf-8", 200),
        ("Application/Problem+JSON", 200),
        ("text/plain;charset=UTF-8", 200),  # what a browser says by default
        ("application/x-www-form-urlencoded", 200),  # what curl says by default
        ("multipart/form-data; boundary=x", 415),
        ("application/xml", 415),
        ("image/png", 415),
        ("x" * 5000, 415),
    ],
)
def test_what_a_body_says_of_itself(client: TestClient, kind: str | None, status: int) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = client.post("/v1/embeddings", content=json.dumps(GOOD), headers=headers)
    assert answer.status_code == status
    if status != 200:
        check_refusal(answer)


@pytest.mark.parametrize("length", ["99999999999", "9" * 5000])
def test_a_length_over_the_limit_is_refused_unread(client: TestClient, length: str) -> None:
    answer = client.post("/v1/embeddings", content=json.dumps(GOOD), headers={"content-length": length})
    check_refusal(answer, 413)


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "<script>", "a;b", "x" * 129, "é".encode(), "\x7f"])
def test_an_id_that_is_not_fit_to_be_repeated_is_replaced(client: TestClient, given: Any) -> None:
    answer = client.get("/nothing", headers={"x-request-id": given})
    [shown] = answer.headers.get_list("x-request-id")
    assert shown == answer.json()["request_id"]
    assert len(shown) == 36


def test_an_id_that_is_fit_comes_back_in_header_and_body(client: TestClient) -> None:
    for path in ("/nothing", "/health"):
        assert (
            client.get(path, headers={"x-request-id": "job_7/row:12.a=b"}).headers["x-request-id"]
            == "job_7/row:12.a=b"
        )
    assert client.get("/nothing", headers={"x-request-id": "mine"}).json()["request_id"] == "mine"


@pytest.mark.parametrize("pause", [None, 0.01])
def test_a_body_that_does_not_come_to_an_end_is_given_up(pause: float | None) -> None:
    limits = Limits(body_seconds=0.05, body_bytes_per_second=1000)
    api = create_api(Service(load_models({"fake": resolve_model("fake:64")}, "cpu", Batching()), NoKeys(), limits))

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        if pause is None:
            await asyncio.Event().wait()
        while pause:
            await asyncio.sleep(pause)
            yield b" "

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
            return await client.post("/v1/embeddings", content=body())

    check_refusal(asyncio.run(ask()), 408)


def test_large_bodies_that_arrive_together_are_bounded_and_small_ones_still_come_in() -> None:
    limits = Limits(max_body_bytes=300_000, max_arriving_bytes=400_000)
    api = create_api(Service(load_models({"fake": resolve_model("fake:64")}, "cpu", Batching()), NoKeys(), limits))
    small = json.dumps({"model": "fake", "input": "a text"}).encode()

    async def story() -> list[int]:
        arrived, go_on = asyncio.Queue[int](), asyncio.Event()

        async def large(number: int) -> AsyncIterator[bytes]:
            yield b" " * 250_000
            await arrived.put(number)
            await go_on.wait()
            yield small

        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
            first = asyncio.create_task(client.post("/v1/embeddings", content=large(1)))
            await arrived.get()
            second = await client.post("/v1/embeddings", content=large(2))
            check_refusal(second, 429)
            assert second.headers["retry-after"]
            beside = await client.post("/v1/embeddings", content=small)
            go_on.set()
            statuses = [(await first).status_code]
            after = await client.post("/v1/embeddings", content=large(3))
            return [*statuses, beside.status_code, after.status_code]

    assert asyncio.run(story()) == [200, 200, 200]


def test_a_host_that_is_no_host_is_no_fault_of_ours(client: TestClient) -> None:
    for host in ("[::1", "a b", "x" * 300, "\x7f"):
        assert client.get("/health", headers={"host": host}).status_code == 200
        check_refusal(client.get("/nothing", headers={"host": host}), 404)


def exchange(server_url: str, data: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """Send bytes as they are; the first answer that comes, with its body."""
    with closing(connect(server_url)) as connection:
        connection.sendall(data)
        return receive(connection)


def connect(server_url: str) -> socket.socket:
    url = httpx.URL(server_url)
    return socket.create_connection((url.host, url.port), timeout=60)


def receive(connection: socket.socket) -> tuple[http.client.HTTPResponse, bytes]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer, answer.read()


def post(key: str, *headers: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [b"POST /v1/embeddings HTTP/1.1", b"host: x", b"authorization: Bearer " + key.encode(), *headers]
    if not any(line.lower().startswith(b"transfer-encoding") for line in headers):
        lines.append(b"content-length: %d" % size)
    return b"\r\n".join([*lines, b"", body])


BODY: Final = json.dumps(GOOD).encode()
CHUNKED: Final = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def check_json_refusal(answer: http.client.HTTPResponse, body: bytes, status: int) -> None:
    assert answer.status == status, body
    said = json.loads(body)
    assert {"error", "detail", "request_id"} == set(said)
    assert answer.headers.get_all("x-request-id") == [said["request_id"]]


def check_well(server_url: str, server_key: str) -> None:
    answer, body = exchange(server_url, post(server_key, body=BODY))
    assert (answer.status, len(json.loads(body)["data"])) == (200, 2)


@pytest.mark.parametrize(
    "header",
    [
        b"x-request-id: \xff\xfe",
        b"x-request-id: " + b"a" * 5000,
        b"x-request-id: one\r\nx-request-id: two",
        b"x-request-id:",
        b"x-request-id: <script>",
        b"serve_multiplexed_model_id: \xff",
        b"Serve-Multiplexed-Model-Id: \xff",
        b"x-session-id: \xff",
        b"X_Session_Id: \xff",
        b"x-request-timeout-seconds: \xff",
        b"x-request-timeout-seconds: 1e-9",
        b"x-request-disconnect-disabled: \xff",
        b"traceparent: \xff",
        b"cookie: " + b"a" * 9000,
        b"\r\n".join(b"x-%d: y" % number for number in range(80)),
    ],
    ids=range(15),
)
def test_no_header_makes_the_server_fail(server_url: str, server_key: str, header: bytes) -> None:
    """Serve reads some of them itself, and fails on what is no UTF-8."""
    answer, body = exchange(server_url, post(server_key, header, body=BODY))
    assert answer.status == 200, body
    [request_id] = answer.headers.get_all("x-request-id") or []
    assert len(request_id) == 36


def test_an_id_that_is_fit_comes_back_once_through_every_layer(server_url: str, server_key: str) -> None:
    for key, body, status in (
        (server_key, BODY, 200),
        ("wrong-key-of-some-length", BODY, 401),
        (server_key, b"{", 400),
    ):
        answer, said = exchange(server_url, post(key, b"X-Request-ID: job_7/row:12", body=body))
        assert (answer.status, answer.headers.get_all("x-request-id")) == (status, ["job_7/row:12"])
        assert status == 200 or json.loads(said)["request_id"] == "job_7/row:12"


UPGRADE: Final = b"""\
GET /v1/embeddings HTTP/1.1\r
host: x\r
upgrade: websocket\r
connection: upgrade\r
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r
sec-websocket-version: 13\r
\r
"""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"NOTHING /health HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"TRACE /health HTTP/1.1", 405),
        (b"PUT /v1/models HTTP/1.1", 405),
        (b"GET //v1/models HTTP/1.1", 404),
        (b"GET /v1/../health HTTP/1.1", 404),
        (b"GET /v1%2fnothing/%ff%00 HTTP/1.1", 404),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 404),
    ],
    ids=range(8),
)
def test_a_strange_request_is_refused_in_json(server_url: str, request_line: bytes, status: int) -> None:
    answer, body = exchange(server_url, request_line + b"\r\nhost: x\r\n\r\n")
    check_json_refusal(answer, body, status)
    assert len(body) < 2000


def test_a_websocket_is_refused_in_json(server_url: str) -> None:
    answer, body = exchange(server_url, UPGRADE)
    check_json_refusal(answer, body, 403)


def test_what_is_no_http_is_refused_and_the_server_stays_well(server_url: str, server_key: str) -> None:
    many = b"\r\n".join(b"x-%d: y" % number for number in range(5000))
    for data in (
        b"\x16\x03\x01\x00\xa5\x01\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx y: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + many + b"\r\n\r\n",
        b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        post(server_key, b"content-length: 3", body=BODY),
        post(server_key, b"transfer-encoding: chunked", body=b"zz\r\n" + CHUNKED),
    ):
        assert exchange(server_url, data)[0].status == 400, data[:100]
    check_well(server_url, server_key)


def test_a_body_in_chunks_is_read_and_one_of_two_lengths_is_read_once(server_url: str, server_key: str) -> None:
    chunked = post(server_key, b"transfer-encoding: chunked", body=CHUNKED)
    smuggled = post(server_key, b"content-length: 4", b"transfer-encoding: chunked", body=CHUNKED)
    for data in (chunked, smuggled):
        with closing(connect(server_url)) as connection:
            connection.sendall(data + b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answers = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answers.count(b"HTTP/1.1 200 OK") == (2 if data is chunked else 1)


def test_a_length_that_is_too_short_ends_the_body_there(server_url: str, server_key: str) -> None:
    answer, body = exchange(server_url, post(server_key, body=BODY, length=10))
    check_json_refusal(answer, body, 400)


def test_an_oversized_body_is_refused_before_it_is_sent_and_while_it_is(server_url: str, server_key: str) -> None:
    with closing(connect(server_url)) as connection:
        connection.sendall(post(server_key, b"expect: 100-continue", length=2**40))
        check_json_refusal(*receive(connection), 413)
    chunks = (b" " * 2**20 for _ in range(80))
    headers = {"authorization": f"Bearer {server_key}"}
    answer = httpx.post(
        f"{server_url}/v1/embeddings", content=chunks, headers=headers, trust_env=False, timeout=60
    )
    check_refusal(answer, 413)


def test_a_compressed_body_is_refused_unread(server_url: str, server_key: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    answer, body = exchange(server_url, post(server_key, b"content-encoding: gzip", body=bomb))
    check_json_refusal(answer, body, 415)


def test_who_keeps_the_server_waiting_is_cut_off(server_url: str, server_key: str) -> None:
    """The server of the tests waits five seconds for headers, and for a body."""
    with closing(connect(server_url)) as headers, closing(connect(server_url)) as body:
        headers.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        body.sendall(post(server_key, body=b"{", length=1000))
        check_well(server_url, server_key)
        assert receive(headers)[0].status == 408
        assert headers.recv(1) == b""
        check_json_refusal(*receive(body), 408)


def test_many_idle_connections_keep_nobody_out(server_url: str, server_key: str) -> None:
    with ExitStack() as stack:
        for number in range(600):
            connection = stack.enter_context(closing(connect(server_url)))
            connection.sendall(
                [b"", b"GET /health HTTP/1.1\r\n", post(server_key, body=b"{", length=99)][number % 3]
            )
        check_well(server_url, server_key)
