from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.errors import CommitError, TableError, TableNotFoundError
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.parts import Part, write_part
from lakebed.platform.lake.sink import Commit, Owner, Sink
from lakebed.platform.lake.storage import delta_options, join, names_in
from lakebed.platform.lake.tables import open_sink, open_table

Place = Callable[[str], str]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("lb_model_digest", pa.string()),
        ("lb_source_version", pa.string()),
        ("embedding", pa.list_(pa.float32(), 2)),
    ]
)
OWNER = Owner("owner-1", {"source": "/a", "dimensions": 2})


@pytest.fixture(params=["delta", "parquet"])
def kind(request: pytest.FixtureRequest) -> TableFormat:
    kind: TableFormat = request.param
    return kind


def sink_at(uri: str, kind: TableFormat, owner: Owner = OWNER, schema: pa.Schema = SCHEMA) -> Sink:
    return open_sink(SinkConfig(uri=uri, format=kind), schema, owner)


def stage(sink: Sink, run: str, ids: Sequence[int], slot: str = "m1", version: str = "0") -> list[Part]:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.6, 0.8] * len(ids), pa.float32()), 2)
    rows = pa.table(
        [pa.array(ids), pa.array([slot] * len(ids)), pa.array([version] * len(ids)), vectors], schema=SCHEMA
    )
    return [write_part(sink.uri, sink.folder(run), rows.select(sink.stored_columns.names), ["embedding"])]


def commit(sink: Sink, run: str, ids: Sequence[int], slot: str = "m1", version: str = "0") -> str:
    parts = stage(sink, run, ids, slot, version)
    return sink.commit(sink.open(), Commit(parts, slot, run, version, {"lakebed.note": "x"}))


def ids_in(uri: str, version: int | None = None) -> list[int]:
    table = read_all(open_table(TableConfig(uri=uri, version=version)))
    return sorted(table["id"].to_pylist())


def test_staged_parts_are_invisible_until_the_commit(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    state = sink.open()
    parts = stage(sink, "r1", [1, 2])
    assert not sink.open().exists
    with pytest.raises(TableNotFoundError):
        open_table(TableConfig(uri=place("t"), format=kind))
    sink.commit(state, Commit(parts, "m1", "r1", "0", {}))
    assert ids_in(place("t")) == [1, 2]


def test_a_later_commit_of_a_model_replaces_its_rows_and_no_other_models(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    commit(sink, "r1", [1, 2])
    commit(sink, "r2", [10], slot="m2")
    commit(sink, "r3", [3], version="1")
    assert ids_in(place("t")) == [3, 10]
    assert sink.open().slots == {"m1": "1", "m2": "0"}


def test_an_empty_commit_takes_a_models_rows_away(tmp_path: Path, kind: TableFormat) -> None:
    sink = sink_at(str(tmp_path / "t"), kind)
    commit(sink, "r1", [1, 2])
    sink.commit(sink.open(), Commit([], "m1", "r2", "1", {}))
    assert ids_in(str(tmp_path / "t")) == []


def test_earlier_versions_stay_readable(tmp_path: Path, kind: TableFormat) -> None:
    sink = sink_at(str(tmp_path / "t"), kind)
    first = commit(sink, "r1", [1, 2])
    commit(sink, "r2", [3], version="1")
    assert ids_in(str(tmp_path / "t"), version=int(first)) == [1, 2]


def test_of_two_runs_that_started_alike_one_commits_and_the_other_changes_nothing(
    place: Place, kind: TableFormat
) -> None:
    sink, other = sink_at(place("t"), kind), sink_at(place("t"), kind)
    commit(sink, "r0", [0])
    state, other_state = sink.open(), other.open()
    parts, other_parts = stage(sink, "r1", [1]), stage(other, "r2", [2])
    sink.commit(state, Commit(parts, "m1", "r1", "1", {}))
    with pytest.raises(CommitError, match="another run of this job committed first"):
        other.commit(other_state, Commit(other_parts, "m1", "r2", "1", {}))
    assert ids_in(place("t")) == [1]


def test_of_two_first_runs_one_makes_the_table(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    state = sink.open()
    sink.commit(state, Commit(stage(sink, "r1", [1]), "m1", "r1", "0", {}))
    with pytest.raises(CommitError):
        sink.commit(state, Commit(stage(sink, "r2", [2]), "m1", "r2", "0", {}))
    assert ids_in(place("t")) == [1]


def test_a_table_of_another_job_is_refused_with_the_difference(tmp_path: Path, kind: TableFormat) -> None:
    commit(sink_at(str(tmp_path / "t"), kind), "r1", [1])
    other = Owner("owner-2", {"source": "/a", "dimensions": 3})
    with pytest.raises(TableError, match="its dimensions is 2, this job's 3"):
        sink_at(str(tmp_path / "t"), kind, other).open()


def test_a_table_with_other_columns_is_refused(tmp_path: Path, kind: TableFormat) -> None:
    commit(sink_at(str(tmp_path / "t"), kind), "r1", [1])
    wider = SCHEMA.append(pa.field("site", pa.string()))
    with pytest.raises(TableError, match="column 'site' is missing in the table"):
        sink_at(str(tmp_path / "t"), kind, schema=wider).open()


def test_a_table_that_no_job_made_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "d", pa.table({"id": [1]}))
    with pytest.raises(TableError, match="no embedding job made"):
        sink_at(str(tmp_path / "d"), "delta").open()
    (tmp_path / "p").mkdir()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "p/a.parquet")
    with pytest.raises(TableError, match=r"holds other files, such as a\.parquet"):
        sink_at(str(tmp_path / "p"), "parquet").open()


def test_a_table_of_the_other_format_is_refused(tmp_path: Path) -> None:
    commit(sink_at(str(tmp_path / "d"), "delta"), "r1", [1])
    commit(sink_at(str(tmp_path / "p"), "parquet"), "r1", [1])
    with pytest.raises(TableError, match="a delta table is there"):
        sink_at(str(tmp_path / "d"), "parquet")
    with pytest.raises(TableError, match="a parquet table is there"):
        sink_at(str(tmp_path / "p"), "delta")


def test_discarding_a_run_leaves_the_table_and_takes_the_files(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    commit(sink, "r1", [1])
    stage(sink, "r2", [2])
    sink.discard("r2")
    assert names_in(join(place("t"), sink.folder("r2"))) == []
    assert ids_in(place("t")) == [1]


def test_a_missing_bucket_is_an_error_before_any_work(s3: object) -> None:
    with pytest.raises(TableNotFoundError, match="there is no bucket 'not-there'"):
        sink_at("s3://not-there/t", "delta")


def test_plain_readers_of_a_parquet_sink_never_meet_half_a_result(tmp_path: Path) -> None:
    sink = sink_at(str(tmp_path / "t"), "parquet")
    stage(sink, "r1", [1, 2])
    assert pq.read_table(tmp_path / "t").num_rows == 0
    commit(sink, "r2", [3])
    assert pq.read_table(tmp_path / "t" / sink.folder("r2"))["id"].to_pylist() == [3]


def test_parquet_parts_keep_vectors_as_fixed_size_lists(tmp_path: Path) -> None:
    sink = sink_at(str(tmp_path / "t"), "parquet")
    commit(sink, "r1", [1])
    table = read_all(open_table(TableConfig(uri=sink.uri)))
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 2)


def test_a_delta_commit_carries_its_run_and_statistics(place: Place) -> None:
    sink = sink_at(place("t"), "delta")
    commit(sink, "r1", [4, 7])
    table = DeltaTable(place("t"), storage_options=delta_options(place("t")))
    entry = table.history(1)[0]
    assert (entry["lakebed.run"], entry["lakebed.note"]) == ("r1", "x")
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()[0]
    assert (actions["num_records"], actions["min.id"], actions["max.id"]) == (2, 4, 7)


def test_unsigned_numbers_are_widened_for_delta_not_wrapped(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.uint8()), ("lb_model_digest", pa.string())])
    sink = sink_at(str(tmp_path / "t"), "delta", schema=schema)
    assert sink.schema.field("id").type == pa.int16()


def test_a_type_that_delta_cannot_hold_is_one_clear_line(tmp_path: Path) -> None:
    schema = pa.schema([("at", pa.time64("us")), ("lb_model_digest", pa.string())])
    with pytest.raises(TableError, match="Delta cannot hold") as error:
        sink_at(str(tmp_path / "t"), "delta", schema=schema)
    assert "\n" not in str(error.value)
