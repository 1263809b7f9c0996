"""Brings HAProxy back when it dies under a server that lives.

Serve notices a dead HAProxy after three failed checks of its proxy actor, ends the actor and starts another: some
seconds in which connections are refused, longer than clients go on trying. So the server itself looks ten times a
second, starts an HAProxy with the last configuration in its place, and ends the actor, which has lost its process
and could follow no replica any more. The actor's successor takes over from the stand-in without a gap.
"""

import contextlib
import logging
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lakebed.serve import haproxy

_log = logging.getLogger(__name__)

_CONFIGURATION: Final = "haproxy.cfg"
_ENDING_SECONDS: Final = 5.0


class FrontDoor:
    """Watches the HAProxy whose files lie in `folder`, for the length of a block; `binary` starts one."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder = folder
        self._binary = binary
        self._at: dict[Path, int] = {}
        self._stand_ins: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._stand_ins:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING_SECONDS)
            process.kill()
            process.wait()

    def keep(self) -> None:
        """Look, and put an HAProxy where one has died. Cheap while all is well; call it often."""
        self._stand_ins = [process for process in self._stand_ins if process.poll() is None]
        for admin in haproxy.admin_sockets(self._folder):
            # Whoever answers now: one that was replaced lives on until its clients have left.
            now = haproxy.process_at(admin)
            if now is not None:
                self._at[admin] = now
            elif admin in self._at and not _runs(self._at[admin]):
                self._replace(admin)

    def _replace(self, admin: Path) -> None:
        _log.warning("HAProxy, pid %s, has died; another takes its place", self._at[admin])
        # As Serve starts it. A child of this thread, whose end is its own.
        command = [str(self._binary), "-db", "-f", str(admin.parent / _CONFIGURATION), "-dR"]
        stand_in = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stand_ins.append(stand_in)
        self._at[admin] = stand_in.pid
        _end_proxy_actors()


def _runs(pid: int) -> bool:
    """Whether a process is still there; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2][:1] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or read
        return False


def _end_proxy_actors() -> None:
    """Make Serve start new ones, whose HAProxy is their own."""
    import ray
    from ray.serve._private.constants import SERVE_PROXY_NAME

    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(SERVE_PROXY_NAME):
            with contextlib.suppress(ValueError):  # it ended meanwhile
                ray.kill(ray.get_actor(**actor))
