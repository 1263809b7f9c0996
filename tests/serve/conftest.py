"""The endpoint for tests: in this process without Ray, and one real server with keys for the whole session."""

import importlib.util
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from lakebed.platform.config.serve import INERTIAL_NAME, Batching, Limits, ServeConfig, TokenInput
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import Encoder
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys
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
    ) -> FastAPI:
        names = ("fake", "org/fake", INERTIAL_NAME)
        models = load_models(dict.fromkeys(names, resolve_model(MODEL)), "cpu", Batching())
        if encoder is not None:
            scheduler = Scheduler(encoder.forward, ThreadPoolExecutor(1), Budget())
            models = ServedModels(dict.fromkeys(names, ServedModel(encoder, scheduler, "1", 0)))
        service = Service(models, authenticator or NoKeys(), limits or Limits(), token_reader(token_input))
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
        port=free_port(), models={"fake": MODEL, INERTIAL_NAME: MODEL}, key_store=store, key_cache_seconds=0.2
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


@pytest.fixture
def offline_encodings(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let tiktoken find OpenAI's cl100k_base and o200k_base without a network: LlamaIndex ships them."""
    [llama_index] = importlib.util.find_spec("llama_index").submodule_search_locations
    folder = Path(llama_index) / "core" / "_static" / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder
