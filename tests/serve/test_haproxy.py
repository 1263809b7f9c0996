"""What stands between Serve and the HAProxy binary."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.serve import haproxy

SERVE_WROTE = """\
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
    log global
listen stats
  bind *:8404
  stats enable
"""

MENDED = """\
frontend prometheus
    bind 127.0.0.1:9101
    mode http
frontend http_frontend
    bind *:8000
    log global
listen stats
  bind 127.0.0.1:8404
  stats enable
"""


def test_only_the_side_doors_move_to_loopback() -> None:
    assert haproxy.mended(SERVE_WROTE) == MENDED
    assert haproxy.mended(MENDED) == MENDED


def test_serve_s_own_template_still_has_the_lines_that_are_mended() -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE as TEMPLATE

    assert "frontend prometheus\n    bind :{{ config.metrics_port }}\n" in TEMPLATE
    assert "listen stats\n  bind *:{{ config.stats_port }}\n" in TEMPLATE


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_what_stands_for_the_binary_becomes_it_and_ends_with_its_parent(tmp_path: Path) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(SERVE_WROTE)
    binary = tmp_path / "binary"
    binary.write_text('#!/bin/sh\necho "binary $*"\nexec sleep 60\n')
    binary.chmod(0o700)
    script = haproxy.install(tmp_path, str(binary))
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
