"""Removing what runs staged and never committed: data files that no version of a table holds.

A run that is at work has such files too, and may hold them for as long as it runs; files of a run whose ledger
shows a sign of life within the time that is waited are left alone whatever their age.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from lakebed.jobs.run_record import RunRecord, runs_at
from lakebed.jobs.standing import Standing
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.lake.sink import SLOT_COLUMN, Orphan, Owner, Sink
from lakebed.platform.lake.tables import existing_sink, open_sink, table_folder


@dataclass(frozen=True)
class Leftovers:
    """Files of one table that can go: `orphans` are old enough and of no run at work; `spared` is what is not."""

    sink: Sink
    orphans: tuple[Orphan, ...]
    spared: int

    @property
    def size(self) -> int:
        """Bytes of the files that can go."""
        return sum(orphan.size for orphan in self.orphans)

    def remove(self) -> None:
        """Remove them."""
        self.sink.remove([orphan.path for orphan in self.orphans])


def find_leftovers(tables: Sequence[SinkConfig], older_than: timedelta, now: datetime) -> list[Leftovers]:
    """Look for files that can go in the tables of one job, its result first; raises TableError for another's."""
    runs = runs_at(table_folder(tables[0]))
    at_work = [run.plan.run for run in runs if _may_be_at_work(Standing(run, now), older_than)]
    return [_leftovers(table, runs, at_work, now - older_than) for table in tables]


def _may_be_at_work(run: Standing, patience: timedelta) -> bool:
    """Whether a run has not ended, and was alive not long ago: its driver may have lost only the ledger."""
    return run.status == "running" or (run.status == "silent" and run.silence < patience)


def _leftovers(
    table: SinkConfig, runs: Sequence[RunRecord], at_work: Sequence[str], before: datetime
) -> Leftovers:
    sink = existing_sink(table)
    if sink is None:
        return _of_no_table(table, runs, at_work, before)
    return _sorted_out(sink, sink.orphans(), at_work, before)


def _of_no_table(
    table: SinkConfig, runs: Sequence[RunRecord], at_work: Sequence[str], before: datetime
) -> Leftovers:
    """A place where nothing was ever committed: only files of known runs can be told from a stranger's."""
    sink = open_sink(table, pa.schema([(SLOT_COLUMN, pa.string())]), Owner.of({}))
    known = [run.plan.run for run in runs]
    return _sorted_out(sink, [orphan for orphan in sink.orphans() if _is_of(orphan, known)], at_work, before)


def _sorted_out(sink: Sink, orphans: Sequence[Orphan], at_work: Sequence[str], before: datetime) -> Leftovers:
    going = tuple(orphan for orphan in orphans if orphan.modified < before and not _is_of(orphan, at_work))
    return Leftovers(sink, going, len(orphans) - len(going))


def _is_of(orphan: Orphan, runs: Sequence[str]) -> bool:
    """Whether one of the runs staged a file: it says so, or its folder is named for the run."""
    return orphan.run in runs or any(run in folder for folder in orphan.path.split("/")[:-1] for run in runs)
