"""Which row kills the process that embeds it.

Ray brings a dead worker back and hands it the same batch again, for ever. So a batch is announced before it is
run, and a batch that comes again without having got through is cut into pieces, each announced before it begins,
down to single rows. A row that was alone in two processes that died is condemned: it is not run any more. A death
for another reason, a node that is removed or memory that ran out over many rows, costs no row.

`Suspects` is the book, pure and kept in one place of a job; `guarded` is a worker's side of it; `RemoteSuspects`
lies between them on Ray. None knows what a row is.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Protocol, TypeVar

Range = tuple[int, int]
"""Rows of a batch, from start to stop."""

WAYS: Final = 16
"""Pieces that a range in which a process died is cut into.

Halves would need a death for each bit of a row's number, and a death costs seconds: a process, and a model to
load. In 2048 rows, 16 ways find one in 5 deaths instead of 13.
"""

DEATHS: Final = 2
"""Processes that must have died in a row, while it was alone in them, before it is condemned."""

_RESTARTS: Final = 4
"""Times that the book itself may be lost. One that cannot even be imported must not be started for ever."""

T = TypeVar("T")


@dataclass(frozen=True)
class Orders:
    """How to run a batch: these ranges, one after the other, and not these rows.

    `alone` says that each range must be announced, and that nothing else may run in the process meanwhile.
    """

    runs: tuple[Range, ...]
    condemned: tuple[int, ...] = ()
    alone: bool = False


class Book(Protocol):
    """Where batches are announced. An attempt is one process's try at a batch; its name is used once."""

    def begin(self, batch: bytes, attempt: str, rows: int) -> Orders:
        """Announce a batch, and ask how to run it."""
        ...

    def trying(self, batch: bytes, attempt: str, run: Range) -> None:
        """Announce one of several ranges."""
        ...

    def through(self, batch: bytes, attempt: str, run: Range) -> None:
        """Say that a range did no harm."""
        ...

    def starting(self) -> bool:
        """Announce a process; whether there is any use in its going on."""
        ...

    def ready(self) -> None:
        """Say that a process got as far as to run batches."""
        ...


class Suspects:
    """The book. Batches that never came twice are forgotten as soon as they are through.

    `processes` is how many there are at once, at most.
    """

    def __init__(self, processes: int = 1) -> None:
        self._batches: dict[bytes, _Batch] = {}
        self._starts = 0
        self._most_starts = 2 * processes + 3

    def begin(self, batch: bytes, attempt: str, rows: int) -> Orders:
        """Announce a batch; if it is open already, the process that had it died. Repeating a call is harmless."""
        return self._batches.setdefault(batch, _Batch((0, rows))).begin(attempt)

    def trying(self, batch: bytes, attempt: str, run: Range) -> None:
        """Announce one of the ranges in a batch's orders."""
        if known := self._known(batch, attempt):
            known.running = run

    def through(self, batch: bytes, attempt: str, run: Range) -> None:
        """Take a range out of suspicion."""
        if known := self._known(batch, attempt):
            known.through(run)
            if not known.suspected:
                del self._batches[batch]

    def starting(self) -> bool:
        """Announce a process; False when so many died before they were ready that the next one will, too."""
        self._starts += 1
        return self._starts <= self._most_starts

    def ready(self) -> None:
        """Start counting anew."""
        self._starts = 0

    @property
    def remembered(self) -> int:
        """How many batches are open, or were suspected once."""
        return len(self._batches)

    def _known(self, batch: bytes, attempt: str) -> "_Batch | None":
        """Return the batch unless another process has it by now, or the book was lost with its node."""
        known = self._batches.get(batch)
        return known if known and known.attempt == attempt else None


@dataclass
class _Batch:
    """What is known of one batch.

    `pieces` partition it, and only ever become smaller; `harmless` are those that got through when last run. Those
    beside each other are run together, unless a process died of it (`together`): then it was of their number.
    """

    whole: Range
    attempt: str = ""
    orders: Orders = Orders(())
    running: Range | None = None
    suspected: bool = False
    together: bool = True
    pieces: list[Range] = field(default_factory=list)
    harmless: set[Range] = field(default_factory=set)
    deaths: Counter[Range] = field(default_factory=Counter)

    def begin(self, attempt: str) -> Orders:
        if attempt != self.attempt:
            if self.running is not None:
                self._died_in(self.running)
            self.attempt = attempt
            self.running = None if self.suspected else self.whole
            self.orders = self._orders()
        return self.orders

    def through(self, run: Range) -> None:
        self.running = None
        for piece in self.pieces:
            if run[0] <= piece[0] and piece[1] <= run[1]:
                self.harmless.add(piece)
                self.deaths.pop(piece, None)

    def _died_in(self, run: Range) -> None:
        if not self.suspected:  # another batch may have run beside it, so nobody was alone
            self.suspected = True
            self.pieces = _cut(run)
        elif run not in self.pieces:
            self.together = False
        else:
            self.harmless.discard(run)
            if run[1] - run[0] == 1:
                self.deaths[run] += 1
            else:
                place = self.pieces.index(run)
                self.pieces[place : place + 1] = _cut(run)

    def _orders(self) -> Orders:
        """Suspects first: what dies of them then repeats little of the harmless work."""
        if not self.suspected:
            return Orders((self.whole,))
        condemned = {piece for piece in self.pieces if self.deaths[piece] >= DEATHS}
        suspects = [piece for piece in self.pieces if piece not in self.harmless and piece not in condemned]
        harmless = [piece for piece in self.pieces if piece in self.harmless]
        runs = (*suspects, *(_joined(harmless) if self.together else harmless))
        return Orders(runs, tuple(sorted(start for start, _ in condemned)), alone=True)


def _cut(run: Range) -> list[Range]:
    """Cut into WAYS pieces of about the same size, or into single rows."""
    start, stop = run
    pieces = min(WAYS, stop - start)
    bounds = [start + (stop - start) * piece // pieces for piece in range(pieces + 1)]
    return list(pairwise(bounds))


def _joined(pieces: list[Range]) -> Iterator[Range]:
    """Join what lies beside each other."""
    start, stop = 0, 0
    for piece in pieces:
        if piece[0] != stop:
            if stop > start:
                yield start, stop
            start = piece[0]
        stop = piece[1]
    if stop > start:
        yield start, stop


class Turns:
    """Work that may run beside other work of a process, and work that must be alone in it."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._shared = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait until nobody is alone or about to be, and keep them out of it."""
        with self._free:
            self._free.wait_for(lambda: not self._alone)
            self._shared += 1
        try:
            yield
        finally:
            with self._free:
                self._shared -= 1
                self._free.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else begin, and wait until those who have are through."""
        with self._free:
            self._free.wait_for(lambda: not self._alone)
            self._alone = True
            self._free.wait_for(lambda: not self._shared)
        try:
            yield
        finally:
            with self._free:
                self._alone = False
                self._free.notify_all()


def guarded(
    book: Book,
    turns: Turns,
    batch: bytes,
    rows: int,
    run: Callable[[int, int], T],
    condemned: Callable[[int], T],
) -> list[T]:
    """Run a batch as the book orders; returns the results of its ranges and condemned rows, in the rows' order."""
    attempt = uuid.uuid4().hex
    with turns.shared():
        orders = book.begin(batch, attempt, rows)
        if not orders.alone:
            result = run(0, rows)
            book.through(batch, attempt, (0, rows))
            return [result]
    results = [(row, condemned(row)) for row in orders.condemned]
    with turns.alone():
        for start, stop in orders.runs:
            book.trying(batch, attempt, (start, stop))
            results.append((start, run(start, stop)))
            book.through(batch, attempt, (start, stop))
    return [result for _, result in sorted(results, key=lambda placed: placed[0])]


@dataclass(frozen=True)
class RemoteSuspects:
    """The book on an actor of Ray's. Announcements wait until they are written; the rest follow in order."""

    actor: Any

    @classmethod
    def start(cls, processes: int) -> "RemoteSuspects":
        """Start a book beside the driver: it should live as long. A lost one costs rows nothing, but time."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(Suspects).options(
            num_cpus=0, max_restarts=_RESTARTS, max_task_retries=_RESTARTS, scheduling_strategy=here
        )
        return cls(actor.remote(processes))

    def begin(self, batch: bytes, attempt: str, rows: int) -> Orders:
        """Announce a batch, and ask how to run it."""
        orders: Orders = self._answer(self.actor.begin.remote(batch, attempt, rows))
        return orders

    def trying(self, batch: bytes, attempt: str, run: Range) -> None:
        """Announce one of several ranges."""
        self._answer(self.actor.trying.remote(batch, attempt, run))

    def through(self, batch: bytes, attempt: str, run: Range) -> None:
        """Say that a range did no harm."""
        self._tell("through", batch, attempt, run)

    def starting(self) -> bool:
        """Announce a process."""
        return bool(self._answer(self.actor.starting.remote()))

    def ready(self) -> None:
        """Say that a process got as far as to run batches."""
        self._tell("ready")

    def close(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self.actor)

    def _tell(self, what: str, *arguments: object) -> None:
        """Say something once: after the end of a job there is nobody to hear it, which is not worth a warning."""
        getattr(self.actor, what).options(max_task_retries=0).remote(*arguments)

    @staticmethod
    def _answer(reference: Any) -> Any:
        import ray

        return ray.get(reference)
