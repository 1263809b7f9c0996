"""Records of running servers: found while their process lives, never taken for another's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakebed.serve import pid_file
from lakebed.serve.errors import ServerError
from lakebed.serve.pid_file import ServerRecord, find_server, find_servers, recorded, stop_server

READY_TO_DIE = "print(flush=True); import time; time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY_TO_DIE


def record_of(pid: int, **other: object) -> ServerRecord:
    started = pid_file._start_of(pid)
    fields = {
        "pid": pid, "started": started, "since": pid_file.now(), "host": "127.0.0.1", "port": 8000, "keys": False,
        "url": "http://127.0.0.1:8000", "folder": Path("/tmp/none"), "replicas": 1, "models": (), **other,
    }  # fmt: skip
    return ServerRecord.model_validate(fields)


@pytest.fixture
def other() -> Iterator["subprocess.Popen[bytes]"]:
    with python(READY_TO_DIE) as process:
        yield process
        process.kill()


def python(code: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_living_server_is_found_by_its_address_until_it_leaves() -> None:
    record = record_of(os.getpid())
    with recorded(record):
        assert find_server("127.0.0.1", 8000) == record
        assert find_server("127.0.0.1", 8001) is None
        assert find_servers() == [record]
    assert find_servers() == []


def test_a_record_says_when_its_server_has_become_ready() -> None:
    record = record_of(os.getpid())
    with recorded(record):
        pid_file.write(record.model_copy(update={"ready": True}))
        found = find_server("127.0.0.1", 8000)
        assert found is not None
        assert found.ready
    assert find_servers() == []


def test_addresses_of_all_kinds_can_be_names_of_files() -> None:
    for host in ("::1", "0.0.0.0", "localhost"):
        with recorded(record_of(os.getpid(), host=host)):
            assert find_server(host, 8000) is not None


def test_what_a_killed_server_left_is_taken_away(lakebed_home: Path, other: "subprocess.Popen[bytes]") -> None:
    pid_file.write(record_of(other.pid))
    other.kill()
    other.wait()
    assert find_server("127.0.0.1", 8000) is None
    assert list((lakebed_home / "servers").iterdir()) == []


def test_a_process_that_was_given_the_id_later_is_not_the_server(other: "subprocess.Popen[bytes]") -> None:
    stale = record_of(other.pid, started=f"{pid_file._start_of(other.pid)}0")
    pid_file.write(stale)
    stop_server(stale, 5)
    assert find_server("127.0.0.1", 8000) is None
    assert other.poll() is None


def test_the_record_of_a_successor_is_left_alone(other: "subprocess.Popen[bytes]") -> None:
    with recorded(record_of(os.getpid())):
        pid_file.write(record_of(other.pid))
    assert find_server("127.0.0.1", 8000) is not None


def test_a_damaged_record_is_none(lakebed_home: Path) -> None:
    pid_file.write(record_of(os.getpid()))
    [path] = (lakebed_home / "servers").iterdir()
    path.write_text("{")
    assert find_server("127.0.0.1", 8000) is None


def test_stopping_waits_for_the_end(other: "subprocess.Popen[bytes]") -> None:
    stop_server(record_of(other.pid), 60)
    assert other.wait() == -signal.SIGTERM


def test_stopping_gives_up_after_the_time_that_was_given() -> None:
    with python(DEAF) as deaf:
        with pytest.raises(ServerError, match=f"pid {deaf.pid}, has not ended within 0.1 s"):
            stop_server(record_of(deaf.pid), 0.1)
        assert deaf.poll() is None
        deaf.kill()


def test_stopping_what_has_ended_does_nothing(other: "subprocess.Popen[bytes]") -> None:
    record = record_of(other.pid)
    other.kill()
    other.wait()
    stop_server(record, 0)
