"""`lakebed serve` as a process: what it says when it cannot start, and what is left when it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.serve.ports import free_port

LISTENING = "0A"
LAKEBED = [sys.executable, "-P", "-m", "lakebed"]


def lakebed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAKEBED, *arguments], capture_output=True, text=True, timeout=120, check=False)


def check_refusal(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code
    assert result.stdout == ""
    [line] = [line for line in result.stderr.splitlines() if not line.startswith("starting")]
    assert line.startswith("error: ")
    assert all(word in line for word in words), line


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        check_refusal(lakebed("serve", "--model", "fake", "--port", port), 5, port, "in use", "--port")


def test_an_address_of_another_machine_is_refused() -> None:
    result = lakebed("serve", "--model", "fake", "--host", "192.0.2.77", "--port", str(free_port()))
    check_refusal(result, 2, "cannot listen on 192.0.2.77")


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("./no/such/folder", 3, ["no such model directory", "lakebed train"]),
        ("no-such-model", 3, ["no-such-model", "lakebed models"]),
        ("fake:many", 2, ["fake:64"]),
    ],
)
def test_a_missing_model_is_said_before_anything_starts(model: str, code: int, words: list[str]) -> None:
    check_refusal(lakebed("serve", "--model", model, "--port", str(free_port())), code, *words)


def test_a_faulty_file_and_faulty_options_are_named(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("port: eight thousand\n")
    check_refusal(lakebed("serve", "--config", str(path)), 2, str(path), "port")
    check_refusal(lakebed("serve", "--config", str(tmp_path / "missing.yaml")), 2, "no such file")
    check_refusal(lakebed("serve", "--host", "0.0.0.0", "--no-keys"), 2, "only on loopback")


@pytest.mark.parametrize("whole_group", [False, True], ids=["one process", "the whole process group"])
def test_told_to_end_it_ends_and_leaves_nothing(tmp_path: Path, whole_group: bool) -> None:
    """A service manager tells every process of the group at once, `kill` only the first."""
    port = free_port()
    mark = f"LAKEBED_TEST_MARK={tmp_path}"
    server = subprocess.Popen(
        [*LAKEBED, "serve", "--model", "fake", "--no-keys", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "LAKEBED_TEST_MARK": str(tmp_path)},
    )
    assert server.stdout is not None
    ready = server.stdout.readline()
    assert ready.startswith(f"ready: http://127.0.0.1:{port}/v1 serves fake"), server.communicate()
    check_only_loopback(mark, port)
    (os.killpg if whole_group else os.kill)(server.pid, signal.SIGTERM)
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert errors.splitlines()[-1] == "stopped"
    assert processes_with(mark) == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def check_only_loopback(mark: str, port: int) -> None:
    """Nothing of ours that speaks HTTP is reachable from elsewhere: HAProxy at all its ports, and the replica."""
    processes = processes_with(mark)
    [haproxy] = [process for process, command in processes.items() if "bin/haproxy" in command]
    [replica] = [process for process, command in processes.items() if "ServeReplica" in command]
    open_ports = [*listeners(haproxy), *listeners(replica)]
    assert ("127.0.0.1", port) in open_ports
    assert {address for address, _ in open_ports} == {"127.0.0.1"}


def processes_with(mark: str) -> dict[Path, str]:
    """Processes that have this in their environment, by their folder in /proc, with their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found[process] = command.decode(errors="replace")
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def listeners(process: Path) -> list[tuple[str, int]]:
    """Addresses and ports where a process listens for IPv4; 0.0.0.0 is every interface."""
    sockets = {str(file.readlink()) for file in (process / "fd").iterdir() if file.is_symlink()}
    found = []
    for line in (process / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, state, inode = fields[1], fields[3], fields[9]
        if state == LISTENING and f"socket:[{inode}]" in sockets:
            address, port = local.split(":")
            found.append((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found
