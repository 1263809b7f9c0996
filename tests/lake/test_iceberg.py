"""Iceberg as source and as sink, read back by pyiceberg's own scan, on local files and on S3."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestWriterV2
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DateType, LongType, NestedField

from lakebed.platform.config.storage import SinkConfig, TableConfig
from lakebed.platform.errors import CommitError, ConfigError, LakebedError, TableError, TableNotFoundError
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.iceberg_catalog import open_catalog, place_of
from lakebed.platform.lake.iceberg_sink import IcebergSink
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Owner, Sink, SinkState, mark_of
from lakebed.platform.lake.storage import filesystem
from lakebed.platform.lake.tables import open_sink, open_table

URI = "iceberg:lake.t"
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("tags", pa.list_(pa.string())),
        ("lb_model_digest", pa.string()),
        ("embedding", pa.list_(pa.float32(), 2)),
    ]
)
OWNER = Owner("owner-1", {"source": "/a", "dimensions": 2})
ROWS = pa.table({"id": [1, 2, 3], "note": ["a", "b", None]})


@pytest.fixture
def catalog() -> Catalog:
    """Return the default catalog, with a namespace."""
    catalog = open_catalog(None)
    catalog.create_namespace("lake")
    return catalog


def opened(version: int | None = None) -> pa.Table:
    return read_all(open_table(TableConfig(uri=URI, version=version)))


def scanned(version: int | None = None, catalog: Any = None) -> pa.Table:
    """Read with pyiceberg alone, local tables as docs/jobs.md says."""
    database = f"sqlite:///{os.environ['LAKEBED_HOME']}/iceberg.db"
    found = open_catalog(catalog) if catalog else load_catalog("lakebed", type="sql", uri=database)
    return found.load_table("lake.t").scan(snapshot_id=version).to_arrow()


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def sink_at(owner: Owner = OWNER, schema: pa.Schema = SCHEMA, catalog: Any = None) -> IcebergSink:
    sink = open_sink(SinkConfig(uri=URI, catalog=catalog), schema, owner)
    assert isinstance(sink, IcebergSink)
    return sink


def made_rows(ids: Sequence[int], slot: str) -> pa.Table:
    vectors = pa.array([[float(key), 0.8] for key in ids], pa.list_(pa.float32(), 2))
    tags = [["x"] if key % 2 else None for key in ids]
    return pa.table(
        [pa.array(ids), pa.array(tags, pa.list_(pa.string())), [slot] * len(ids), vectors], schema=SCHEMA
    )


def stage(sink: Sink, run: str, ids: Sequence[int], slot: str = "m1") -> list[Part]:
    return [sink.writer(run, slot)(made_rows(ids, slot), ["embedding"])]


def commit(sink: Sink, run: str, ids: Sequence[int], slot: str = "m1", **more: Any) -> SinkState:
    return sink.commit(sink.open(), Commit(slot, run, stage(sink, run, ids, slot), **more))


# Source


def test_a_table_is_read_as_pyiceberg_reads_it(catalog: Catalog) -> None:
    rows = ROWS.append_column("site", pa.array(["x y", "é/2%20", "z"]))
    table = catalog.create_table("lake.t", rows.schema)
    with table.update_spec() as update:
        update.add_identity("site")
    table.append(rows)
    assert rows_of(opened()) == rows_of(rows) == rows_of(scanned())
    assert opened().schema.field("site").type == pa.string()


def test_a_snapshot_stays_pinned_while_the_table_grows(catalog: Catalog) -> None:
    table = catalog.create_table("lake.t", ROWS.schema)
    table.append(ROWS)
    first = open_table(TableConfig(uri=URI))
    table.append(ROWS)
    assert (first.rows, len(opened()), len(opened(int(first.version)))) == (3, 6, 3)
    with pytest.raises(TableNotFoundError, match=r"no snapshot 7 \(the newest is"):
        opened(7)


def test_a_table_without_a_snapshot_is_empty(catalog: Catalog) -> None:
    catalog.create_table("lake.t", ROWS.schema)
    assert (opened().num_rows, opened().schema.names) == (0, ["id", "note"])


def test_columns_are_found_by_their_ids_not_by_their_names(catalog: Catalog) -> None:
    table = catalog.create_table("lake.t", ROWS.append_column("old", pa.array(["x", "y", "z"])).schema)
    table.append(ROWS.append_column("old", pa.array(["x", "y", "z"])))
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.rename_column("note", "text")
        update.delete_column("old")
    with table.update_schema() as update:
        update.add_column("old", LongType())  # another column of a name that files still have
        update.add_column("note", LongType())
    table.append(pa.table({"id": [4], "text": ["d"], "old": [5], "note": [6]}))
    assert rows_of(opened()) == rows_of(scanned())
    assert [row["text"] for row in rows_of(opened())] == ["a", "b", None, "d"]
    assert [row["old"] for row in rows_of(opened())] == [None, None, None, 5]


def test_a_pinned_snapshot_has_the_columns_of_its_time(catalog: Catalog) -> None:
    table = catalog.create_table("lake.t", ROWS.schema)
    table.append(ROWS)
    pinned = int(open_table(TableConfig(uri=URI)).version)
    with table.update_schema() as update:
        update.rename_column("note", "text")
    assert (opened().schema.names, opened(pinned).schema.names) == (["id", "text"], ["id", "note"])
    assert opened(pinned).equals(ROWS)


def test_a_rename_inside_a_column_is_refused(catalog: Catalog) -> None:
    rows = pa.table({"id": [1], "place": [{"site": "x"}]})
    table = catalog.create_table("lake.t", rows.schema)
    table.append(rows)
    with table.update_schema() as update:
        update.rename_column("place.site", "name")
    with pytest.raises(TableError, match="column 'place' has a field 'name' inside that was renamed"):
        opened()


def test_files_without_ids_are_read_by_the_tables_name_mapping(catalog: Catalog, tmp_path: Path) -> None:
    table = catalog.create_table("lake.t", ROWS.schema)
    pq.write_table(ROWS, tmp_path / "of another tool.parquet")
    table.add_files([f"file://{tmp_path}/of another tool.parquet"])
    with table.update_schema() as update:
        update.rename_column("note", "text")
    assert rows_of(opened()) == rows_of(scanned()) == rows_of(ROWS.rename_columns(["id", "text"]))


def test_a_partition_that_the_files_do_not_hold_is_read_from_the_manifest(
    catalog: Catalog, tmp_path: Path
) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "day", DateType()))
    table = catalog.create_table(
        "lake.t", schema, partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day"))
    )
    numbered = pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])
    pq.write_table(pa.table({"id": [1]}, schema=numbered), tmp_path / "a.parquet")
    file = of_file(tmp_path / "a.parquet", DataFileContent.DATA, Record(19_000), 1)
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    assert opened().to_pylist() == [{"id": 1, "day": date(2022, 1, 8)}]


def test_row_level_deletes_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    table = catalog.create_table("lake.t", ROWS.schema)
    table.append(ROWS)
    delete_first_row(table, tmp_path / "deletes.parquet")
    assert scanned()["id"].to_pylist() == [2, 3]
    with pytest.raises(TableError, match=r"has row-level deletes, .* \(rewrite its data files"):
        opened()


def of_file(path: Path, content: DataFileContent, partition: Record, rows: int) -> DataFile:
    file = DataFile.from_args(
        content=content,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=rows,
        file_size_in_bytes=path.stat().st_size,
    )
    file.spec_id = 0
    return file


class _DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES


class _AppendDeletes(_FastAppendFiles):
    def new_manifest_writer(self, spec: PartitionSpec) -> ManifestWriterV2:
        return _DeletesWriter(spec, self.schema(), self.new_manifest_output(), self.snapshot_id, "deflate")


def delete_first_row(table: Table, path: Path) -> None:
    """Write what an engine does that deletes on read; pyiceberg itself only rewrites files."""
    (task,) = table.scan().plan_files()
    fields = [
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
    ]
    pq.write_table(pa.table([[task.file.file_path], [0]], schema=pa.schema(fields)), path)
    with table.transaction() as transaction:
        update = _AppendDeletes(Operation.DELETE, transaction, table.io)
        update.append_data_file(of_file(path, DataFileContent.POSITION_DELETES, Record(), 1))
        update.commit()


def test_a_missing_table_or_namespace_is_named(catalog: Catalog) -> None:
    for uri in ("iceberg:lake.nothing", "iceberg:nowhere.t"):
        with pytest.raises(TableNotFoundError, match=f"{uri}: the catalog has no such table"):
            open_table(TableConfig(uri=uri))


# Sink


def test_the_first_commit_makes_the_table_and_its_rows_at_once() -> None:
    sink = sink_at()
    state = sink.open()
    parts = stage(sink, "r1", [1, 2])
    assert (state.exists, sink.open().exists) == (False, False)
    with pytest.raises(TableNotFoundError):
        opened()
    sink.commit(state, Commit("m1", "r1", parts))
    table = open_catalog(None).load_table("lake.t")
    assert (len(table.metadata.metadata_log), len(table.snapshots())) == (0, 1)
    assert rows_of(scanned()) == rows_of(made_rows([1, 2], "m1")) == rows_of(opened())


def test_commits_add_to_a_slot_and_replace_parts_of_it_in_one_snapshot() -> None:
    sink = sink_at()
    commit(sink, "r1", [1])
    commit(sink, "r1", [2])
    state = commit(sink, "r2", [10], "m2")
    old = [part.path for part in sink.slot(state, "m1").fragments][:1]
    kept = read_all(sink.slot(state, "m1"))["id"].to_pylist()[1:]
    state = sink.commit(state, Commit("m1", "r3", stage(sink, "r3", [3, 4]), removed=old))
    assert [row["id"] for row in rows_of(scanned())] == sorted([*kept, 3, 4, 10])
    assert rows_of(read_all(sink.slot(state, "m2"))) == rows_of(made_rows([10], "m2"))
    assert len(open_catalog(None).load_table("lake.t").snapshots()) == 4


def test_a_slot_is_complete_for_the_version_its_last_commit_says() -> None:
    sink = sink_at()
    commit(sink, "r1", [1], complete_for="7")
    state = commit(sink, "r2", [2], "m2")
    assert state == sink_at().open()
    assert state.slots == {"m1": mark_of("7"), "m2": None}
    assert state.is_complete("m1", "7")


def test_a_commit_without_parts_marks_a_slot_and_fences() -> None:
    sink = sink_at()
    state = commit(sink, "r1", [1])
    marked = sink.commit(state, Commit("m1", "r1", [], complete_for="7"))
    assert sink.open() == marked
    assert marked.is_complete("m1", "7")
    with pytest.raises(CommitError, match="another run of this job committed first"):
        sink.commit(state, Commit("m1", "r2", []))


def test_removing_all_leaves_an_empty_table() -> None:
    sink = sink_at()
    state = commit(sink, "r1", [1, 2])
    paths = [part.path for part in sink.slot(state, "m1").fragments]
    state = sink.commit(state, Commit("m1", "r2", [], removed=paths))
    assert (scanned().num_rows, opened().num_rows, sink.slot(state, "m1").rows) == (0, 0, 0)


def test_removing_what_is_not_there_changes_nothing() -> None:
    sink = sink_at()
    commit(sink, "r1", [1])
    state = commit(sink, "r2", [10], "m2")
    other = sink.slot(state, "m2").fragments[0].path
    for path in ("/nowhere/part.parquet", other):
        with pytest.raises(CommitError, match="was rewritten while this run was at work"):
            sink.commit(state, Commit("m1", "r3", stage(sink, "r3", [3]), removed=[path]))
    assert sink.open() == state


def test_earlier_snapshots_stay_readable() -> None:
    sink = sink_at()
    first = commit(sink, "r1", [1])
    commit(sink, "r2", [2])
    assert first.version is not None
    assert opened(int(first.version))["id"].to_pylist() == [1]
    assert [row["id"] for row in rows_of(opened())] == [1, 2]


def test_of_two_runs_that_started_alike_one_commits_and_the_other_changes_nothing() -> None:
    sink, other = sink_at(), sink_at()
    for ids in ([1], [2]):  # the first round makes the table
        state, other_state = sink.open(), other.open()
        landed = sink.commit(state, Commit("m1", "r1", stage(sink, "r1", ids)))
        with pytest.raises(CommitError, match="another run of this job committed first"):
            other.commit(other_state, Commit("m1", "r2", stage(other, "r2", [99])))
        assert sink.open() == landed
    assert [row["id"] for row in rows_of(scanned())] == [1, 2]


@pytest.mark.parametrize("rounds", [0, 1], ids=["makes the table", "adds to it"])
def test_a_run_that_is_overtaken_at_the_catalog_gives_up(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, other = sink_at(), sink_at()
    for _ in range(rounds):
        commit(sink, "r0", [0])
    state, parts = sink.open(), stage(sink, "r1", [1])
    original = sink._catalog.commit_table
    landed: list[SinkState] = []

    def overtaken(*arguments: Any) -> Any:
        if not landed:
            landed.append(commit(other, "r2", [2]))
        return original(*arguments)

    monkeypatch.setattr(sink._catalog, "commit_table", overtaken)
    with pytest.raises(CommitError, match="another run of this job committed first"):
        sink.commit(state, Commit("m1", "r1", parts))
    assert sink_at().open() == landed[0]
    assert [row["id"] for row in rows_of(scanned())] == [*([0] * rounds), 2]


@pytest.mark.parametrize("rounds", [0, 1], ids=["makes the table", "adds to it"])
def test_a_commit_whose_answer_was_lost_is_a_commit(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sink_at()
    for _ in range(rounds):
        commit(sink, "r0", [0])
    state, parts = sink.open(), stage(sink, "r1", [1])
    original = sink._catalog.commit_table

    def answer_lost(*arguments: Any) -> None:
        original(*arguments)
        raise ConnectionResetError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(sink._catalog, "commit_table", answer_lost)
        landed = sink.commit(state, Commit("m1", "r1", parts))
    assert landed.sequence == rounds + 1
    later = sink.commit(landed, Commit("m1", "r1", stage(sink, "r1", [2])))
    assert sink.open() == later
    assert [row["id"] for row in rows_of(scanned())] == [*([0] * rounds), 1, 2]


def test_a_commit_that_never_arrived_is_an_error_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sink_at()
    state = commit(sink, "r0", [0])
    parts = stage(sink, "r1", [1])

    def unreachable(*arguments: Any) -> None:
        raise ConnectionResetError("the catalog went away")

    with monkeypatch.context() as patch:
        patch.setattr(sink._catalog, "commit_table", unreachable)
        with pytest.raises(CommitError, match=r"failed: .*the catalog went away"):
            sink.commit(state, Commit("m1", "r1", parts))
    assert sink.open() == state
    sink.commit(state, Commit("m1", "r1", parts))
    assert [row["id"] for row in rows_of(scanned())] == [0, 1]


def append_by_hand(table: Table) -> None:
    table.append(made_rows([99], "m1").cast(table.schema().as_arrow()))


def roll_back(table: Table) -> None:
    table.manage_snapshots().rollback_to_snapshot(table.snapshots()[0].snapshot_id).commit()


def delete_by_hand(table: Table) -> None:
    table.delete("id = 1")


@pytest.mark.parametrize("change", [append_by_hand, delete_by_hand, roll_back])
def test_a_table_that_others_changed_counts_as_incomplete(change: Callable[[Table], None]) -> None:
    sink = sink_at()
    commit(sink, "r1", [1, 2], complete_for="7")
    state = commit(sink, "r2", [10], "m2", complete_for="7")
    change(open_catalog(None).load_table("lake.t"))
    with pytest.raises(CommitError, match="something else changed the table"):
        sink.commit(state, Commit("m1", "r3", []))
    found = sink.open()
    assert (found.sequence, found.slots) == (2, {"m1": None, "m2": None})
    after = sink.commit(found, Commit("m1", "r3", [], complete_for="8"))
    assert sink.open() == after
    assert after.slots == {"m1": mark_of("8"), "m2": None}


def test_a_table_of_another_job_or_of_no_job_is_refused(catalog: Catalog) -> None:
    commit(sink_at(), "r1", [1])
    with pytest.raises(TableError, match="its dimensions is 2, this job's 3"):
        sink_at(Owner("owner-2", {"source": "/a", "dimensions": 3})).open()
    catalog.drop_table("lake.t")
    catalog.create_table("lake.t", SCHEMA)
    with pytest.raises(TableError, match="no embedding job made"):
        sink_at().open()


def test_a_table_with_other_columns_or_partitions_is_refused(catalog: Catalog) -> None:
    commit(sink_at(), "r1", [1])
    with pytest.raises(TableError, match="column 'site' is missing in the table"):
        sink_at(schema=SCHEMA.append(pa.field("site", pa.string()))).open()
    with catalog.load_table("lake.t").update_spec() as update:
        update.add_identity("id")
    with pytest.raises(TableError, match="partition it by lb_model_digest alone"):
        sink_at().open()


def test_unreferenced_files_of_runs_are_orphans_until_they_are_removed() -> None:
    sink = sink_at()
    left = stage(sink, "r0", [0])
    assert [orphan.path for orphan in sink.orphans()] == [left[0].path]
    state = commit(sink, "r1", [1])
    replaced = sink.slot(state, "m1").fragments[0].path
    sink.commit(state, Commit("m1", "r1", stage(sink, "r1", [2]), removed=[replaced]))
    (orphan,) = sink.orphans()
    assert (orphan.path, orphan.size) == (left[0].path, left[0].size)
    sink.remove([orphan.path])
    stage(sink, "r3", [3])
    sink.discard("r3")
    assert sink.orphans() == []
    assert [row["id"] for row in rows_of(scanned())] == [2]


def test_files_carry_field_ids_and_manifests_statistics() -> None:
    sink = sink_at()
    state = commit(sink, "r1", [4, 7], metadata={"lakebed.note": "x"})
    schema = pq.read_schema(sink.slot(state, "m1").fragments[0].path)
    ids = [field.metadata[b"PARQUET:field_id"] for field in (*schema, schema.field("embedding").type.value_field)]
    assert ids == [b"1", b"2", b"3", b"4", b"6"]
    table = open_catalog(None).load_table("lake.t")
    (file,) = table.inspect.files().to_pylist()
    bounds = file["readable_metrics"]["id"]
    assert (bounds["lower_bound"], bounds["upper_bound"], bounds["null_value_count"]) == (4, 7, 0)
    assert table.inspect.partitions().to_pylist()[0]["partition"] == {"lb_model_digest": "m1"}
    summary = table.snapshots()[0].summary
    assert summary is not None
    assert (summary["lakebed.run"], summary["lakebed.note"]) == ("r1", "x")
    assert table.scan(row_filter="id > 7").plan_files() == []


def test_a_table_whose_columns_were_changed_and_changed_back_is_written_right(catalog: Catalog) -> None:
    sink = sink_at()
    commit(sink, "r1", [1])
    for old, new in (("tags", "labels"), ("labels", "tags")):
        with catalog.load_table("lake.t").update_schema() as update:
            update.rename_column(old, new)
    with catalog.load_table("lake.t").update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("id")
    with catalog.load_table("lake.t").update_schema() as update:
        update.add_column("id", LongType())
    commit(sink, "r2", [2])
    assert sorted(scanned()["id"].to_pylist(), key=str) == [2, None]
    assert sorted(opened()["id"].to_pylist(), key=str) == [2, None]


def test_types_are_widened_where_iceberg_has_no_such_width() -> None:
    small = [pa.uint8(), pa.uint32(), pa.uint64(), pa.float16(), pa.timestamp("ms", "Europe/Berlin")]
    columns = [pa.field(f"c{place}", kind) for place, kind in enumerate([*small, pa.list_(pa.uint16())])]
    sink = sink_at(schema=pa.schema([*columns, *SCHEMA]))
    wide = [pa.int32(), pa.int64(), pa.decimal128(20, 0), pa.float32(), pa.timestamp("us", "UTC")]
    assert sink.schema.types[:5] == wide
    assert sink.schema.field("c5").type.value_type == pa.int32()
    assert sink.schema.field("embedding").type == pa.list_(pa.float32(), 2)
    values = [[3], [2**32 - 1], [2**64 - 1], pa.array([0.5], pa.float16()), [0], [[9]]]
    rows = pa.table(values, schema=pa.schema(columns))
    for name in SCHEMA.names:
        rows = rows.append_column(SCHEMA.field(name), made_rows([1], "m1")[name])
    sink.commit(sink.open(), Commit("m1", "r1", [sink.writer("r1", "m1")(rows)]))
    (row,) = scanned().to_pylist()
    assert (row["c0"], row["c1"], int(row["c2"]), row["c3"], row["c5"]) == (3, 2**32 - 1, 2**64 - 1, 0.5, [9])


def test_a_type_that_iceberg_cannot_hold_is_one_clear_line() -> None:
    with pytest.raises(TableError, match="Iceberg cannot hold column 'took' of duration") as error:
        sink_at(schema=SCHEMA.append(pa.field("took", pa.duration("s"))))
    assert "\n" not in str(error.value)


# Stores, catalogs, configuration


def test_a_table_on_s3_is_written_and_read(s3: Any, tmp_path: Path) -> None:
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": s3.uri("warehouse")}
    sink = sink_at(catalog=catalog)
    state = commit(sink, "r1", [1, 2], complete_for="7")
    stage(sink, "r2", [3])
    assert [orphan.path.startswith(s3.uri("warehouse/lake/t/data/run-r2/")) for orphan in sink.orphans()] == [True]
    sink.discard("r2")
    old = [part.path for part in sink.slot(state, "m1").fragments]
    sink.commit(state, Commit("m1", "r3", stage(sink, "r3", [2, 3]), removed=old))
    snapshot = open_table(TableConfig(uri=URI, catalog=catalog))
    assert rows_of(read_all(snapshot)) == rows_of(scanned(catalog=catalog)) == rows_of(made_rows([2, 3], "m1"))
    assert all(part.path.startswith("s3://") for part in snapshot.fragments)


def test_metadata_is_reached_as_patiently_as_data(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_S3_TIMEOUT", "3")
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": s3.uri("warehouse")}
    commit(sink_at(catalog=catalog), "r1", [1])
    files = open_catalog(catalog).load_table("lake.t").io
    assert isinstance(files, FsspecFileIO)
    assert files.get_fs("s3") is filesystem("s3://")
    assert filesystem("s3://").config_kwargs["read_timeout"] == 3


def test_a_missing_bucket_is_an_error_before_any_work(s3: Any, tmp_path: Path) -> None:
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": "s3://not-there/w"}
    with pytest.raises(TableNotFoundError, match="there is no bucket 'not-there'"):
        sink_at(catalog=catalog).open()


def test_a_catalog_at_another_endpoint_is_refused(tmp_path: Path) -> None:
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/c.db", "s3.endpoint": "http://127.0.0.1:9"}
    with pytest.raises(ConfigError, match=r"reached at .* \(set AWS_ENDPOINT_URL=http://127.0.0.1:9\)"):
        open_table(TableConfig(uri=URI, catalog=catalog))


def test_a_catalog_that_does_not_open_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="catalog 'nobody-knows': URI missing"):
        open_table(TableConfig(uri=URI, catalog="nobody-knows"))
    closed = {"type": "sql", "uri": f"sqlite:///{tmp_path}/no/such/folder/c.db"}
    with pytest.raises(LakebedError, match=r"iceberg:lake\.t: .*unable to open database file"):
        open_table(TableConfig(uri=URI, catalog=closed))


def test_a_catalog_is_found_by_the_name_pyiceberg_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "pyiceberg.catalog._ENV_CONFIG.config",
        {"catalog": {"prod": {"uri": f"sqlite:///{tmp_path}/p.db", "warehouse": f"file://{tmp_path}/w"}}},
    )
    commit(sink_at(catalog="prod"), "r1", [1])
    same = {"name": "prod", "type": "sql", "uri": f"sqlite:///{tmp_path}/p.db"}
    assert read_all(open_table(TableConfig(uri=URI, catalog=same)))["id"].to_pylist() == [1]
    assert isinstance(open_catalog("prod"), SqlCatalog)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("s3a://bucket/a b%20c", "s3://bucket/a b%20c"),
        ("file:///tmp/a%20b", "/tmp/a%20b"),
        ("file:/tmp/a", "/tmp/a"),
        ("/tmp/a", "/tmp/a"),
    ],
)
def test_locations_are_taken_as_they_stand(location: str, place: str) -> None:
    assert place_of(URI, location) == place


def test_other_stores_are_refused() -> None:
    with pytest.raises(TableError, match="has files at gs://bucket/a"):
        place_of(URI, "gs://bucket/a")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"uri": "iceberg:t"}, "write iceberg:NAMESPACE.TABLE"),
        ({"uri": "iceberg:a./t"}, "write iceberg:NAMESPACE.TABLE"),
        ({"uri": URI, "format": "delta"}, "go together"),
        ({"uri": "/a", "format": "iceberg"}, "go together"),
        ({"uri": "/a", "catalog": "prod"}, "`catalog` is for Iceberg tables"),
        ({"uri": URI, "catalog": {"s3.secret-access-key": "hush"}}, "__LAKEBED__S3__SECRET_ACCESS_KEY"),
        ({"uri": URI, "catalog": {"name": "p", "uri": "postgresql://u:hush@db/x"}}, "PYICEBERG_CATALOG__P__URI"),
    ],
)
def test_a_wrong_reference_is_named_and_no_secret_repeated(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        SinkConfig.parse(fields, where="sink")
    assert fault in str(error.value)
    assert "hush" not in str(error.value)


def test_a_uri_of_a_catalog_needs_no_format() -> None:
    assert (SinkConfig(uri=URI).format, TableConfig(uri=URI).format) == ("iceberg", "iceberg")
    assert SinkConfig.model_validate_json(SinkConfig(uri=URI).model_dump_json()) == SinkConfig(uri=URI)


def test_without_pyiceberg_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakebed.platform.lake.tables.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'pyiceberg \(pip install "lakebed\[iceberg\]"\)'):
        open_table(TableConfig(uri=URI))


def test_other_formats_do_not_import_pyiceberg() -> None:
    check = "import sys, lakebed.platform.lake.tables; sys.exit('pyiceberg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
