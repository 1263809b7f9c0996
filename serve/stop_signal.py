"""SIGINT and SIGTERM, never missed.

An exception raised by a signal's handler can vanish: in a destructor, in a callback of a C extension, in code
that catches everything. And Ray puts a SIGTERM handler of its own while it starts. But whatever the handler, and
whatever becomes of what it raises, the interpreter writes the signal's number to its wakeup descriptor.
"""

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Final, Self

_HEARD: Final = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """Someone asked this process to end; unwinds it like any exit, with code 0."""

    def __init__(self) -> None:
        super().__init__(0)


class StopSignal:
    """Whether someone asked this process to end, for the length of a block in the main thread.

    At first a signal also raises Stopped wherever the main thread is. `hold` leaves it at being heard, for code
    that looks by itself.
    """

    def __enter__(self) -> Self:
        self._asked = False
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._mouth.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.getsignal(number) for number in _HEARD}
        self.unwind()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._ears.close()
        self._mouth.close()

    @property
    def asked(self) -> bool:
        """Whether a signal came since the block began."""
        while not self._asked:
            try:
                self._asked = any(number in _HEARD for number in self._ears.recv(64))
            except BlockingIOError:
                break
        return self._asked

    def check(self) -> None:
        """Raise Stopped if a signal came, even if what its handler raised got lost."""
        if self.asked:
            raise Stopped

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, but no longer than `seconds`; whether one came."""
        if not self.asked:
            select.select([self._ears], [], [], seconds)
        return self.asked

    def unwind(self) -> None:
        """From now on, raise Stopped where the main thread is. Also takes the signals back from others."""
        for number in _HEARD:
            signal.signal(number, _raise)

    def hold(self) -> None:
        """From now on, only take note."""
        for number in _HEARD:
            signal.signal(number, _ignore)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the wakeup descriptor has it."""
