"""Stands between Ray Serve and the HAProxy binary: mends what Serve configures, and ends it with its parent.

Serve offers no setting for four things that are wrong here. It opens the statistics page and the metrics on every
interface, without a password. When no replica answers, HAProxy says 404 or 500 in plain text, which clients do not
retry or cannot read. Replicas are not told where a request came from, or are told by the client. And an HAProxy
outlives a Serve that was killed, holding its port. But Serve lets the binary be named: it names a script that
`install` writes, which runs this module, which mends the configuration, asks the kernel to end the process
together with its parent, and becomes HAProxy. `drain` ends a server: Serve's own way answers 404 while it deletes
an application.
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
from pathlib import Path
from typing import Final

_SIDE_DOORS: Final = re.compile(r"^(frontend prometheus|listen stats)\n(\s+)bind [*]?:(\d+)$", re.MULTILINE)
_ERROR_FILES: Final = re.compile(r"^(\s+errorfile \d+) .*$", re.MULTILINE)
_NO_BACKEND: Final = re.compile(r"^(backend default_backend\n\s+http-request return) .*$", re.MULTILINE)
_FRONT_DOOR: Final = re.compile(
    r"^(frontend http_frontend\n(\s+)bind .*\n)(?!\s+http-request set-header x-forw)", re.MULTILINE
)
_PR_SET_PDEATHSIG: Final = 1
_ANSWER_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


def install(folder: Path, binary: str, unavailable: bytes) -> Path:
    """Write an executable that stands for `binary`; returns its path.

    `unavailable` is the whole HTTP answer for when no replica can be reached.
    """
    page = folder / "unavailable.http"
    page.write_bytes(unavailable)
    script = folder / "haproxy"
    command = shlex.join([sys.executable, "-P", "-m", "lakebed.serve.haproxy", str(page), binary])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return script


def mended(configuration: str, page: str) -> str:
    """The configuration with its side doors on loopback and `page` wherever HAProxy itself has to answer.

    Where clients connect stays as it is, and replicas are told the address, whatever a client says of it. Mending
    twice changes nothing more.
    """
    configuration = _SIDE_DOORS.sub(r"\1\n\2bind 127.0.0.1:\3", configuration)
    configuration = _FRONT_DOOR.sub(r"\1\2http-request set-header x-forwarded-for %[src]\n", configuration)
    configuration = _ERROR_FILES.sub(rf"\1 {page}", configuration)
    return _NO_BACKEND.sub(r"\1 status 503 default-errorfiles", configuration)


def drain(folder: Path, seconds: float) -> None:
    """Stop accepting connections and wait until every request has its answer, but no longer than `seconds`.

    `folder` is where HAProxy's configuration lies. Does nothing when HAProxy has ended. Serve replaces the HAProxy
    process whenever replicas come or go, and a replaced one finishes what it has without a socket to ask at: it is
    waited for until it ends.
    """
    give_up = time.monotonic() + seconds
    for admin in folder.glob("*/admin.sock"):
        with contextlib.suppress(ConnectionError, FileNotFoundError):
            while _is_answering(admin) and time.monotonic() < give_up:
                time.sleep(_POLL_SECONDS)


def _is_answering(admin: Path) -> bool:
    """Whether some request has no answer yet; no further one is accepted from now on."""
    _ask(admin, "disable frontend http_frontend")  # `shutdown` would leave newcomers waiting
    rows = csv.DictReader(_ask(admin, "show stat").removeprefix("# ").splitlines())
    inside = sum(int(row["scur"] or 0) for row in rows if row["svname"] == "BACKEND" and row["pxname"] != "stats")
    return inside > 0 or bool(_processes(admin.parent) - {_pid(admin)})


def _pid(admin: Path) -> int:
    """The process behind the socket."""
    info = dict(line.split(": ", 1) for line in _ask(admin, "show info").splitlines() if ": " in line)
    return int(info["Pid"])


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
    """Become HAProxy: `arguments` are the page, the binary, and what Serve gave it."""
    page, binary, *given = arguments
    if "-f" in given:
        path = Path(given[given.index("-f") + 1])
        path.write_text(mended(path.read_text(encoding="utf-8"), page), encoding="utf-8")
    _end_with_parent()
    os.execv(binary, [binary, *given])  # noqa: S606 - replaces this process, no shell


def _end_with_parent() -> None:
    """Linux only, as is the HAProxy that ships with Ray; survives the exec."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
