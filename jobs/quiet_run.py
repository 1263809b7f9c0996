"""One run of Ray Data that prints nothing, holds little, and whose workers' errors are ours, in a line."""

import gc
import logging
from collections.abc import Callable, Generator, Iterator
from typing import Final, TypeVar

from ray.data import DataContext
from ray.exceptions import RayError

from lakebed.platform.errors import JobFailedError, LakebedError

T = TypeVar("T")

_BLOCK_BYTES: Final = 16 * 2**20


def quietly(run: Callable[[], Iterator[T]]) -> Generator[T]:
    """What a run gives, under our settings of Ray Data; raises the error of ours that ended a worker in it.

    Raises JobFailedError when something else did. (No context manager: the frame of its exit would keep what
    `_forget_frames` lets go of.)
    """
    with DataContext.current(_context()):
        try:
            yield from run()
        except RayError as error:
            found = of_workers(error)
            _forget_frames(error)
            raise found from error


def _context() -> DataContext:
    """Return settings for one quiet run. Errors of rows are ours; any other ends the run."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES  # what a reader gathers, and every process holds several times
    context.max_errored_blocks = 0
    context.raise_original_map_exception = True  # Ray's own loses its cause on the way
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return context


def of_workers(error: RayError) -> LakebedError:
    """Find the error of ours that ended a worker, or say what ended it in one line."""
    chain: list[BaseException] = [error]
    while cause := getattr(chain[-1], "cause", None) or chain[-1].__cause__:
        chain.append(cause)
    for found in chain:
        if isinstance(found, LakebedError) and not isinstance(found, RayError):  # Ray's may claim to be ours, too
            return found
    return JobFailedError(f"the workers failed: {_in_a_line(getattr(error, 'cause', None) or error)}")


def _forget_frames(error: BaseException) -> None:
    """Let go of Ray Data's frames: while they live so do its actors, and what those hold is free for no one."""
    known: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or any(found is other for other in known):
            continue
        known.append(found)
        found.__traceback__ = None
        waiting += [getattr(found, "cause", None), found.__cause__, found.__context__]
    gc.collect()  # of errors of other tasks, each of which is in a circle with its frames


def _in_a_line(error: BaseException) -> str:
    """Ray's errors say last what happened, after traces; to those of others, Ray appends advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, RayError):
        return lines[-1] if lines else type(error).__name__
    return ": ".join([type(error).__name__, *lines[:1]])
