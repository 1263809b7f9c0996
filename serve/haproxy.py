"""Stands between Ray Serve and the HAProxy binary: keeps its side doors on loopback, and ends it with its parent.

Serve writes HAProxy's configuration with the statistics page and the metrics on every interface, without a
password, and offers no setting for it. And an HAProxy outlives a Serve that was killed, holding its port. Serve
lets the binary be named, so it names a script that `install` writes, which runs this module, which mends the
configuration, asks the kernel to end the process together with its parent, and becomes HAProxy.
"""

import ctypes
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Final

_SIDE_DOORS: Final = re.compile(r"^(frontend prometheus|listen stats)\n(\s+)bind [*]?:(\d+)$", re.MULTILINE)
_PR_SET_PDEATHSIG: Final = 1


def install(folder: Path, binary: str) -> Path:
    """Write an executable that stands for `binary`; returns its path."""
    script = folder / "haproxy"
    command = shlex.join([sys.executable, "-P", "-m", "lakebed.serve.haproxy", binary])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return script


def mended(configuration: str) -> str:
    """The configuration with statistics and metrics on loopback; what clients reach stays as it is."""
    return _SIDE_DOORS.sub(r"\1\n\2bind 127.0.0.1:\3", configuration)


def main(arguments: list[str]) -> None:
    """Become HAProxy: `arguments` are the binary and what Serve gave it."""
    binary, *given = arguments
    if "-f" in given:
        path = Path(given[given.index("-f") + 1])
        path.write_text(mended(path.read_text(encoding="utf-8")), encoding="utf-8")
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
