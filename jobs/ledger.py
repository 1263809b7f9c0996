"""The ledger: a run writes down, beside the table it writes to, what it sets out to do and how far it is.

A thread of its own writes, so that the job never waits for it and a store that fails costs the job nothing. What
stands there is in `lakebed.jobs.run_record`.
"""

import io
import logging
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lakebed import __version__
from lakebed.jobs.pace import Pace
from lakebed.jobs.run_record import PLAN, STATE, UNITS, CommitRecord, Outcome, RunPlan, RunState, ledger_folder
from lakebed.jobs.units import Unit
from lakebed.platform.lake.storage import join, replace_file, store_errors

SECONDS_BETWEEN_WRITES: Final = 3.0
_LAST_WRITE_SECONDS: Final = 15.0
_COMMITS_KEPT: Final = 100

_log = logging.getLogger(__name__)


def plan_of_this_process(**fields: Any) -> RunPlan:
    """Return the plan of a run that begins now, in this process; `fields` are the other fields of RunPlan."""
    return RunPlan(
        **fields, host=socket.gethostname(), pid=os.getpid(), lakebed=__version__, began=datetime.now(UTC)
    )


class Ledger:
    """The ledger of one run, in the table whose folder is `table`; a Watcher of the job.

    A store that fails is told of once, as a warning in the log.
    """

    def __init__(
        self, table: str, plan: RunPlan, units: Sequence[Unit], seconds: float = SECONDS_BETWEEN_WRITES
    ) -> None:
        self._folder = ledger_folder(table, plan.run)
        self._plan = plan
        self._unwritten: RunPlan | None = plan
        self._units = units
        self._seconds = seconds
        self._lock = threading.Lock()
        self._phase = ("starting", "")
        self._pace = Pace()
        self._errors: Counter[str] = Counter()
        self._commits: deque[CommitRecord] = deque(maxlen=_COMMITS_KEPT)
        self._commit_count = self._committed = 0
        self._outcome: Outcome | None = None
        self._changed, self._ended = threading.Event(), threading.Event()
        self._warned = False
        self._writer = threading.Thread(target=self._keep, name="lakebed-ledger", daemon=True)

    def begin(self) -> None:
        """Begin to write."""
        self._writer.start()

    def planned(self, units: Sequence[Unit], *, source_rows: int, rows: int, held: int) -> None:
        """Take what the run has found out that it is to do; until then its plan was preliminary."""
        with self._lock:
            found = {"source_rows": source_rows, "rows": rows, "held": held, "units": len(units)}
            self._plan = self._plan.model_copy(update={**found, "preliminary": False})
            self._unwritten, self._units = self._plan, units
        self._changed.set()

    def note(self, phase: str, detail: str = "") -> None:
        """Say what happens now."""
        with self._lock:
            self._phase = phase, detail

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Count rows that are done, quarantined ones included, and these by error code."""
        with self._lock:
            self._pace.add(rows, time.monotonic())
            self._errors.update(errors)

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Note a commit that made `rows` visible, and write at once."""
        with self._lock:
            self._commits.append(CommitRecord(sequence=sequence, version=version, rows=rows, at=datetime.now(UTC)))
            self._commit_count += 1
            self._committed += rows
        self._changed.set()

    def end(self, state: Literal["done", "failed", "interrupted"], error: str | None = None) -> None:
        """Note the outcome, and wait a little for it to be written."""
        with self._lock:
            self._outcome = Outcome(state=state, error=error, at=datetime.now(UTC))
        self._ended.set()
        self._changed.set()
        self._writer.join(_LAST_WRITE_SECONDS)
        if self._writer.is_alive():
            self._warn(f"it does not answer within {_LAST_WRITE_SECONDS:.0f} s")

    def _keep(self) -> None:
        """Write until the outcome is written."""
        while True:
            is_last = self._ended.is_set()  # looked at first: what is written after that has the outcome
            self._write()
            if is_last:
                return
            self._changed.wait(self._seconds)
            self._changed.clear()

    def _write(self) -> None:
        try:
            with store_errors(self._folder):
                self._write_plan()
                replace_file(join(self._folder, STATE), _json(self._state()))
        except Exception as error:  # noqa: BLE001  whatever a store raises, a ledger never ends its job
            self._warn(str(error))

    def _write_plan(self) -> None:
        with self._lock:
            plan, units = self._unwritten, self._units
        if plan is None:
            return
        replace_file(join(self._folder, UNITS), _table_of(units))
        replace_file(join(self._folder, PLAN), _json(plan))
        with self._lock:
            if self._unwritten is plan:
                self._unwritten, self._units = None, ()

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("the ledger cannot be written, the job goes on: %s", reason)

    def _state(self) -> RunState:
        now = time.monotonic()
        with self._lock:
            phase, detail = self._phase
            return RunState(
                phase=phase,
                detail=detail,
                rows=self._pace.rows,
                quarantined=dict(self._errors),
                recent_rate=self._pace.recent(now),
                overall_rate=self._pace.overall(now),
                commits=tuple(self._commits),
                commit_count=self._commit_count,
                committed=self._committed,
                heartbeat=datetime.now(UTC),
                outcome=self._outcome,
            )


@contextmanager
def recorded(table: str, plan: RunPlan, units: Sequence[Unit]) -> Iterator[Ledger]:
    """Keep the ledger of a run for the length of a block, and note how the block ends."""
    ledger = Ledger(table, plan, units)
    ledger.begin()
    try:
        yield ledger
    except BaseException as error:
        state: Literal["interrupted", "failed"] = (
            "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        )
        ledger.end(state, _line_of(error))
        raise
    ledger.end("done")


def _line_of(error: BaseException) -> str | None:
    """An error as one line."""
    lines = str(error).splitlines()
    return lines[0] if lines else None if isinstance(error, KeyboardInterrupt) else type(error).__name__


def _json(record: RunPlan | RunState) -> bytes:
    return record.model_dump_json(indent=1).encode()


def _table_of(units: Sequence[Unit]) -> bytes:
    """Units as a Parquet file: the file of each, its first position, its rows to embed."""
    table = pa.table(
        {
            "file": pa.array([unit.fragment.file for unit in units], pa.string()),
            "first": pa.array([unit.todo[0][0] for unit in units], pa.int64()),
            "rows": pa.array([unit.rows for unit in units], pa.int64()),
        }
    )
    written = io.BytesIO()
    pq.write_table(table, written, compression="zstd")
    return written.getvalue()
