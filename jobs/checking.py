"""Everything that can be wrong with a job, looked at before any work starts."""

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lakebed.jobs.canaries import Canaries
from lakebed.jobs.output import Lineage, quarantine_schema, result_schema
from lakebed.jobs.rows import check_columns
from lakebed.jobs.window_table import window_schema
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import Model, ModelSource, resolve_model
from lakebed.platform.encoder.protocol import EncoderInfo, check_dimensions
from lakebed.platform.errors import EmptyTableError
from lakebed.platform.lake.filters import RowFilter
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.sink import Owner, Sink, SinkState
from lakebed.platform.lake.tables import open_sink, open_table


@dataclass(frozen=True)
class CheckedJob:
    """A job whose source, columns, model and sinks were found fit."""

    job: EmbedJob
    run: str
    snapshot: Snapshot
    model: Model
    info: EncoderInfo
    dimensions: int
    canaries: Canaries
    sink: Sink
    sink_state: SinkState
    quarantine: Sink
    quarantine_state: SinkState

    @property
    def is_done(self) -> bool:
        """Whether the sink holds this very result."""
        return self.sink_state.is_complete(self.info.digest, self.snapshot.version)

    @property
    def lineage(self) -> Lineage:
        """What every row says of where it comes from."""
        return Lineage(self.model.name, self.model.version, self.info.digest, self.run, self.snapshot.version)


def check_job(job: EmbedJob, registry: ModelSource | None = None) -> CheckedJob:
    """Open and check what a job names; raises a LakebedError that says what is wrong, where, and what to do."""
    snapshot = open_table(job.source)
    rows = _rows_embedded(job, snapshot)
    check_columns(rows, job.columns)
    if not snapshot.rows:
        raise EmptyTableError(
            f"{snapshot.uri}: the table has no rows", hint=f"version {snapshot.version} was read"
        )
    model = resolve_model(job.model, registry)
    encoder = model.load("cpu")  # a model that cannot be loaded fails here, in one line, and not on a worker
    info = encoder.info
    check_dimensions(info, job.dimensions)
    dimensions = job.dimensions or info.dimensions
    recorded = model.recorded_vectors()
    canaries = Canaries.of(encoder, job.columns, dimensions, recorded)
    if recorded:
        canaries.check(encoder, model.reference, "this machine")
    owner = _owner(job, dimensions)
    sink = open_sink(job.sink, result_schema(rows, job.columns, dimensions), owner)
    quarantine = open_sink(job.quarantine_table, quarantine_schema(rows, job.columns), owner)
    return CheckedJob(
        job,
        new_run(),
        snapshot,
        model,
        info,
        dimensions,
        canaries,
        sink,
        sink.open(),
        quarantine,
        quarantine.open(),
    )


def _rows_embedded(job: EmbedJob, source: Snapshot) -> Snapshot:
    """The source, or a table without rows that has the columns of its windows; checks what only the job names."""
    if job.windows:
        return replace(source, schema=window_schema(source, job), fragments=())
    if job.source.filter:
        RowFilter(job.source.filter).expression(source.schema)
    return source


def _owner(job: EmbedJob, dimensions: int) -> Owner:
    """What makes the rows of one table comparable: source, mapping and dimensions, whatever the model."""
    description = {
        "source": job.source.uri,
        **({"source_catalog": job.source.catalog} if job.source.catalog else {}),
        "columns": job.columns.model_dump(mode="json", exclude_defaults=True),
        "channel_names": list(job.channel_names) if job.channel_names else None,
        "sampling_rate": job.sampling_rate,
        "dimensions": dimensions,
        **job.rows_identity,
    }
    return Owner.of(description)


def new_run() -> str:
    """A name for a run that nobody else has, which sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
