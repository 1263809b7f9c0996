"""How far a job is: a bar in a terminal, a line now and then elsewhere; and notes before its rows are counted."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.spinner import Spinner
from rich.text import Text

Note = Callable[[str], object]
"""Is told what happens now, also before anybody knows how many rows there are."""

SECONDS_BETWEEN_LINES: Final = 10.0


class Watcher(Protocol):
    """Is told how far a job is."""

    def note(self, phase: str, detail: str = "") -> None:
        """Say what happens now, in a word, and more about it where there is room."""
        ...

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Count rows that are done, quarantined ones included, and these by error code."""
        ...

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Note a commit that made `rows` visible; the table's sequence and version from then on."""
        ...


class Silent:
    """Watches and says nothing."""

    def note(self, phase: str, detail: str = "") -> None:
        """Say nothing."""

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Say nothing."""

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Say nothing."""


class Together:
    """Several watchers as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def note(self, phase: str, detail: str = "") -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.note(phase, detail)

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.advance(rows, errors)

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.committed(sequence, version, rows)


@contextmanager
def watching(console: Console, total: int) -> Iterator[Watcher]:
    """Show progress of `total` rows on a console, as it can."""
    if not console.is_terminal:
        yield Lines(console, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task("starting", total=total, rate=""))


class Display:
    """A job on a console, from its first note on: notes are a status in a terminal, lines elsewhere.

    To be closed, as a context manager, before anything else is printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def note(self, text: str) -> None:
        """Say what happens now, at once: what follows may keep the terminal from being written to."""
        if not self._console.is_terminal:
            self._console.print(text, markup=False)
            return
        if self._status is None:
            self._status = Live(console=self._console, transient=True)
            self._status.start()
        self._status.update(Spinner("dots", Text(text)), refresh=True)

    def watching(self, total: int) -> AbstractContextManager[Watcher]:
        """Show progress of `total` rows from here on."""
        self.close()
        return watching(self._console, total)

    def close(self) -> None:
        """Take the status away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


class Bar:
    """A bar in a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._quarantined = self._committed = 0

    def note(self, phase: str, detail: str = "") -> None:
        """Write it before the bar."""
        self._progress.update(self._task, description=phase)

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Move the bar."""
        self._quarantined += sum(errors.values())
        self._progress.update(self._task, advance=rows, rate=self._figures())

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Say how many rows are safe."""
        self._committed += rows
        self._progress.update(self._task, rate=self._figures())

    def _figures(self) -> str:
        speed = self._progress.tasks[0].speed
        rate = f"{speed:,.0f} rows/s" if speed else ""
        committed = f"  {self._committed:,} committed" if self._committed else ""
        bad = f"  {self._quarantined:,} quarantined" if self._quarantined else ""
        return rate + committed + bad


class Lines:
    """Lines in a log, at most one in SECONDS_BETWEEN_LINES."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = self._quarantined = self._first = 0
        self._began: float | None = None
        self._last = 0.0

    def note(self, phase: str, detail: str = "") -> None:
        """Write a line."""
        self._console.print(f"{phase} {detail}".rstrip())

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Write a line."""
        self._console.print(f"committed {rows:,} rows as version {version}")

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Write a line when the last one is old enough."""
        now = time.monotonic()
        self._done += rows
        self._quarantined += sum(errors.values())
        if self._began is None:  # rates leave start-up out, and what was done until the first account of it
            self._began, self._last, self._first = now, now, rows
        elif now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = (self._done - self._first) / (now - self._began)
            self._console.print(
                f"{self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s, {self._quarantined:,} quarantined"
            )
