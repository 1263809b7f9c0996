"""The endpoint for tests: in this process without Ray, and one real server with keys for the whole session.

And a real PostgreSQL for the key store.
"""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from lakebed.platform.config.serve import INERTIAL_NAME, Batching, KeyLimits, Limits, ServeConfig
from lakebed.platform.encoder.load import resolve_model
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys
from lakebed.serve.key_limits import KeyRates
from lakebed.serve.models import load_models
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.service import Service
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key

MODEL = "fake:64"

ClientFactory = Callable[..., TestClient]


@pytest.fixture
def client_of() -> Iterator[ClientFactory]:
    """Make an HTTP client of an endpoint in this process."""
    with ExitStack() as stack:

        def make(
            limits: Limits | None = None,
            authenticator: Authenticator | None = None,
            key_limits: KeyLimits | None = None,
        ) -> TestClient:
            model = resolve_model(MODEL)
            models = load_models({"fake": model, "org/fake": model, INERTIAL_NAME: model}, "cpu", Batching())
            rates = KeyRates(key_limits or KeyLimits())
            service = Service(models, authenticator or NoKeys(), limits or Limits(), rates)
            return stack.enter_context(TestClient(create_api(service), raise_server_exceptions=False))

        yield make


@pytest.fixture
def client(client_of: ClientFactory) -> TestClient:
    """An endpoint without keys and with the default limits."""
    return client_of()


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
