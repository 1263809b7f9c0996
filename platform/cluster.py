"""Reaching Ray: one of our own on this machine, or a cluster that is there; and what is shipped to its workers.

Knows nothing of what runs there.
"""

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.errors import UnreachableError

_SHIPPED_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_MAX_ATTEMPTS", "LAKEBED_S3_TIMEOUT",
    "LAKEBED_TRACKING_URI", "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip
_EMBEDDED: Final = "embedded"
_MIB: Final = 1024**2
_QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR}
_CONNECT_SECONDS: Final = 5.0
SYSTEM_CONFIG: Final[Mapping[str, Any]] = {"idle_worker_killing_time_threshold_ms": 30_000}
"""By itself, Ray ends an idle process after a second when there are more processes than CPUs (decision 0039)."""


@dataclass(frozen=True)
class Connection:
    """What a process is connected to, and environment variables that workers have to be given with each task."""

    place: str
    variables: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def connected(config: ClusterConfig, note: Callable[[str], object] = lambda _: None) -> Iterator[Connection]:
    """Connect this process to Ray for the length of a block; `note` is told what takes time.

    A process that is connected already stays as it is. Raises UnreachableError when the cluster does not answer.
    """
    import ray

    if ray.is_initialized():
        yield Connection("the Ray of this process", _shipped_variables())  # it may be older than they are
        return
    address = address_of(config)
    if address == _EMBEDDED:
        note("starting Ray on this machine")
        with _embedded(config):
            yield Connection("an embedded Ray")
        return
    require_listener(address)
    note(f"connecting to the cluster at {address}")
    try:
        with _quiet_core():
            ray.init(address, runtime_env=_driver_runtime_env(), **_QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnreachableError(
            f"no Ray cluster answers at {address}: {reason}", hint="check the address, or leave it out"
        ) from error
    try:
        yield Connection(f"the cluster at {address}")
    finally:
        ray.shutdown()


def address_of(config: ClusterConfig) -> str:
    """Where a job with this configuration finds its Ray."""
    return config.address or os.environ.get("RAY_ADDRESS") or _EMBEDDED


def starts_its_own(config: ClusterConfig) -> bool:
    """Whether `connected` would start a Ray on this machine; imports none to say so."""
    ray = sys.modules.get("ray")
    return address_of(config) == _EMBEDDED and not (ray is not None and ray.is_initialized())


def require_listener(address: str) -> None:
    """Raise UnreachableError unless something listens at host:port; Ray itself would try for minutes.

    An address without a port, such as `auto`, is left to Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UnreachableError(
            f"no Ray cluster answers at {address}: {error}", hint="check the address, or leave it out"
        ) from None


@contextmanager
def _embedded(config: ClusterConfig) -> Iterator[None]:
    """Start a Ray of our own in a folder of its own, and end it without a trace."""
    import ray

    folder = tempfile.mkdtemp(prefix="lakebed-ray-", dir=_short_folder())
    try:
        with _quiet_core():
            ray.init(
                "local",
                num_cpus=config.cpus,
                object_store_memory=config.object_store_mib * _MIB,
                include_dashboard=False,
                _temp_dir=folder,
                _system_config=dict(SYSTEM_CONFIG),
                **_QUIET,
            )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)  # Ray's processes may still be closing their logs


def _short_folder() -> str:
    """Return a folder for Ray's sockets, whose paths may have 107 bytes in all."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 16 else "/tmp"  # noqa: S108  mkdtemp makes it private


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Keep Ray's core from writing to standard error: it warns of every actor pool of Ray Data's.

    The level comes from the environment, and the core says on standard error, whatever the level, that it does.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def runtime_env() -> dict[str, Any]:
    """Return what a cluster's workers need: this very code, and the variables that reach stores and MLflow.

    The package's folder is shipped as it is, links followed: by path, as the Jobs client copies what it is given
    and a module cannot be copied. A wheel would be known to Ray by its file name alone: rebuilt under the same
    version, the old code would run.
    """
    import lakebed

    return {
        "py_modules": [str(Path(lakebed.__file__).parent)],
        "excludes": ["**/__pycache__"],
        "env_vars": _shipped_variables(),
    }


def _shipped_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _SHIPPED_VARIABLES if name in os.environ}


def _driver_runtime_env() -> dict[str, Any] | None:
    """Return what to ship when connecting; a submitted job has it already, and may not have it twice."""
    return None if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else runtime_env()
