"""What goes into the log, and where. Nothing logged holds a text, a vector or a secret.

A replica writes two files into Serve's folder. What happens goes into the file that Serve keeps for each of its
processes; Serve sets its logger up anew with every deployment, so records are handed to that logger. Lines of
answered requests go into a file of their own, many at a time: through Serve's logger a line costs three times as
much (`benchmarks.observability`), because the standard handler formats it twice and asks the disk three times.

What an exception says may quote what was sent, so of most only the kind and the place are logged.
"""

import logging
import threading
import traceback
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from lakebed.platform.errors import ArtifactError

ACCESS_LOGGER: Final = "lakebed.access"
"""Each message is one JSON object: a request that was answered."""

_SERVE_LOGGER: Final = "ray.serve"
_FLUSH_SECONDS: Final = 0.25
_FILE_BYTES: Final = 100 * 2**20
_FILES: Final = 5

_SPEAK_OF_THE_MACHINE: Final = (ArtifactError, MemoryError, OSError)
"""Exceptions whose words are about files, sockets and memory."""


class ToServe(logging.Handler):
    """Hands records to Serve's logger, whatever handlers that has by then."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on."""
        logging.getLogger(_SERVE_LOGGER).handle(record)


class Lines(logging.Handler):
    """Gathers messages and appends them to a file that rotates, each a line, when flushed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES)
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the message."""
        self._waiting.append(record.getMessage())

    def flush(self) -> None:
        """Write what waits; who logs meanwhile does not wait for the disk."""
        self.acquire()
        try:
            lines, self._waiting = self._waiting, []
        finally:
            self.release()
        if lines:
            self._file.handle(logging.makeLogRecord({"msg": "\n".join(lines)}))

    def close(self) -> None:
        """Write what waits and let go of the file."""
        self.flush()
        self._file.close()
        super().close()


def join_serve_log(level: str, folder: Path, replica: str) -> None:
    """From `level` up, write what this package logs into `folder`, which is Serve's."""
    ours, access = logging.getLogger("lakebed"), logging.getLogger(ACCESS_LOGGER)
    lines = Lines(folder / f"access_{replica}.log")
    ours.setLevel(level)
    ours.propagate = access.propagate = False
    ours.handlers, access.handlers = [ToServe()], [lines]
    threading.Thread(target=_keep_flushing, args=[lines], name="access-log", daemon=True).start()


def _keep_flushing(lines: Lines) -> None:
    pause = threading.Event()
    while not pause.wait(_FLUSH_SECONDS):
        lines.flush()


def described(error: BaseException) -> str:
    """Where an error came from, link by link of its chain, the first cause first; without its words, mostly."""
    return "\n".join(_link(each) for each in reversed(list(_chain(error))))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _link(error: BaseException) -> str:
    kind = type(error)
    of_torch = kind.__module__.partition(".")[0] == "torch"  # such as OutOfMemoryError
    words = f": {error}" if of_torch or isinstance(error, _SPEAK_OF_THE_MACHINE) else " (words left out)"
    return f"{''.join(traceback.format_tb(error.__traceback__))}{kind.__qualname__}{words}"
