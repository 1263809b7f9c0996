"""Which servers run on this machine: each leaves a record under LAKEBED_HOME for as long as it lives.

A process is known by its id and the moment it started, so a record that a killed server left behind is never taken
for whoever has the id now. Linux, as the HAProxy that ships with Ray is. Knows neither Ray nor HTTP.
"""

import contextlib
import os
import select
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pydantic import ValidationError

from lakebed.platform.config.base import Config
from lakebed.platform.config.environment import read_environment
from lakebed.serve.errors import ServerError

_STATE, _START_TICKS = 0, 19
"""Fields of /proc/PID/stat behind the command's name (proc(5): fields 3 and 22)."""

_GONE: Final = "ZX"


class RecordedModel(Config):
    """A model as it was when the server started."""

    name: str
    version: str | None
    digest: str | None


class ServerRecord(Config):
    """One server."""

    pid: int
    started: str
    """The boot and the moment in it when the process started; with the id it names one process for ever."""
    since: datetime
    host: str
    port: int
    url: str
    folder: Path
    """Where the sockets of its HAProxy lie."""
    keys: bool
    """Whether it asks for keys."""
    replicas: int
    """Replicas it begins with."""
    models: tuple[RecordedModel, ...]
    ready: bool = False
    """Whether it has once been ready."""


def this_process() -> tuple[int, str]:
    """Id and start of the calling process."""
    return os.getpid(), _start_of(os.getpid()) or ""


@contextlib.contextmanager
def recorded(record: ServerRecord) -> Iterator[None]:
    """Keep a record for the length of a block."""
    write(record)
    try:
        yield
    finally:
        path = _path(record.host, record.port)
        found = _read(path)
        if found is not None and (found.pid, found.started) == (record.pid, record.started):
            path.unlink()


def write(record: ServerRecord) -> None:
    """Put a record where `find_server` looks, in place of another for the same address."""
    path = _path(record.host, record.port)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json(indent=1))
    Path(partial).replace(path)


def find_server(host: str, port: int) -> ServerRecord | None:
    """The server that was started for this host and port, if it lives."""
    return _living(_path(host, port))


def find_servers() -> list[ServerRecord]:
    """Every server of this LAKEBED_HOME that lives, by address."""
    found = [_living(path) for path in sorted(_folder().glob("*.json"))]
    return [record for record in found if record is not None]


def stop_server(record: ServerRecord, timeout: float) -> None:
    """Ask a server to end and wait until it has; raises ServerError after `timeout` seconds.

    The process is held by a descriptor before it is compared with the record, so a signal cannot reach another one
    that has been given its id.
    """
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        if not is_alive(record):
            return
        signal.pidfd_send_signal(process, signal.SIGTERM)
        ended = select.poll()
        ended.register(process, select.POLLIN)
        if not ended.poll(timeout * 1000):
            raise ServerError(
                f"the server at {record.url}, pid {record.pid}, has not ended within {timeout:g} s",
                hint="it may still be answering what was asked: wait, or ask again with a longer --timeout",
            )
    except PermissionError:
        raise ServerError(f"the server at {record.url}, pid {record.pid}, belongs to another user") from None
    finally:
        os.close(process)


def is_alive(record: ServerRecord) -> bool:
    """Whether the very process that wrote a record still runs."""
    return _start_of(record.pid) == record.started


def now() -> datetime:
    """The time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _folder() -> Path:
    return read_environment().home.absolute() / "servers"


def _path(host: str, port: int) -> Path:
    return _folder() / f"{quote(host, safe='')}-{port}.json"


def _living(path: Path) -> ServerRecord | None:
    """The record in a file if its server lives; one that a killed server left is taken away."""
    record = _read(path)
    if record is None or is_alive(record):
        return record
    path.unlink(missing_ok=True)
    return None


def _read(path: Path) -> ServerRecord | None:
    """None for no file, and for one that another version of this package wrote."""
    try:
        return ServerRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _start_of(pid: int) -> str | None:
    """When a process started, as text that no other process with its id has, in any boot; None if it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in _GONE else f"{boot} {fields[_START_TICKS]}"
