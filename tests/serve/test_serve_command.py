"""`lakebed serve` as a process: what it says when it cannot start, and what is left when it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.waiting import wait_until

from lakebed.serve.pid_file import ServerRecord, now, recorded, this_process
from lakebed.serve.ports import free_port

LISTENING = "0A"
LAKEBED = [sys.executable, "-P", "-m", "lakebed"]


def lakebed(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({} if path is None else {"PYTHONPATH": str(path)})}
    return subprocess.run(
        [*LAKEBED, *arguments], capture_output=True, text=True, timeout=120, check=False, env=environment
    )


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


@pytest.mark.parametrize("listens", [True, False])
def test_the_server_behind_a_port_in_use_is_named_with_the_way_to_end_it(listens: bool) -> None:
    """Though it is still starting and does not listen yet."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        if not listens:
            other.close()
        with recorded(record_of_this_process(port)):
            words = [f"lakebed server, pid {os.getpid()}", f"lakebed serve stop --host 127.0.0.1 --port {port}"]
            check_refusal(lakebed("serve", "--model", "fake", "--no-keys", "--port", str(port)), 5, *words)


def record_of_this_process(port: int) -> ServerRecord:
    pid, started = this_process()
    return ServerRecord(
        pid=pid, started=started, since=now(), host="127.0.0.1", port=port, url=f"http://127.0.0.1:{port}",
        folder=Path("/tmp/none"), keys=False, replicas=1, models=(),
    )  # fmt: skip


def test_a_server_can_be_ended_by_its_address_though_it_is_still_starting(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "serve.yaml").write_text(f"port: {port}\nrequire_keys: false\nmodels: {{m: fake}}\n")
    of_it = ["--config", str(tmp_path / "serve.yaml")]
    server = subprocess.Popen(
        [*LAKEBED, "serve", *of_it], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: lakebed("serve", "status", *of_it).returncode == 4)
        stopped = lakebed("serve", "stop", *of_it)
        assert (stopped.returncode, stopped.stdout) == (0, f"stopped http://127.0.0.1:{port}, pid {server.pid}\n")
        assert server.communicate(timeout=5)[1].splitlines()[-1] == "stopped"
        assert server.returncode == 0
    finally:
        server.kill()
    for command in ("status", "stop"):
        check_refusal(lakebed("serve", command, *of_it), 3, f"127.0.0.1:{port}", "`lakebed serve` starts one")


def test_options_before_a_subcommand_are_not_silently_ignored() -> None:
    check_refusal(lakebed("serve", "--port", "9000", "status"), 2, "written after it")


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


def test_a_model_that_cannot_embed_is_said_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_ENCODER)
    result = lakebed("serve", "--model", "broken:Broken", "--no-keys", "--port", str(free_port()), path=tmp_path)
    check_refusal(result, 1, "did not start", "RuntimeError: these weights are spoilt", "logs: ")


BROKEN_ENCODER = """
from lakebed.platform.encoder.fake import FakeEncoder

class Broken(FakeEncoder):
    def forward(self, work):
        raise RuntimeError("these weights are spoilt")
"""


def test_a_whole_process_group_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    """As a service manager does it; Ray's daemons then go before their driver can talk to them."""
    with starting(tmp_path, "fake") as (server, port):
        check_only_loopback(mark_of(tmp_path), port)
        os.killpg(server.pid, signal.SIGTERM)
        check_clean_end(server, tmp_path, port)


@pytest.mark.parametrize("moment", ["servers/", "gcs_server", "ServeReplica"])
def test_a_signal_at_any_moment_of_the_start_ends_it_and_leaves_nothing(tmp_path: Path, moment: str) -> None:
    with starting_up(tmp_path) as (server, port):
        if moment == "servers/":
            wait_until(lambda: any((tmp_path / "lakebed-home").glob("servers/*.json")), 120)
        else:
            wait_until(
                lambda: any(moment in command for command in processes_with(mark_of(tmp_path)).values()), 120
            )
        server.send_signal(signal.SIGTERM)
        check_clean_end(server, tmp_path, port)
        assert not any((tmp_path / "lakebed-home").glob("servers/*"))


def test_what_was_asked_before_the_end_is_answered(tmp_path: Path) -> None:
    (tmp_path / "gated.py").write_text(GATED_ENCODER)
    with starting(tmp_path, "gated=gated:Gated") as (server, port), ThreadPoolExecutor(1) as other:
        (tmp_path / "gate").touch()
        asked = other.submit(ask, port)
        wait_until((tmp_path / "busy").exists)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(port))
        assert server.poll() is None
        (tmp_path / "gate").unlink()
        answer = asked.result(timeout=30)
        assert (answer.status_code, len(answer.json()["data"])) == (200, 1)
        check_clean_end(server, tmp_path, port)


GATED_ENCODER = """
import pathlib, time
from lakebed.platform.encoder.fake import FakeEncoder

class Gated(FakeEncoder):
    def forward(self, work):
        here = pathlib.Path(__file__).parent
        if (here / "gate").exists():
            (here / "busy").touch()
        while (here / "gate").exists():
            time.sleep(0.01)
        return super().forward(work)
"""


@contextmanager
def starting_up(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that is not ready yet, and its port; its processes are marked with `folder`."""
    port = free_port()
    server = subprocess.Popen(
        [*LAKEBED, "serve", "--model", "fake", "--no-keys", "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "LAKEBED_TEST_MARK": str(folder)},
    )
    try:
        yield server, port
    finally:
        server.terminate()
        server.communicate(timeout=60)


@contextmanager
def starting(folder: Path, model: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that is ready, and its port; modules in `folder` can be imported by it."""
    port = free_port()
    server = subprocess.Popen(
        [*LAKEBED, "serve", "--model", model, "--no-keys", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "LAKEBED_TEST_MARK": str(folder), "PYTHONPATH": str(folder)},
    )
    try:
        assert server.stdout is not None
        ready = server.stdout.readline()
        name = model.partition("=")[0]
        assert ready.startswith(f"ready: http://127.0.0.1:{port}/v1 serves {name}"), server.communicate()
        yield server, port
    finally:
        server.kill()


def mark_of(folder: Path) -> str:
    """What the environment of the server's processes holds."""
    return f"LAKEBED_TEST_MARK={folder}"


def check_clean_end(server: subprocess.Popen[str], folder: Path, port: int) -> None:
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert errors.splitlines()[-1] == "stopped"
    assert processes_with(mark_of(folder)) == {}
    assert refuses(port)


def ask(port: int) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(f"http://127.0.0.1:{port}/v1/embeddings", json={"model": "gated", "input": "x"})


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the queue of a listener that was just closed
        return False
    return False


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
