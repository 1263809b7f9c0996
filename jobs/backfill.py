"""Bringing a table of vectors to another model: the same job with that model, told from the table itself.

The new model's vectors come beside the old one's, commit by commit; what the table has of other models is removed
only when it is asked for, and only once the new model's rows are all there.
"""

from dataclasses import dataclass

from lakebed.jobs.checking import new_run
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.errors import CommitError, TableNotFoundError
from lakebed.platform.lake.sink import Commit, Sink
from lakebed.platform.lake.tables import existing_sink, sink_format


@dataclass(frozen=True)
class Removed:
    """Rows of a model that are not part of a table any more."""

    digest: str
    rows: int
    version: str | None


def job_of_table(table: SinkConfig, model: str, quarantine: str | None = None) -> EmbedJob:
    """The job that a table holds the result of, with another model, on its source as it is now.

    Raises TableNotFoundError when there is no table, TableError when no job made it.
    """
    table = SinkConfig.parse({**table.model_dump(), "format": sink_format(table.uri) or "delta"}, where=table.uri)
    description = dict(_sink(table).owner.description)
    source = {"uri": description["source"], "filter": description.get("filter")}
    if "source_catalog" in description:
        source["catalog"] = description["source_catalog"]
    given = {name: description.get(name) for name in ("columns", "channel_names", "sampling_rate", "windows")}
    values = {
        "source": {name: value for name, value in source.items() if value is not None},
        "sink": table.model_dump(mode="json", exclude_defaults=True),
        "model": model,
        "dimensions": description["dimensions"],
        "quarantine": quarantine,
        **{name: value for name, value in given.items() if value is not None},
    }
    return EmbedJob.parse(values, where=table.uri)


def remove_other_models(job: EmbedJob, digest: str, source_version: str) -> list[Removed]:
    """Remove the rows of every model but one, of both tables of a job.

    Raises CommitError unless the rows of that one are complete for a version of the source.
    """
    result = _sink(job.sink)
    if not result.open().is_complete(digest, source_version):
        raise CommitError(
            f"{job.sink.uri}: the rows of {digest[:12]} are not all there; nothing was removed",
            hint="run it again",
        )
    removed = _without_others(result, digest)
    quarantine = existing_sink(job.quarantine_table)
    if quarantine is not None:
        _without_others(quarantine, digest)
    return removed


def _without_others(sink: Sink, digest: str) -> list[Removed]:
    state, removed = sink.open(), []
    for slot in sorted(set(state.slots) - {digest}):
        held = sink.slot(state, slot)
        if held.fragments:
            gone = [part.path for part in held.fragments]
            state = sink.commit(state, Commit(slot, new_run(), (), gone))
            removed.append(Removed(slot, held.rows, state.version))
    return removed


def _sink(table: SinkConfig) -> Sink:
    sink = existing_sink(table)
    if sink is None:
        raise TableNotFoundError(f"{table.uri}: there is no table of vectors", hint="check the path")
    return sink
