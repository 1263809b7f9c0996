"""The MLflow run of a job: its specification and input at the start, its pace on the way, its figures at the end.

Only the driver writes here. A job that is kept out of MLflow has a log that writes nothing.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from lakebed import __version__
from lakebed.jobs.checking import CheckedJob
from lakebed.jobs.report import EmbedReport
from lakebed.platform.errors import UnreachableError
from lakebed.platform.machine import code_version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lakebed.platform.tracking import Run, Tracking

_SECONDS_BETWEEN_POINTS: Final = 10.0
_THROUGHPUT: Final = "rows_done"
_RATE: Final = "rows_per_second_now"


class RunLog:
    """What becomes of one job, as MLflow shows it. A Watcher of the job."""

    def __init__(self, run: "Run | None" = None) -> None:
        self._run = run
        self._began = self._last = time.monotonic()
        self._rows = self._rows_before = 0
        self._points: list[tuple[float, float]] = []

    @property
    def id(self) -> str | None:
        """The run's id; None when nothing is logged."""
        return self._run.id if self._run else None

    def note(self, phase: str, detail: str = "") -> None:
        """Not logged."""

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Not logged: the table says it."""

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Count rows that are done; logs the pace now and then, as metrics whose step is in seconds."""
        self._rows += rows
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_POINTS:
            self._point(now)

    def finish(self, report: EmbedReport) -> None:
        """Log the figures of a run that has got to its end, and its pace as a plot."""
        if self._run is None:
            return
        self._point(time.monotonic())
        self._run.metrics(report.figures())
        self._run.tags({"lakebed.sink_version": report.sink_version})
        self._run.figure(self._plot(), "throughput.png")

    def _point(self, now: float) -> None:
        spent, at = now - self._last, now - self._began
        rate = (self._rows - self._rows_before) / spent if spent else 0.0
        self._last, self._rows_before = now, self._rows
        self._points.append((at, rate))
        if self._run is not None:
            with suppress(UnreachableError):  # what matters of it is logged again in the end
                self._run.metrics({_THROUGHPUT: self._rows, _RATE: rate}, step=round(at))

    def _plot(self) -> "Figure":
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3))
        axes = figure.add_subplot()
        axes.step([at for at, _ in self._points], [rate for _, rate in self._points], where="pre")
        axes.set(xlabel="seconds since the start", ylabel="rows/s", ylim=(0, None))
        axes.grid(alpha=0.3)
        return figure


@contextmanager
def run_log(checked: CheckedJob, tracking: "Tracking | None") -> Iterator[RunLog]:
    """Open the job's MLflow run, with its specification and its input, and watch the machine meanwhile."""
    if tracking is None or checked.job.experiment is None:
        yield RunLog()
        return
    from lakebed.platform.tracking import DatasetRef

    snapshot = checked.snapshot
    with ExitStack() as stack:
        run = stack.enter_context(
            tracking.run(checked.job.experiment, f"embed {checked.run}", {"lakebed.run": checked.run})
        )
        run.params(
            {
                "model": checked.model.reference,
                "model_digest": checked.info.digest,
                "dimensions": checked.dimensions,
                "source": snapshot.uri,
                "source_version": snapshot.version,
                "sink": checked.sink.uri,
                "job": checked.job.model_dump(mode="json", exclude_defaults=True),
                "lakebed": __version__,
                "code": code_version(),
            }
        )
        digest = hashlib.sha256(f"{snapshot.uri}@{snapshot.version}".encode()).hexdigest()[:32]
        name = snapshot.uri.rpartition("/")[2]
        run.dataset(DatasetRef(name, digest, f"{snapshot.uri}@{snapshot.version}", snapshot.rows), "embedding")
        stack.enter_context(run.system_metrics())
        yield RunLog(run)
