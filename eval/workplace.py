"""Where an evaluation's work is done: vectors are encoded and tasks are run, in this process or on Ray.

Whoever asks gets futures and does not know which. Every place gives the same results bit for bit: batches depend
on the items alone (`steady.py`), and linear algebra in tasks runs on one thread, since how a sum is split decides
its last bits.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self, TypeVar

from lakebed.eval.datasets import Dataset
from lakebed.eval.steady import steady
from lakebed.eval.tasks.protocol import EncoderTask, Task, TaskResult, Vectors, at_length
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import ChoosyEncoder, Encoder, EncoderInfo, encode, truncate
from lakebed.platform.items import Item

T = TypeVar("T")

COST: Final = "cost"
"""The name of the task whose figures are the machine's as much as the model's."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """A task on a data set whose vectors are there; `lengths` are truncations that give numbers too."""

    task: Task
    data: Dataset
    vectors: Vectors
    lengths: Sequence[int] = ()

    def run(self) -> TaskResult:
        """Run it, and again on shorter vectors: those give numbers only, scores by example are of the whole."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            result = self.task.run(self.data, self.vectors)
            metrics = dict(result.metrics)
            for length in self.lengths:
                if all(length < part.shape[1] for part in self.vectors.values()):
                    cut = {name: truncate(part, length) for name, part in self.vectors.items()}
                    shorter = self.task.run(self.data, cut).metrics
                    metrics |= {at_length(metric, length): value for metric, value in shorter.items()}
        return replace(result, metrics=metrics)

    def run_with(self, encoder: Encoder) -> TaskResult:
        """Run a task on the encoder itself; its forwards keep their threads."""
        from threadpoolctl import threadpool_limits

        assert isinstance(self.task, EncoderTask)
        with threadpool_limits(limits=1, user_api="blas"):
            return self.task.run_with(encoder, self.data, self.vectors)


class Workplace(Protocol):
    """Encodes and measures; to be left, as a context manager, before anything else is measured on the machine."""

    @property
    def info(self) -> EncoderInfo:
        """Those of the encoder."""
        ...

    @property
    def width(self) -> int:
        """How many chunks are to be under way, so that nobody waits for work."""
        ...

    def takes(self, items: Sequence[Item]) -> bool:
        """Whether the encoder can embed all of these: one behind a URL may know texts only."""
        ...

    def encode(self, items: Sequence[Item]) -> "Future[VectorArray]":
        """Embed a chunk at full length."""
        ...

    def run(self, assignment: Assignment) -> "Future[TaskResult]":
        """Run a task, where an encoder is if it is an `EncoderTask`."""
        ...

    def run_alone(self, assignment: Assignment) -> TaskResult:
        """Run an `EncoderTask` on all cores, with nothing beside it; nothing else may be under way."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop what is under way."""
        ...


class InProcess:
    """This process: one thing after the other, each on all its cores."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._steady = steady(encoder)

    @property
    def info(self) -> EncoderInfo:
        """Those of the encoder."""
        return self._encoder.info

    @property
    def width(self) -> int:
        """One chunk, which is done when it is asked for."""
        return 1

    def takes(self, items: Sequence[Item]) -> bool:
        """Ask the encoder, if it is choosy."""
        return takes(self._encoder, items)

    def encode(self, items: Sequence[Item]) -> "Future[VectorArray]":
        """Embed now."""
        return _done(lambda: encode(self._steady, items).vectors)

    def run(self, assignment: Assignment) -> "Future[TaskResult]":
        """Run now."""
        if isinstance(assignment.task, EncoderTask):
            return _done(lambda: assignment.run_with(self._steady))
        return _done(assignment.run)

    def run_alone(self, assignment: Assignment) -> TaskResult:
        """Run now, with the encoder as everybody else calls it."""
        return assignment.run_with(self._encoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def takes(encoder: Encoder, items: Sequence[Item]) -> bool:
    """Whether an encoder can embed all of these; one that says nothing of it can."""
    return all(map(encoder.takes, items)) if isinstance(encoder, ChoosyEncoder) else True


def runs_alone(task: Task) -> bool:
    """Whether a task measures time and memory, so that anything beside it would be measured too."""
    return task.name == COST


def _done(work: Callable[[], T]) -> "Future[T]":
    future: Future[T] = Future()
    future.set_result(work())
    return future
