"""The endpoint for tests: in this process without Ray, and one real server with keys for the whole session."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lakebed.platform.config.serve import INERTIAL_NAME, Batching, Limits, ServeConfig
from lakebed.platform.encoder.load import resolve_model
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys
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

        def make(limits: Limits | None = None, authenticator: Authenticator | None = None) -> TestClient:
            model = resolve_model(MODEL)
            models = load_models({"fake": model, "org/fake": model, INERTIAL_NAME: model}, "cpu", Batching())
            service = Service(models, authenticator or NoKeys(), limits or Limits())
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


@pytest.fixture
def key_store(tmp_path: Path) -> str:
    """URL of an empty key store."""
    return f"sqlite:///{tmp_path / 'keys.db'}"
