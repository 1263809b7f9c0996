"""The endpoint for tests: in this process without Ray, and one real server with keys for the whole session.

And a real PostgreSQL for the key store.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from lakebed.platform.config.serve import INERTIAL_NAME, Batching, KeyLimits, Limits, ServeConfig, TokenInput
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import Encoder
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys
from lakebed.serve.cache import EmbeddingCache
from lakebed.serve.key_limits import KeyRates
from lakebed.serve.metrics import Counter, Gauge, Histogram, Metrics
from lakebed.serve.models import ServedModel, ServedModels, load_models
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.scheduler import Scheduler
from lakebed.serve.service import Service
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key
from lakebed.serve.tokens import token_reader

MODEL = "fake:64"

AppFactory = Callable[..., FastAPI]
ClientFactory = Callable[..., TestClient]


@pytest.fixture
def app_of() -> AppFactory:
    """Make an endpoint to be run in this process, of a fake model or of `encoder`."""

    def make(
        limits: Limits | None = None,
        authenticator: Authenticator | None = None,
        token_input: TokenInput = "refuse",
        encoder: Encoder | None = None,
        key_limits: KeyLimits | None = None,
        metrics: Metrics | None = None,
        cache: EmbeddingCache | None = None,
    ) -> FastAPI:
        names = ("fake", "org/fake", INERTIAL_NAME)
        models = load_models(dict.fromkeys(names, resolve_model(MODEL)), "cpu", Batching(), metrics)
        if encoder is not None:
            scheduler = Scheduler(encoder.forward, ThreadPoolExecutor(1), Budget())
            models = ServedModels(dict.fromkeys(names, ServedModel(encoder, scheduler, "1", 0)))
        service = Service(
            models,
            authenticator or NoKeys(),
            limits or Limits(),
            tokens=token_reader(token_input),
            key_rates=KeyRates(key_limits or KeyLimits()),
            metrics=metrics,
            cache=cache,
        )
        return create_api(service)

    return make


@pytest.fixture
def client_of(app_of: AppFactory) -> Iterator[ClientFactory]:
    """Make an HTTP client of an endpoint in this process."""
    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> TestClient:
            app = app_of(*arguments, **options)
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make


@pytest.fixture
def listen() -> Iterator[Callable[[ASGIApp], str]]:
    """Put an application behind a real HTTP server on loopback; returns its base URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_listening(app))


class _Announced(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextmanager
def _listening(app: ASGIApp) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as front:
        server = _Announced(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([front],))
        thread.start()
        try:
            assert server.listens.wait(30)
            yield f"http://127.0.0.1:{front.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def client(client_of: ClientFactory) -> TestClient:
    """An endpoint without keys and with the default limits."""
    return client_of()


@pytest.fixture(scope="session")
def packaged() -> ServedModels:
    """The packaged model, loaded once: that takes seconds."""
    return load_models({"lakebed-embed": resolve_model("lakebed-embed")}, "cpu", Batching())


class RecordedMetrics:
    """Keeps every measurement, by metric and label values; a label too many or too few is an error."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], float] = {}
        self.values: dict[tuple[str, ...], list[float]] = {}
        self.reads: dict[tuple[str, ...], Callable[[], float]] = {}

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        key = _key(metric, labels)
        self.counts[key] = self.counts.get(key, 0) + amount

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        self.values.setdefault(_key(metric, labels), []).append(value)

    def watch(self, metric: Gauge, read: Callable[[], float], **labels: str) -> None:
        self.reads[_key(metric, labels)] = read

    def series(self) -> set[tuple[str, ...]]:
        """Every series there is: the metric's name, then label values in the order of its labels."""
        return {*self.counts, *self.values, *self.reads}


def _key(metric: Counter | Gauge | Histogram, labels: dict[str, str]) -> tuple[str, ...]:
    assert set(labels) == set(metric.labels)
    return (metric.name, *(labels[name] for name in metric.labels))


@pytest.fixture
def metrics() -> RecordedMetrics:
    """What is measured in this process, kept."""
    return RecordedMetrics()


@dataclass(frozen=True)
class Server:
    """A real server: its base URL, a key that works, its key store."""

    url: str
    key: str
    key_store: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`lakebed serve` in a process of its own, through HAProxy, asking for keys."""
    home = tmp_path_factory.mktemp("server-home")
    store = f"sqlite:///{home / 'keys.db'}"
    engine = open_database(store)
    key, _ = create_key(engine, "tests")
    engine.dispose()
    config = ServeConfig(
        port=free_port(),
        models={"fake": MODEL, INERTIAL_NAME: MODEL},
        key_store=store,
        key_cache_seconds=0.2,
        key_limits=KeyLimits(failures_per_minute=100_000),  # tests of other things send many wrong keys
        header_seconds=5,
        limits=Limits(body_seconds=5),
    )
    with running_server(config, environment={**os.environ, "LAKEBED_HOME": str(home)}) as url:
        yield Server(url, key, store)


@pytest.fixture
def server_url(server: Server) -> str:
    """Base URL of the real server."""
    return server.url


@pytest.fixture
def server_key(server: Server) -> str:
    """A key that the real server takes."""
    return server.key


@pytest.fixture
def server_key_store(server: Server) -> str:
    """Where the real server looks keys up."""
    return server.key_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own on a free port of loopback; yields its URL without a database."""
    binaries = postgres_binaries()
    with postgres_folder() as folder:
        port, data = free_port(), folder / "data"
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "lakebed", "--auth=trust", "--no-sync"]
        made = subprocess.run(not_as_root(initdb), cwd=folder, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        command = [str(binaries / "postgres"), "-D", str(data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(not_as_root(command), cwd=folder, stdout=log, stderr=log)
        try:
            ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
            give_up = time.monotonic() + 60
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up, (folder / "log").read_text()
                time.sleep(0.05)  # between two looks at the condition
            yield f"postgresql+psycopg://lakebed@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            process.wait(30)


def postgres_binaries() -> Path:
    """Where PostgreSQL's programs are; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    if initdb is None:
        reason = "PostgreSQL is not installed here: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(initdb).resolve().parent


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """A folder that PostgreSQL may write to; pytest's own are closed to other users."""
    with TemporaryDirectory(prefix="lakebed-postgres-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        yield Path(folder)


def not_as_root(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root; its package brings a user."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture(params=["sqlite", "postgresql"])
def any_key_store(request: pytest.FixtureRequest, key_store: str) -> str:
    """URL of an empty key store, on each kind of database in turn."""
    if request.param == "sqlite":
        return key_store
    server, name = request.getfixturevalue("postgres"), f"keys_{uuid.uuid4().hex}"
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"


@pytest.fixture
def key_store(tmp_path: Path) -> str:
    """URL of an empty key store."""
    return f"sqlite:///{tmp_path / 'keys.db'}"


@pytest.fixture
def offline_encodings(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let tiktoken find OpenAI's cl100k_base and o200k_base without a network: LlamaIndex ships them."""
    [llama_index] = importlib.util.find_spec("llama_index").submodule_search_locations
    folder = Path(llama_index) / "core" / "_static" / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder
