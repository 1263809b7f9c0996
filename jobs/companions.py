"""Keeps cores busy beside what is measured, as the job will: work of the same kind, each in a process of its own.

Threads would not do: Python's lock, which the job's encoders do not share, would be counted against them.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Final

from lakebed.platform.errors import LakebedError

_STOP_SECONDS: Final = 10.0

Work = Callable[[], Callable[[], object]]
"""Sets up what takes long, and returns what is to be repeated. Goes through pickle."""


@contextlib.contextmanager
def companions(count: int, work: Work) -> Iterator[None]:
    """Repeat `work` in `count` processes for the length of a block, which begins when each has done it once.

    Raises LakebedError when one cannot. They end with this process, however it ends.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of this process's threads
    with contextlib.ExitStack() as stack:
        ours = []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_repeat, args=(work, there), daemon=True)
            process.start()
            there.close()
            stack.callback(_end, process)
            ours.append(stack.enter_context(here))
        for connection in ours:
            _wait_until_busy(connection)
        yield
        for connection in ours:  # all at once, then one after the other
            connection.close()


def _wait_until_busy(connection: Connection) -> None:
    try:
        failed = connection.recv()
    except EOFError:
        failed = "its process ended"
    if failed:
        raise LakebedError(
            f"an encoder beside the measured one did not start: {failed}",
            hint="the job will have as many; compute.actors sets how many",
        )


def _end(process: multiprocessing.process.BaseProcess) -> None:
    process.join(_STOP_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _repeat(work: Work, connection: Connection) -> None:
    """Work until the other end of the connection is closed, be it by the end of its process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the other process, too
    try:
        again = work()
        again()
    except Exception as error:  # noqa: BLE001 - a model may raise anything; the process that waits says it
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(None)
    while not connection.poll():
        again()
