"""Files that runs left behind, in real Delta and Parquet tables."""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.jobs.cleaning import Leftovers, find_leftovers
from lakebed.jobs.ledger import Ledger, plan_of_this_process, recorded
from lakebed.jobs.run_record import RunPlan, tables_of
from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Owner, Sink
from lakebed.platform.lake.tables import existing_sink, open_sink, open_table

SCHEMA = pa.schema([("id", pa.int64()), ("lb_model_digest", pa.string())])
OWNER = Owner.of({"source": "/a", "dimensions": 2})
NO_TIME = timedelta(0)


@pytest.fixture(params=["delta", "parquet"])
def kind(request: pytest.FixtureRequest) -> TableFormat:
    kind: TableFormat = request.param
    return kind


def sink_at(uri: str, kind: TableFormat) -> Sink:
    return open_sink(SinkConfig(uri=uri, format=kind), SCHEMA, OWNER)


def stage(sink: Sink, run: str, ids: Sequence[int]) -> list[Part]:
    rows = pa.table([pa.array(ids), pa.array(["m1"] * len(ids))], schema=SCHEMA)
    writer = sink.writer(run, "m1")
    return [writer(rows.select(writer.columns.names))]


def commit(sink: Sink, run: str, ids: Sequence[int], removed: Sequence[str] = ()) -> list[str]:
    parts = stage(sink, run, ids)
    sink.commit(sink.open(), Commit("m1", run, parts, removed, "0"))
    return [part.path for part in parts]


def plan(uri: str, kind: TableFormat, run: str) -> RunPlan:
    fields: dict[str, Any] = {
        "run": run, "job": {}, "model": "m", "digest": "m1", "source": "/a", "source_version": "0",
        "source_rows": 3, "rows": 3, "held": 0, "units": 1,
        "sink": SinkConfig(uri=uri, format=kind), "quarantine": SinkConfig(uri=f"{uri}-bad", format=kind),
    }  # fmt: skip
    return plan_of_this_process(**fields)


def leftovers(uri: str, kind: TableFormat, older_than: timedelta = NO_TIME) -> Leftovers:
    (found,) = find_leftovers([SinkConfig(uri=uri, format=kind)], older_than, datetime.now(UTC))
    return found


def ids_in(uri: str, version: int | None = None) -> list[int]:
    found: list[int] = read_all(open_table(TableConfig(uri=uri, version=version)))["id"].to_pylist()
    return sorted(found)


def test_what_was_never_committed_goes_and_what_any_version_holds_stays(
    place: Callable[[str], str], kind: TableFormat
) -> None:
    sink = sink_at(place("t"), kind)
    replaced = commit(sink, "r1", [1, 2])
    commit(sink, "r2", [1, 2, 3], removed=replaced)
    (left,) = stage(sink, "r3", [9])
    found = leftovers(place("t"), kind)
    assert ([orphan.path for orphan in found.orphans], found.size) == ([left.path], left.size)
    found.remove()
    assert leftovers(place("t"), kind).orphans == ()
    assert ids_in(place("t")) == [1, 2, 3]
    assert ids_in(place("t"), version={"delta": 0, "parquet": 1}[kind]) == [1, 2]


def test_files_that_are_too_new_are_spared(tmp_path: Path, kind: TableFormat) -> None:
    sink = sink_at(str(tmp_path), kind)
    commit(sink, "r1", [1])
    old, _ = stage(sink, "r2", [2]) + stage(sink, "r3", [3])
    long_ago = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    os.utime(tmp_path / old.path, (long_ago, long_ago))
    found = leftovers(str(tmp_path), kind, timedelta(hours=24))
    assert ([orphan.path for orphan in found.orphans], found.spared) == ([old.path], 1)


def test_files_of_a_run_at_work_are_spared_whatever_their_age(tmp_path: Path, kind: TableFormat) -> None:
    uri = str(tmp_path)
    sink = sink_at(uri, kind)
    commit(sink, "r1", [1])
    with recorded(uri, plan(uri, kind, "r2"), ()):
        stage(sink, "r2", [2])
        while not list(tmp_path.glob("_lakebed/ledger/r2/state.json")):
            threading.Event().wait(0.01)  # between two looks: the ledger has a thread of its own
        found = leftovers(uri, kind)
        assert (found.orphans, found.spared) == ((), 1)
    assert len(leftovers(uri, kind).orphans) == 1, "the run has ended"


def test_a_first_run_that_died_is_cleaned_up_by_its_ledger(tmp_path: Path, kind: TableFormat) -> None:
    uri = str(tmp_path / "t")
    with recorded(uri, plan(uri, kind, "r1"), ()):
        stage(sink_at(uri, kind), "r1", [1])
        (stranger,) = stage(sink_at(uri, kind), "experiment-7", [2])
    found = leftovers(uri, kind)
    assert len(found.orphans) == 1
    found.remove()
    assert list(tmp_path.rglob("part-*.parquet")) == [tmp_path / "t" / stranger.path]


def test_the_tables_of_a_job_are_those_of_its_latest_run(tmp_path: Path, kind: TableFormat) -> None:
    uri = str(tmp_path / "t")
    Ledger(uri, plan(uri, kind, "r1"), ())  # not begun: nothing is written
    commit(sink_at(uri, kind), "r1", [1])
    assert [table.uri for table in tables_of(SinkConfig(uri=uri))] == [uri, f"{uri}_quarantine"]
    with recorded(uri, plan(uri, kind, "r2"), ()):
        pass
    assert [(table.uri, table.format) for table in tables_of(SinkConfig(uri=uri))] == [
        (uri, kind),
        (f"{uri}-bad", kind),
    ]
    with pytest.raises(TableNotFoundError, match="there is no table of vectors"):
        tables_of(SinkConfig(uri=str(tmp_path / "nothing")))


def test_a_sink_is_opened_by_its_own_description(tmp_path: Path, kind: TableFormat) -> None:
    table = SinkConfig(uri=str(tmp_path), format=kind)
    assert existing_sink(table) is None
    commit(sink_at(table.uri, kind), "r1", [1])
    sink = existing_sink(table)
    assert sink is not None
    assert sink.open().exists
    commit(sink, "r2", [2])
    assert ids_in(table.uri) == [1, 2]


def test_a_table_that_no_job_made_is_not_cleaned(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    assert DeltaTable.is_deltatable(str(tmp_path / "t"))
    with pytest.raises(TableError, match="no embedding job made"):
        leftovers(str(tmp_path / "t"), "delta")
