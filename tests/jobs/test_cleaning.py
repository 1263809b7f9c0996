"""Files that runs left behind, in real tables of every format."""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.jobs.plain_readers import SINKS

from lakebed.jobs.cleaning import Leftovers, find_leftovers
from lakebed.jobs.ledger import Ledger, plan_of_this_process, recorded
from lakebed.jobs.run_record import RunPlan, tables_of
from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Owner, Sink, SinkState
from lakebed.platform.lake.tables import existing_sink, open_sink, open_table

SCHEMA = pa.schema([("id", pa.int64()), ("lb_model_digest", pa.string())])
OWNER = Owner.of({"source": "/a", "dimensions": 2})
NO_TIME = timedelta(0)


@pytest.fixture(params=SINKS)
def kind(request: pytest.FixtureRequest) -> TableFormat:
    kind: TableFormat = request.param
    return kind


def table_at(folder: str, kind: TableFormat) -> SinkConfig:
    """A table in a folder; an Iceberg table lies below, in a catalog of the test's own."""
    if kind != "iceberg":
        return SinkConfig(uri=folder, format=kind)
    warehouse = folder if folder.startswith("s3://") else f"file://{folder}"
    database = f"sqlite:///{os.environ['LAKEBED_HOME']}-catalog.db"
    return SinkConfig(uri="iceberg:lake.t", catalog={"type": "sql", "uri": database, "warehouse": warehouse})


def sink_at(table: SinkConfig) -> Sink:
    return open_sink(table, SCHEMA, OWNER)


def stage(sink: Sink, run: str, ids: Sequence[int]) -> list[Part]:
    rows = pa.table([pa.array(ids), pa.array(["m1"] * len(ids))], schema=SCHEMA)
    writer = sink.writer(run, "m1")
    return [writer(rows.select(writer.columns.names))]


def commit(sink: Sink, run: str, ids: Sequence[int], removed: Sequence[str] = ()) -> SinkState:
    return sink.commit(sink.open(), Commit("m1", run, stage(sink, run, ids), removed, "0"))


def plan(table: SinkConfig, run: str) -> RunPlan:
    fields: dict[str, Any] = {
        "run": run, "job": {}, "model": "m", "digest": "m1", "source": "/a", "source_version": "0",
        "source_rows": 3, "rows": 3, "held": 0, "units": 1,
        "sink": table, "quarantine": table.model_copy(update={"uri": f"{table.uri}-bad"}),
    }  # fmt: skip
    return plan_of_this_process(**fields)


def leftovers(table: SinkConfig, older_than: timedelta = NO_TIME) -> Leftovers:
    (found,) = find_leftovers([table], older_than, datetime.now(UTC))
    return found


def ids_in(table: SinkConfig, version: str | None = None) -> list[int]:
    config = TableConfig(uri=table.uri, catalog=table.catalog, version=None if version is None else int(version))
    return sorted(read_all(open_table(config))["id"].to_pylist())


def test_what_was_never_committed_goes_and_what_any_version_holds_stays(
    place: Callable[[str], str], kind: TableFormat
) -> None:
    table = table_at(place("t"), kind)
    sink = sink_at(table)
    first = commit(sink, "r1", [1, 2])
    commit(sink, "r2", [1, 2, 3], removed=[part.path for part in sink.slot(first, "m1").fragments])
    (left,) = stage(sink, "r3", [9])
    found = leftovers(table)
    assert ([orphan.path for orphan in found.orphans], found.size) == ([left.path], left.size)
    found.remove()
    assert leftovers(table).orphans == ()
    assert ids_in(table) == [1, 2, 3]
    assert ids_in(table, first.version) == [1, 2]


def test_files_that_are_too_new_are_spared(tmp_path: Path, kind: TableFormat) -> None:
    table = table_at(str(tmp_path), kind)
    sink = sink_at(table)
    commit(sink, "r1", [1])
    old, _ = stage(sink, "r2", [2]) + stage(sink, "r3", [3])
    long_ago = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    os.utime(tmp_path / old.path, (long_ago, long_ago))
    found = leftovers(table, timedelta(hours=24))
    assert ([orphan.path for orphan in found.orphans], found.spared) == ([old.path], 1)


def test_files_of_a_run_at_work_are_spared_whatever_their_age(tmp_path: Path, kind: TableFormat) -> None:
    table = table_at(str(tmp_path), kind)
    sink = sink_at(table)
    commit(sink, "r1", [1])
    with recorded(sink.folder, plan(table, "r2"), ()):
        stage(sink, "r2", [2])
        while not list(Path(sink.folder).glob("_lakebed/ledger/r2/state.json")):
            threading.Event().wait(0.01)  # between two looks: the ledger has a thread of its own
        found = leftovers(table)
        assert (found.orphans, found.spared) == ((), 1)
    assert len(leftovers(table).orphans) == 1, "the run has ended"


def test_a_first_run_that_died_is_cleaned_up_by_its_ledger(tmp_path: Path, kind: TableFormat) -> None:
    table = table_at(str(tmp_path / "t"), kind)
    sink = sink_at(table)
    with recorded(sink.folder, plan(table, "r1"), ()):
        stage(sink, "r1", [1])
        (stranger,) = stage(sink, "experiment-7", [2])
    found = leftovers(table)
    assert len(found.orphans) == 1
    found.remove()
    staged = [*tmp_path.rglob("part-*.parquet"), *tmp_path.rglob("*.lance")]
    assert staged == [Path(sink.folder) / stranger.path]


def test_the_tables_of_a_job_are_those_of_its_latest_run(tmp_path: Path, kind: TableFormat) -> None:
    table = table_at(str(tmp_path / "t"), kind)
    sink = sink_at(table)
    Ledger(sink.folder, plan(table, "r1"), ())  # not begun: nothing is written
    commit(sink, "r1", [1])
    known = SinkConfig(uri=table.uri, catalog=table.catalog)
    assert [found.uri for found in tables_of(known)] == [table.uri, f"{table.uri}_quarantine"]
    with recorded(sink.folder, plan(table, "r2"), ()):
        pass
    assert tables_of(known) == (table, table.model_copy(update={"uri": f"{table.uri}-bad"}))
    with pytest.raises(TableNotFoundError, match="there is no table of vectors"):
        tables_of(known.model_copy(update={"uri": f"{table.uri}-nothing"}))


def test_a_sink_is_opened_by_its_own_description(tmp_path: Path, kind: TableFormat) -> None:
    table = table_at(str(tmp_path), kind)
    assert existing_sink(table) is None
    commit(sink_at(table), "r1", [1])
    sink = existing_sink(table)
    assert sink is not None
    assert sink.open().exists
    commit(sink, "r2", [2])
    assert ids_in(table) == [1, 2]


def test_a_table_that_no_job_made_is_not_cleaned(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    assert DeltaTable.is_deltatable(str(tmp_path / "t"))
    with pytest.raises(TableError, match="no embedding job made"):
        leftovers(table_at(str(tmp_path / "t"), "delta"))
