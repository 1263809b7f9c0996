"""Parts of real servers die or are replaced under load, and no answer is lost.

Every request gets its right vector, if need be when the SDK tries again.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
from tests.waiting import wait_until

from lakebed.platform.config.serve import Limits, Replicas, ServeConfig
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.items import Item
from lakebed.serve import haproxy, pid_file
from lakebed.serve.cluster_file import cluster_file
from lakebed.serve.pid_file import ServerRecord
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.server import SERVE_VARIABLES
from lakebed.serve.status import server_status

CLIENTS = 4

ENCODERS = """
import time
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.items import Item

POISON = Item.of("poison").content_key()

class Poisoned(FakeEncoder):
    def forward(self, work):
        time.sleep(0.05)  # so that others come to lie in the same batch
        if any(work.columns["key"].row(row).tobytes().hex() == POISON for row in range(len(work))):
            raise RuntimeError("cannot stand this one")
        return super().forward(work)

class Slow(FakeEncoder):
    def forward(self, work):
        time.sleep(0.2 * len(work))
        return super().forward(work)
"""


class Load:
    """Clients as their users have them, each sending texts that nobody else sends and checking every vector."""

    def __init__(self, url: str) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CLIENTS)]

    def _send(self, number: int) -> None:
        with openai.OpenAI(base_url=f"{self._url}/v1", api_key="none") as client:
            count = 0
            while not self._over.is_set():
                text = f"client {number} says {count}"
                count += 1
                try:
                    got = client.embeddings.create(model="fake", input=text).data[0].embedding
                except openai.OpenAIError as error:
                    self.failures.append(repr(error))
                    continue
                if float(np.dot(got, vector_of(text))) < 0.9999:
                    self.failures.append(f"a wrong vector for {text!r}")
                self.answered += 1

    def wait_for_more(self, count: int = 100) -> None:
        """Until so many more requests were answered than by now."""
        wanted = self.answered + count
        wait_until(lambda: self.answered >= wanted or bool(self.failures))

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load(url: str) -> Iterator[Load]:
    """Run a load for the length of a block; afterwards nothing may have failed."""
    with Load(url) as running:
        running.wait_for_more(20)
        yield running
        running.wait_for_more()
    assert running.failures == []


def vector_of(text: str) -> np.ndarray:
    encoder = FakeEncoder(64)
    return encoder.finish(encoder.forward(encoder.prepare([Item.of(text)])))[0]


@contextmanager
def server_of(
    folder: Path, models: Mapping[str, str], replicas: Replicas, **settings: Any
) -> Iterator[ServerRecord]:
    """A server without keys, whose encoders may come from ENCODERS."""
    (folder / "encoders_of_faults.py").write_text(ENCODERS)
    environment = {**os.environ, "LAKEBED_HOME": str(folder)}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
    config = ServeConfig(port=free_port(), models=dict(models), require_keys=False, replicas=replicas, **settings)
    with running_server(config, environment=environment), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEBED_HOME", str(folder))
        wait_until(lambda: (found := pid_file.find_server(config.host, config.port)) is not None and found.ready)
        record = pid_file.find_server(config.host, config.port)
        assert record is not None
        assert len(replicas_up(record)) == config.http_replicas.min
        yield record


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerRecord]:
    """A server with two replicas."""
    models = {"fake": "fake:64", "poisoned": "encoders_of_faults:Poisoned"}
    with server_of(tmp_path_factory.mktemp("pair"), models, Replicas(min=2, max=2)) as record:
        yield record


def replicas_up(record: ServerRecord) -> set[str]:
    return {replica.name for replica in server_status(record).replicas if replica.up}


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, with their command lines."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            found[process.pid] = " ".join(process.cmdline())
    return found


def test_a_killed_replica_is_replaced_and_nothing_is_lost(pair: ServerRecord) -> None:
    before = replicas_up(pair)
    assert len(before) == 2
    with load(pair.url):
        victim = next(pid for pid, command in descendants(pair.pid).items() if "ServeReplica" in command)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(after := replicas_up(pair)) == 2 and after != before)


def test_a_killed_haproxy_is_replaced_and_nothing_is_lost(pair: ServerRecord) -> None:
    [admin] = haproxy.admin_sockets(pair.folder)
    first = haproxy.process_at(admin)
    assert first is not None
    with load(pair.url) as running:
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: haproxy.process_at(admin) not in (None, first))
        stand_in = haproxy.process_at(admin)
        running.wait_for_more()
        # Serve's own takes over, and follows replicas again.
        wait_until(lambda: haproxy.process_at(admin) not in (None, first, stand_in))
    assert len(replicas_up(pair)) == 2


def test_an_item_that_breaks_the_model_fails_its_own_request_only(pair: ServerRecord) -> None:
    texts = [f"good {number}" for number in range(12)]
    texts[5] = "poison"
    statuses: dict[str, int] = {}

    def ask(text: str) -> None:
        body = {"model": "poisoned", "input": text}
        answer = httpx.post(f"{pair.url}/v1/embeddings", json=body, trust_env=False, timeout=60)
        statuses[text] = answer.status_code

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {text: 500 if text == "poison" else 200 for text in texts}


def test_replicas_come_with_the_work_and_go_after_it(tmp_path: Path) -> None:
    replicas = Replicas(min=1, max=2, target_queued_tokens=8, upscale_seconds=0.5, downscale_seconds=0.5)
    with server_of(tmp_path, {"slow": "encoders_of_faults:Slow"}, replicas) as record:
        assert len(replicas_up(record)) == 1
        over = threading.Event()

        def ask_on() -> None:
            body = {"model": "slow", "input": ["four words are sent"] * 8}
            while not over.is_set():
                httpx.post(f"{record.url}/v1/embeddings", json=body, trust_env=False, timeout=60)

        threads = [threading.Thread(target=ask_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(replicas_up(record)) == 2)
        over.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(replicas_up(record)) == 1)


def test_in_the_split_shape_a_model_has_replicas_of_its_own_and_nothing_is_lost_with_one(tmp_path: Path) -> None:
    models = {"fake": "fake:64", "other": "fake:16"}
    settings = {"shape": "split", "replicas_of": {"fake": Replicas(min=2, max=2)}}
    with server_of(tmp_path, models, Replicas(), **settings) as record:

        def servers() -> dict[str, list[int]]:
            found: dict[str, list[int]] = {}
            for pid, command in descendants(record.pid).items():
                if "ServeReplica" in command:
                    found.setdefault(command.strip().rpartition(":")[2], []).append(pid)
            return found

        assert {name: len(pids) for name, pids in servers().items()} == {
            "endpoint": 1,
            "model-0-fake": 2,
            "model-1-other": 1,
        }
        body = {"model": "other", "input": ["x"] * 2048}
        answer = httpx.post(f"{record.url}/v1/embeddings", json=body, trust_env=False, timeout=60).json()
        assert {len(entry["embedding"]) for entry in answer["data"]} == {16}
        with load(record.url):
            victim = servers()["model-0-fake"][0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(pids := servers().get("model-0-fake", [])) == 2 and victim not in pids)


TOKEN = secrets.token_hex(32)


@pytest.fixture
def cluster() -> Iterator[str]:
    """Start a cluster of one node, as cluster.yaml does, on free ports; yields its address."""
    ports = [free_port() for _ in range(5)]
    ray = str(Path(sys.executable).with_name("ray"))
    with tempfile.TemporaryDirectory(prefix="lb", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            ray, "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}",
            "--object-store-memory=150000000", f"--port={ports[0]}", f"--dashboard-port={ports[1]}",
            f"--dashboard-agent-listen-port={ports[2]}", f"--ray-client-server-port={ports[3]}",
            f"--metrics-export-port={ports[4]}",
        ]  # fmt: skip
        with (Path(folder) / "start.log").open("w") as log:
            head = subprocess.Popen(command, env=node_environment(Path(folder)), stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{ports[1]}"
        finally:
            processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            head.wait(timeout=30)
            psutil.wait_procs(processes, timeout=30)


def node_environment(folder: Path) -> dict[str, str]:
    """What a node has: Serve's settings and our HAProxy as in cluster.yaml, and paths of its own."""
    install = [sys.executable, "-P", "-m", "lakebed.serve.haproxy", "install", str(folder / "bin")]
    binary = subprocess.run(install, check=True, capture_output=True, text=True).stdout.strip()
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
    return {
        **kept,
        **SERVE_VARIABLES,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_SERVE_HAPROXY_BINARY_PATH": binary,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }


def deploy(config: ServeConfig, cluster: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a file and hand it to a cluster, with the two commands that documents name."""
    path = folder / "endpoint.yaml"
    path.write_text(cluster_file(config)[0])
    environment = {
        **os.environ,
        "RAY_DASHBOARD_ADDRESS": cluster,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    serve = str(Path(sys.executable).with_name("serve"))
    return subprocess.run(
        [serve, "deploy", str(path)], env=environment, capture_output=True, text=True, check=False
    )


def status_of(url: str, inputs: int) -> int | None:
    """Status of a request with so many inputs, None when nothing answers."""
    try:
        body = {"model": "fake", "input": ["x"] * inputs}
        return httpx.post(f"{url}/v1/embeddings", json=body, trust_env=False, timeout=30).status_code
    except httpx.TransportError:
        return None


def test_a_built_file_is_deployed_and_deployed_again_and_nothing_is_lost(cluster: str, tmp_path: Path) -> None:
    replicas = Replicas(min=1, max=1, cpus=1)
    config = ServeConfig(port=free_port(), models={"fake": "fake:64"}, require_keys=False, replicas=replicas)
    url = f"http://127.0.0.1:{config.port}"
    wait_until(lambda: deploy(config, cluster, tmp_path).returncode == 0)  # the dashboard takes its time
    wait_until(lambda: status_of(url, inputs=3) == 200)
    fewer = config.model_copy(update={"limits": Limits(max_inputs=2)})
    with load(url):
        done = deploy(fewer, cluster, tmp_path)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: status_of(url, inputs=3) == 400)
