"""Removing what runs left: data files that no version of a table holds, and windows that no job needs any more.

A run that is at work has such files too, and may hold them for as long as it runs; files of a run whose ledger
shows a sign of life within the time that is waited are left alone whatever their age, and so are all windows
while there is such a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import pyarrow as pa

from lakebed.jobs.run_record import RunRecord, runs_at
from lakebed.jobs.standing import Standing
from lakebed.jobs.window_cleaning import windows_not_needed
from lakebed.jobs.window_store import KeptWindows, kept_windows, windows_folder
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.lake.sink import SLOT_COLUMN, Orphan, Owner, Sink
from lakebed.platform.lake.storage import StoredFile, remove_files, store_errors
from lakebed.platform.lake.tables import existing_sink, open_sink, table_folder


@dataclass(frozen=True)
class Leftovers:
    """Files of one place that can go: `orphans` are old enough and of no run at work; `spared` is what is not.

    The place is a table, or the folder of windows beside it, and removes files by their paths.
    """

    uri: str
    orphans: tuple[Orphan, ...]
    spared: int
    remover: Callable[[Sequence[str]], None]

    @property
    def size(self) -> int:
        """Bytes of the files that can go."""
        return sum(orphan.size for orphan in self.orphans)

    def remove(self) -> None:
        """Remove them."""
        self.remover([orphan.path for orphan in self.orphans])


def find_leftovers(tables: Sequence[SinkConfig], older_than: timedelta, now: datetime) -> list[Leftovers]:
    """Look for files that can go in the tables of one job, its result first; raises TableError for another's.

    Then come the windows in the result's folder, if there are any. Those that a job keeps in a folder of its own
    choice are not looked at: other jobs may use them, too.
    """
    folder = table_folder(tables[0])
    runs = runs_at(folder)
    at_work = [run.plan.run for run in runs if _may_be_at_work(Standing(run, now), older_than)]
    found = [_leftovers(table, runs, at_work, now - older_than) for table in tables]
    windows = kept_windows(windows_folder(folder))
    if windows:
        found.append(_of_windows(windows_folder(folder), windows, tables[0], bool(at_work), now - older_than))
    return found


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
    return Leftovers(sink.uri, going, len(orphans) - len(going), sink.remove)


def _of_windows(
    folder: str, windows: Sequence[KeptWindows], result: SinkConfig, at_work: bool, before: datetime
) -> Leftovers:
    sink = existing_sink(result)
    unneeded = windows_not_needed(windows, sink.open() if sink else None)
    going = [] if at_work else [file for group in unneeded if _all_before(group, before) for file in group]
    orphans = tuple(Orphan(file.path, file.size, file.modified) for file in going)
    return Leftovers(folder, orphans, sum(map(len, unneeded)) - len(orphans), partial(_remove, folder))


def _all_before(files: Sequence[StoredFile], before: datetime) -> bool:
    """Whether the youngest of the files is old enough: who wrote it may be about to write more."""
    return all(file.modified < before for file in files)


def _remove(folder: str, paths: Sequence[str]) -> None:
    with store_errors(folder):
        remove_files(folder, paths)


def _is_of(orphan: Orphan, runs: Sequence[str]) -> bool:
    """Whether one of the runs staged a file: it says so, or its folder is named for the run."""
    return orphan.run in runs or any(run in folder for folder in orphan.path.split("/")[:-1] for run in runs)
