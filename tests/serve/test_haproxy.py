"""What stands between Serve and the HAProxy binary."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.serve import haproxy
from lakebed.serve.error_responses import unavailable_page

SERVE_WROTE = """\
    errorfile 502 /run/500.http
    errorfile 503 /run/500.http
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
    errorfile 502 /run/page.http
    errorfile 503 /run/page.http
frontend prometheus
    bind 127.0.0.1:9101
    mode http
frontend http_frontend
    bind *:8000
    log global
backend default_backend
    http-request return status 503 default-errorfiles
listen stats
  bind 127.0.0.1:8404
  stats enable
"""


def test_side_doors_move_to_loopback_and_haproxy_s_own_answers_are_replaced() -> None:
    assert haproxy.mended(SERVE_WROTE, "/run/page.http") == MENDED
    assert haproxy.mended(MENDED, "/run/page.http") == MENDED


def test_serve_s_own_template_still_has_the_lines_that_are_mended() -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    for lines in (
        "frontend prometheus\n    bind :{{ config.metrics_port }}\n",
        "listen stats\n  bind *:{{ config.stats_port }}\n",
        "    errorfile 503 {{ config.error_file_path }}\n",
        "backend default_backend\n    http-request return status 404 ",
    ):
        assert lines in HAPROXY_CONFIG_TEMPLATE


def test_the_page_says_what_both_clients_read() -> None:
    head, _, body = unavailable_page().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head
    assert f"content-length: {len(body)}".encode() in head
    assert set(json.loads(body)) == {"error", "detail"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_what_stands_for_the_binary_becomes_it_and_ends_with_its_parent(tmp_path: Path) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(SERVE_WROTE)
    binary = tmp_path / "binary"
    binary.write_text('#!/bin/sh\necho "binary $*"\nexec sleep 60\n')
    binary.chmod(0o700)
    script = haproxy.install(tmp_path, str(binary), b"page")
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
    assert configuration.read_text() == haproxy.mended(SERVE_WROTE, str(tmp_path / "unavailable.http"))
    parent.send_signal(signal.SIGKILL)
    rest, _ = parent.communicate(timeout=20)  # returns when the last process that holds the pipe has ended
    assert rest == ""
