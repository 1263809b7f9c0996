"""The embedding job, as its driver runs it: check all, see what is there, embed the rest, commit now and then.

The promise: *effectively-once commit, at-least-once compute*. What is done is what the tables hold (decision
0033): a run goes on from there, whether the one before it was killed or read an older version of the source. Rows
that are gone from the source, or changed in it, leave the table in the last commit. Another model's rows stay.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lakebed import __version__
from lakebed.jobs.account import Account
from lakebed.jobs.checking import CheckedJob, check_job
from lakebed.jobs.committing import Committer, Exchange
from lakebed.jobs.coverage import Coverage
from lakebed.jobs.done import HeldRows, held_rows
from lakebed.jobs.ledger import Ledger, plan_of_this_process, recorded
from lakebed.jobs.moved import keep_moved, read_moved
from lakebed.jobs.plan import plan_job
from lakebed.jobs.progress import Note, Silent, Together, Watcher
from lakebed.jobs.report import EmbedReport
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.run_log import RunLog, run_log
from lakebed.jobs.staging import Stager
from lakebed.jobs.units import Unit, whole_units
from lakebed.jobs.window_table import windowed_source
from lakebed.jobs.work import Surplus, UnitSignatures, Work, plan_work
from lakebed.platform.cluster import Connection, connected
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import ModelSource
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.errors import UnreachableError
from lakebed.platform.lake.filters import RowFilter
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.pruning import select_rows
from lakebed.platform.lake.sink import Sink

if TYPE_CHECKING:
    from lakebed.jobs.remote import RemoteTasks
    from lakebed.platform.tracking import Tracking

_log = logging.getLogger(__name__)

Watch = Callable[[int], AbstractContextManager[Watcher]]


def run_embed(
    job: EmbedJob,
    *,
    registry: ModelSource | None = None,
    tracking: "Tracking | None" = None,
    watch: Watch | None = None,
    note: Note = lambda _: None,
    again: bool = False,
    retry_quarantined: bool = False,
) -> EmbedReport:
    """Run a job to its last commit; raises a LakebedError, and then the sink has what was committed before.

    `again` embeds even what the sink holds already, `retry_quarantined` what could not be embedded before. `note`
    is told what takes time until `watch` opens a Watcher for the number of rows that are to be embedded.
    """
    started = time.time()
    checked = check_job(job, registry)
    if checked.is_done and not (again or retry_quarantined):
        return _nothing_new(checked, started)
    report = None
    try:
        with run_log(checked, tracking) as log:
            running = _Running(checked, started, log, again=again, retry_quarantined=retry_quarantined)
            report = running.run(watch or (lambda _: nullcontext(Silent())), note)
            log.finish(report)
    except UnreachableError as error:
        if report is None:
            raise
        _log.warning("the result is committed, but its MLflow run is not whole: %s", error)
    return report


@dataclass(frozen=True)
class _Tables:
    """What the two tables hold of this model."""

    result: HeldRows
    quarantine: HeldRows

    @classmethod
    def of(cls, checked: CheckedJob) -> Self:
        slot = checked.info.digest
        return cls(
            held_rows(checked.sink.slot(checked.sink_state, slot)),
            held_rows(checked.quarantine.slot(checked.quarantine_state, slot)),
        )


class _Running:
    """One run of a checked job."""

    def __init__(
        self, checked: CheckedJob, started: float, log: RunLog, *, again: bool, retry_quarantined: bool
    ) -> None:
        self._checked = checked
        self._log = log
        self._started = started
        self._again = again
        self._retry = retry_quarantined
        self._mapping = RowMapping.of(checked.job)
        self._source, self._units = checked.snapshot, whole_units(())
        self._spent = {"planning": 0.0, "committing": 0.0}

    def run(self, watch: Watch, note: Note) -> EmbedReport:
        """Embed what is to be embedded, check that every row is accounted for, and commit.

        The ledger begins before windows are cut or read: by it, cleaning knows that they are in use.
        """
        with connected(self._checked.job.cluster, note) as connection, self._recorded() as ledger:
            tasks = self._tasks(connection)
            with self._timed("planning"):
                tables, work = self._planned(tasks, _both(note, ledger.note))
            ledger.planned(work.units, source_rows=self._rows, rows=work.rows, held=work.held)
            account = Account(Coverage(work.units))
            with watch(work.rows) as shown:
                watcher = Together(shown, ledger, self._log)
                committer = self._committer(watcher)
                try:
                    if work.units:
                        self._embed(work, account, committer, watcher, connection)
                    watcher.note("committing")
                    with self._timed("committing"):
                        exchanges = self._exchanges(tables, work, tasks)
                except BaseException:
                    committer.discard(account)
                    raise
                with self._timed("committing"):
                    committer.commit_last(account, *exchanges, self._checked.snapshot.version)
        return self._report(work, account, committer)

    @property
    def _rows(self) -> int:
        """Rows of the source that the job is about."""
        return sum(unit.rows for unit in self._units)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._spent[phase] += time.monotonic() - began

    def _tasks(self, connection: Connection) -> "RemoteTasks":
        from lakebed.jobs.pipeline import resources
        from lakebed.jobs.remote import RemoteTasks

        return RemoteTasks(max(1, int(resources().cpus)), 1, connection.variables)

    def _planned(self, tasks: "RemoteTasks", note: Note) -> tuple[_Tables, Work]:
        """Find out which rows there are, what the tables hold of them, and what is left to do."""
        checked = self._checked
        self._source, self._units = _source_of(checked, note)
        if checked.sink_state.exists or checked.quarantine_state.exists:
            note("looking at what the tables hold")
        tables = _Tables.of(checked)
        return tables, self._work(tables, tasks, note)

    def _work(self, tables: _Tables, tasks: "RemoteTasks", note: Note) -> Work:
        def compare(units: Sequence[Unit]) -> Iterator[UnitSignatures]:
            from lakebed.jobs.remote import compare_units

            note(f"comparing {sum(unit.rows for unit in units):,} rows with those that the table holds")
            return compare_units(tasks, self._source, self._mapping, self._checked.sink.schema, units)

        place = self._checked.sink.folder, self._checked.info.digest
        work = plan_work(
            self._units,
            tables.result,
            tables.quarantine,
            self._checked.job.columns,
            compare,
            moved=read_moved(*place),
            again=self._again,
            retry=self._retry,
        )
        if work.moved:
            keep_moved(*place, work.moved)
        return work

    def _recorded(self) -> AbstractContextManager[Ledger]:
        checked = self._checked
        plan = plan_of_this_process(
            run=checked.run,
            job=checked.job.model_dump(mode="json", exclude_defaults=True),
            model=checked.model.reference,
            digest=checked.info.digest,
            source=checked.snapshot.uri,
            source_version=checked.snapshot.version,
            source_rows=checked.snapshot.rows,
            rows=0,
            held=0,
            units=0,
            preliminary=True,
            sink=checked.job.sink,
            quarantine=checked.job.quarantine_table,
        )
        return recorded(checked.sink.folder, plan, ())

    def _committer(self, watcher: Watcher) -> Committer:
        checked = self._checked
        metadata = {
            "lakebed.model": checked.model.reference,
            "lakebed.model_digest": checked.info.digest,
            "lakebed.source_version": checked.snapshot.version,
            "lakebed.version": __version__,
        }
        return Committer(
            (checked.sink, checked.sink_state),
            (checked.quarantine, checked.quarantine_state),
            checked.info.digest,
            checked.run,
            metadata,
            lambda done: watcher.committed(done.sequence, done.version, done.rows + done.quarantined),
        )

    def _embed(
        self, work: Work, account: Account, committer: Committer, watcher: Watcher, connection: Connection
    ) -> None:
        """Run the pipeline to its end, or until too many rows are bad; commit what is staged now and then."""
        from lakebed.jobs.pipeline import UnitSource, resources, run_pipeline
        from lakebed.jobs.worker import Embedding

        checked, job = self._checked, self._checked.job
        plan = plan_job(work.units, job.compute, resources())
        rest = f" left of {self._rows:,}" if work.held else ""
        watcher.note("embedding", f"{work.rows:,} rows{rest} with {plan.actors} encoders on {connection.place}")
        embedding = Embedding(
            checked.model.pack(),
            self._mapping,
            checked.dimensions,
            Budget(job.compute.batch_cost) if job.compute.batch_cost else Budget(),
            plan.threads,
            "cuda" if plan.actor_gpus else "cpu",
            job.compute.cache_bytes,
            checked.canaries,
        )
        source = UnitSource(self._source, work.units, job.columns.read, plan.batch_rows)
        stager = Stager(self._writer(checked.sink), self._writer(checked.quarantine), checked.lineage, work.units)
        committed = time.monotonic()
        with closing(run_pipeline(plan, source, embedding, stager, connection.variables)) as accounts:
            for staged in accounts:
                account.add(staged)
                watcher.advance(staged.good + staged.bad, staged.errors)
                commits = len(committer.commits)
                account.check_quarantined(job.max_quarantined, self._rows, work.rejected, commits)
                account.check_equal(job.validation.max_equal_vectors, work.rows, commits)
                if time.monotonic() - committed >= job.compute.commit_seconds:
                    with self._timed("committing"):
                        committer.commit_some(account)
                    committed = time.monotonic()

    def _exchanges(self, tables: _Tables, work: Work, tasks: "RemoteTasks") -> tuple[Exchange, Exchange]:
        """Write parts again that rows are to be removed from."""
        checked = self._checked
        return (
            self._exchange(tables.result, work.surplus, checked.sink, tasks),
            self._exchange(tables.quarantine, work.surplus_rejected, checked.quarantine, tasks),
        )

    def _exchange(self, held: HeldRows, surplus: Surplus, sink: Sink, tasks: "RemoteTasks") -> Exchange:
        from lakebed.jobs.remote import parts_without

        parts = list(parts_without(tasks, held.snapshot, surplus, self._writer(sink)))
        return Exchange(parts, tuple(surplus))

    def _writer(self, sink: Sink) -> Any:
        return sink.writer(self._checked.run, self._checked.info.digest)

    def _report(self, work: Work, account: Account, committer: Committer) -> EmbedReport:
        ended = time.time()
        began = min(account.began, ended)
        return _report(
            self._checked,
            rows=self._rows,
            held=work.held,
            embedded=account.good,
            removed=work.removed,
            commits=len(committer.commits),
            quarantined=account.errors,
            tokens=account.tokens,
            samples=account.samples,
            startup_seconds=began - self._started,
            seconds=ended - began,
            planning_seconds=self._spent["planning"],
            committing_seconds=self._spent["committing"],
            sink_version=committer.result_state.version or "",
            tracking_run=self._log.id,
        )


def _both(one: Note, other: Note) -> Note:
    def note(text: str) -> None:
        one(text)
        other(text)

    return note


def _source_of(checked: CheckedJob, note: Note) -> tuple[Snapshot, tuple[Unit, ...]]:
    """What is embedded: the source, its windows, or those of its rows that a filter leaves."""
    job = checked.job
    if job.windows:
        windows = windowed_source(job, checked.snapshot, note)
        return windows, whole_units(windows.fragments)
    if job.source.filter:
        note("choosing rows by the filter")
        selected = select_rows(checked.snapshot, RowFilter(job.source.filter))
        return checked.snapshot, tuple(Unit(fragment, ranges) for fragment, ranges in selected)
    return checked.snapshot, whole_units(checked.snapshot.fragments)


def _nothing_new(checked: CheckedJob, started: float) -> EmbedReport:
    return _report(
        checked,
        rows=checked.snapshot.rows,
        held=checked.snapshot.rows,
        embedded=0,
        removed=0,
        commits=0,
        quarantined={},
        tokens=0,
        samples=0,
        startup_seconds=time.time() - started,
        seconds=0.0,
        planning_seconds=0.0,
        committing_seconds=0.0,
        sink_version=checked.sink_state.version or "",
        nothing_new=True,
    )


def _report(checked: CheckedJob, **outcome: Any) -> EmbedReport:
    """Say what the job was beside what came of it."""
    return EmbedReport(
        run=checked.run,
        model=checked.model.reference,
        digest=checked.info.digest,
        source=checked.snapshot.uri,
        source_version=checked.snapshot.version,
        sink=checked.sink.uri,
        quarantine=checked.quarantine.uri,
        dimensions=checked.dimensions,
        **outcome,
    )
