"""What a ledger says of a run: what it set out to do, how far it is, how it ended. Where it lies, and reading it.

A run's ledger is the folder `_lakebed/ledger/<run>` of the table it writes to. It is for people; no job decides
anything by it.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lakebed.platform.config.base import describe
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.errors import JobNotFoundError, TableError, TableNotFoundError
from lakebed.platform.lake.storage import join, names_in, read_bytes, store_errors
from lakebed.platform.lake.tables import existing_sink, sink_format, table_folder

PLAN: Final = "plan.json"
STATE: Final = "state.json"
UNITS: Final = "units.parquet"

_LEDGERS: Final = "_lakebed/ledger"
_READ_AT_ONCE: Final = 16


class _Record(BaseModel):
    """Read by other versions of lakebed than wrote it: a field that one does not know is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class RunPlan(_Record):
    """What a run sets out to do; written at its start, and once more when it has found out what there is to do."""

    run: str
    """Id of the run, as in the column `lb_run`."""

    job: dict[str, Any]
    """The job's specification."""

    model: str
    """Reference of the model."""

    digest: str
    """Digest of the model."""

    source: str
    """URI of the source."""

    source_version: str
    """Version of the source that is read."""

    source_rows: int
    """Rows of the source at that version."""

    rows: int
    """Rows to embed."""

    held: int
    """Rows that the tables held already."""

    units: int
    """Number of units of work."""

    preliminary: bool = False
    """Whether the run is still finding out what there is to do: `rows`, `held` and `units` are not known yet."""

    sink: SinkConfig
    """Table of vectors."""

    quarantine: SinkConfig
    """Table of rows that could not be embedded."""

    host: str
    """Machine of the driver."""

    pid: int
    """Process of the driver."""

    lakebed: str
    """Version of lakebed."""

    began: datetime
    """When the run began."""


class CommitRecord(_Record):
    """One commit of a run."""

    sequence: int
    """The table's sequence, which counts commits of the job."""

    version: str
    """The table's version from then on."""

    rows: int
    """Rows that became visible, quarantined ones included."""

    at: datetime
    """When it was done."""


class Outcome(_Record):
    """How a run ended."""

    state: Literal["done", "failed", "interrupted"]
    """`interrupted`: by Ctrl-C."""

    error: str | None = None
    """Why it failed."""

    at: datetime
    """When it ended."""


class RunState(_Record):
    """How far a run is; replaced every few seconds."""

    phase: str
    """What happens now, in a word."""

    detail: str = ""
    """More about the phase."""

    rows: int = 0
    """Rows that are done, quarantined ones included; not all need be committed."""

    quarantined: dict[str, int] = {}
    """Quarantined rows by error code."""

    recent_rate: float | None = None
    """Rows per second over the last minute; None before there is one."""

    overall_rate: float | None = None
    """Rows per second since the first rows were done."""

    commits: tuple[CommitRecord, ...] = ()
    """The latest commits, oldest first."""

    commit_count: int = 0
    """Number of all commits."""

    committed: int = 0
    """Rows of all commits."""

    heartbeat: datetime
    """When this was written, by the driver's clock."""

    outcome: Outcome | None = None
    """How the run ended; None while it has not."""


@dataclass(frozen=True)
class RunRecord:
    """A run as its ledger has it."""

    plan: RunPlan
    state: RunState


T = TypeVar("T", bound=_Record)


def ledger_folder(table: str, run: str) -> str:
    """Return the place of a run's ledger, given the folder of the table it writes to."""
    return join(table, _LEDGERS, run)


def read_run(table: str, run: str) -> RunRecord:
    """Read one ledger; raises JobNotFoundError, UnreachableError, or TableError when it cannot be understood."""
    folder = ledger_folder(table, run)
    with store_errors(folder):
        names = names_in(folder)
        if PLAN not in names:
            raise JobNotFoundError(
                f"{table}: no run {run!r} is known there", hint=f"list the runs: lakebed jobs show --sink {table}"
            )
        plan = _read(RunPlan, join(folder, PLAN))
        if STATE not in names:
            return RunRecord(plan, RunState(phase="starting", heartbeat=plan.began))
        return RunRecord(plan, _read(RunState, join(folder, STATE)))


def runs_at(table: str, limit: int | None = None) -> list[RunRecord]:
    """Read the newest ledgers of a table, newest first; a run that is just beginning may be missing."""
    folder = join(table, _LEDGERS)
    with store_errors(folder):
        runs = names_in(folder)[::-1]  # a run's id begins with its time
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return [record for record in pool.map(lambda run: _read_if_begun(table, run), runs[:limit]) if record]


def tables_of(sink: SinkConfig) -> tuple[SinkConfig, SinkConfig]:
    """The result and the quarantine table of the jobs that write to a place, as their latest run says.

    Without a ledger, the quarantine table is looked for where it lies by default. Raises TableNotFoundError.
    """
    for record in runs_at(table_folder(sink), limit=1):
        return record.plan.sink, record.plan.quarantine
    kind = sink_format(sink.uri)
    if kind is None or (kind == "iceberg" and existing_sink(sink) is None):
        raise TableNotFoundError(
            f"{sink.uri}: there is no table of vectors", hint="check the path, or name the job.yaml"
        )
    found = sink.model_copy(update={"format": kind})
    return found, found.model_copy(update={"uri": f"{sink.uri}_quarantine"})


def _read_if_begun(table: str, run: str) -> RunRecord | None:
    try:
        return read_run(table, run)
    except JobNotFoundError:
        return None


def _read(kind: type[T], uri: str) -> T:
    try:
        return kind.model_validate_json(read_bytes(uri))
    except ValidationError as error:
        raise TableError(
            f"{uri}: not a ledger of this version: {describe(error)}", hint="was it made by another version?"
        ) from None
