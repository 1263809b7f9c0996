"""The embedding job, as its driver runs it: check everything, embed, account for every row, commit once.

The promise: *effectively-once commit, at-least-once compute*. Until the commit nothing is visible; a run that is
killed leaves files that no reader sees. A run whose result is in the sink already does nothing. Running on a newer
source version replaces this model's rows; another model's rows stay.

The quarantine table is committed just before the result: a result that is visible has its bad rows on record.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from lakebed import __version__
from lakebed.jobs.account import Account
from lakebed.jobs.checking import CheckedJob, check_job
from lakebed.jobs.coverage import Coverage
from lakebed.jobs.plan import plan_job
from lakebed.jobs.progress import Silent, Watcher
from lakebed.jobs.report import EmbedReport
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.staging import Stager, StagingArea
from lakebed.platform.cluster import connected
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import ModelSource
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Sink

if TYPE_CHECKING:
    from lakebed.platform.tracking import Run, Tracking

Watch = Callable[[int], AbstractContextManager[Watcher]]


def run_embed(
    job: EmbedJob,
    *,
    registry: ModelSource | None = None,
    tracking: "Tracking | None" = None,
    watch: Watch | None = None,
    again: bool = False,
) -> EmbedReport:
    """Run a job to its commit; raises a LakebedError, and then the sink is as it was.

    `again` embeds even what the sink holds already. `watch` opens a Watcher for a number of rows.
    """
    started = time.time()
    checked = check_job(job, registry)
    if checked.is_done and not again:
        return _nothing_new(checked, started)
    with _logged(checked, tracking) as run:
        report = _run(checked, watch or (lambda _: nullcontext(Silent())), started, run.id if run else None)
        if run:
            run.metrics(report.figures())
            run.tags({"lakebed.sink_version": report.sink_version})
    return report


def _run(checked: CheckedJob, watch: Watch, started: float, tracking_run: str | None) -> EmbedReport:
    """Embed, check that every row is accounted for, and commit."""
    with watch(checked.snapshot.rows) as watcher:
        with _discarding(checked):
            account = _embed(checked, watcher)
            account.coverage.check()
        watcher.note("committing")
        version = _commit(checked, account)
    ended = time.time()
    return _report(
        checked,
        embedded=account.good,
        quarantined=account.errors,
        tokens=account.tokens,
        samples=account.samples,
        startup_seconds=account.began - started,
        seconds=ended - account.began,
        sink_version=version,
        tracking_run=tracking_run,
    )


@contextmanager
def _discarding(checked: CheckedJob) -> Iterator[None]:
    """Remove what was staged when the run fails before its commit. A killed run cannot; its files are harmless.

    From the commit on nothing is removed: a store may have taken a commit whose answer was lost or interrupted,
    and then these files are the table.
    """
    try:
        yield
    except BaseException:
        checked.sink.discard(checked.run)
        checked.quarantine.discard(checked.run)
        raise


def _embed(checked: CheckedJob, watcher: Watcher) -> Account:
    """Run the pipeline to its end, or until too many rows are bad."""
    job = checked.job
    account = Account(Coverage(checked.snapshot.fragments))
    watcher.note("starting", "Ray")
    with connected(job.cluster) as connection:
        from lakebed.jobs.pipeline import resources, run_pipeline
        from lakebed.jobs.worker import Embedding

        plan = plan_job(checked.snapshot, job.compute, resources())
        detail = f"{checked.snapshot.rows:,} rows with {plan.actors} encoders on {connection.place}"
        watcher.note("embedding", detail)
        embedding = Embedding(
            checked.model.pack(),
            RowMapping.of(job),
            checked.dimensions,
            Budget(job.compute.batch_cost) if job.compute.batch_cost else Budget(),
            plan.threads,
            "cuda" if plan.actor_gpus else "cpu",
            job.compute.cache_bytes,
            checked.canaries,
        )
        pipeline = run_pipeline(plan, checked.snapshot, embedding, _stager(checked), connection.variables)
        with closing(pipeline) as accounts:
            for staged in accounts:
                account.add(staged)
                watcher.advance(staged.good + staged.bad, staged.bad)
                account.check_quarantined(job.max_quarantined, checked.snapshot.rows)
    return account


def _stager(checked: CheckedJob) -> Stager:
    def area(sink: Sink) -> StagingArea:
        return StagingArea(sink.uri, sink.folder(checked.run), sink.stored_columns)

    return Stager(area(checked.sink), area(checked.quarantine), checked.lineage, checked.snapshot.fragments)


def _commit(checked: CheckedJob, account: Account) -> str:
    def commit(parts: list[Part]) -> Commit:
        metadata = {
            "lakebed.model": checked.model.reference,
            "lakebed.model_digest": checked.info.digest,
            "lakebed.source_version": checked.snapshot.version,
            "lakebed.version": __version__,
        }
        return Commit(parts, checked.info.digest, checked.run, checked.snapshot.version, metadata)

    if account.quarantined or checked.info.digest in checked.quarantine_state.slots:
        checked.quarantine.commit(checked.quarantine_state, commit(account.quarantined))
    return checked.sink.commit(checked.sink_state, commit(account.parts))


@contextmanager
def _logged(checked: CheckedJob, tracking: "Tracking | None") -> "Iterator[Run | None]":
    """Open the job's MLflow run, with its specification and its input."""
    if tracking is None or checked.job.experiment is None:
        yield None
        return
    from lakebed.platform.tracking import DatasetRef

    snapshot = checked.snapshot
    with tracking.run(checked.job.experiment, f"embed {checked.run}", {"lakebed.run": checked.run}) as run:
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
            }
        )
        digest = hashlib.sha256(f"{snapshot.uri}@{snapshot.version}".encode()).hexdigest()[:32]
        name = snapshot.uri.rpartition("/")[2]
        run.dataset(DatasetRef(name, digest, f"{snapshot.uri}@{snapshot.version}", snapshot.rows), "embedding")
        yield run


def _nothing_new(checked: CheckedJob, started: float) -> EmbedReport:
    return _report(
        checked,
        embedded=0,
        quarantined={},
        tokens=0,
        samples=0,
        startup_seconds=time.time() - started,
        seconds=0.0,
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
        rows=checked.snapshot.rows,
        sink=checked.sink.uri,
        quarantine=checked.quarantine.uri,
        dimensions=checked.dimensions,
        **outcome,
    )
