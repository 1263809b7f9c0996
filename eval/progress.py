"""How far an evaluation is: bars in a terminal, lines now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES: Final = 10.0


class Watcher(Protocol):
    """Is told how far an evaluation is."""

    def planned(self, sets: int, rows: int) -> None:
        """Note how many data sets are to be measured, and their rows."""
        ...

    def encoding(self, name: str) -> None:
        """Note the data set whose rows are encoded next."""
        ...

    def encoded(self, rows: int, *, kept: bool) -> None:
        """Count rows whose vectors are there; `kept` says that they were before."""
        ...

    def measured(self, name: str, task: str, *, kept: bool) -> None:
        """Count a data set whose task is done; `kept` says that it was before."""
        ...


class Silent:
    """Watches and says nothing."""

    def planned(self, sets: int, rows: int) -> None:
        """Say nothing."""

    def encoding(self, name: str) -> None:
        """Say nothing."""

    def encoded(self, rows: int, *, kept: bool) -> None:
        """Say nothing."""

    def measured(self, name: str, task: str, *, kept: bool) -> None:
        """Say nothing."""


@contextmanager
def watching(console: Console) -> Iterator[Watcher]:
    """Show progress on a console, as it can."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress)


class Bars:
    """Two bars in a terminal: rows that are encoded, tasks that are done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rows = progress.add_task("loading the model", total=None, unit="rows")
        self._tasks = progress.add_task("tasks", total=None, unit="data sets")

    def planned(self, sets: int, rows: int) -> None:
        """Give the bars their lengths."""
        self._progress.update(self._rows, total=rows)
        self._progress.update(self._tasks, total=sets)

    def encoding(self, name: str) -> None:
        """Write it before the bar."""
        self._progress.update(self._rows, description=f"encoding {name}")

    def encoded(self, rows: int, *, kept: bool) -> None:
        """Move the bar; kept rows say nothing of the speed, so the whole is made shorter by them."""
        if kept:
            self._shorten(self._rows, rows)
            return
        self._progress.update(self._rows, advance=rows)
        speed = self._progress.tasks[self._rows].speed
        if speed:
            self._progress.update(self._rows, unit=f"rows  {speed:,.0f} rows/s")

    def measured(self, name: str, task: str, *, kept: bool) -> None:
        """Move the bar."""
        self._progress.update(self._tasks, advance=1, description=f"{task} on {name}")

    def _shorten(self, bar: TaskID, rows: int) -> None:
        total = self._progress.tasks[bar].total or rows
        self._progress.update(bar, total=total - rows)


class Lines:
    """Lines in a log: one per data set that is done, and while a large one is encoded one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._sets = self._done = self._left = self._new = 0
        self._began: float | None = None
        self._last = 0.0

    def planned(self, sets: int, rows: int) -> None:
        """Remember the totals."""
        self._sets, self._left = sets, rows
        self._began = self._last = time.monotonic()

    def encoding(self, name: str) -> None:
        """Say nothing: a line comes when it takes long, and one when it is done."""

    def encoded(self, rows: int, *, kept: bool) -> None:
        """Write a line when the last one is old enough."""
        self._left -= rows
        if kept:
            return
        self._new += rows
        now = time.monotonic()
        if self._began is not None and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = self._new / (now - self._began)
            seconds = self._left / rate
            self._console.print(f"{self._new:,} rows encoded, {rate:,.0f} rows/s, about {seconds:,.0f} s to go")

    def measured(self, name: str, task: str, *, kept: bool) -> None:
        """Write a line."""
        self._done += 1
        before = ", kept from before" if kept else ""
        self._console.print(f"[{self._done}/{self._sets}] {name}: {task}{before}", markup=False)
