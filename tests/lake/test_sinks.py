from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.errors import CommitError, TableError, TableNotFoundError
from lakebed.platform.lake import parquet
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Owner, Sink, SinkState
from lakebed.platform.lake.storage import delta_options
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


def stage(sink: Sink, run: str, ids: Sequence[int], slot: str = "m1") -> list[Part]:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.6, 0.8] * len(ids), pa.float32()), 2)
    rows = pa.table(
        [pa.array(ids), pa.array([slot] * len(ids)), pa.array(["0"] * len(ids)), vectors], schema=SCHEMA
    )
    writer = sink.writer(run, slot)
    return [writer(rows.select(writer.columns.names), ["embedding"])]


def commit(sink: Sink, run: str, ids: Sequence[int], slot: str = "m1", version: str | None = "0") -> SinkState:
    """Commit rows as the whole of a slot: what it held goes."""
    state = sink.open()
    return sink.commit(state, of(sink, state, run, ids, slot, version))


def of(
    sink: Sink, state: SinkState, run: str, ids: Sequence[int], slot: str = "m1", version: str | None = "0"
) -> Commit:
    gone = [part.path for part in sink.slot(state, slot).fragments]
    return Commit(slot, run, stage(sink, run, ids, slot), gone, version, {"lakebed.note": "x"})


def ids_in(uri: str, version: int | None = None) -> list[int]:
    table = read_all(open_table(TableConfig(uri=uri, version=version)))
    return sorted(table["id"].to_pylist())


def test_staged_parts_are_invisible_until_the_commit(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    state = sink.open()
    parts = stage(sink, "r1", [1, 2])
    assert not sink.open().exists
    assert sink.slot(state, "m1").rows == 0
    with pytest.raises(TableNotFoundError):
        open_table(TableConfig(uri=place("t"), format=kind))
    sink.commit(state, Commit("m1", "r1", parts))
    assert ids_in(place("t")) == [1, 2]


def test_a_commit_removes_the_parts_it_names_and_no_other_models(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    commit(sink, "r1", [1, 2])
    commit(sink, "r2", [10], slot="m2")
    commit(sink, "r3", [3], version="1")
    assert ids_in(place("t")) == [3, 10]
    state = sink.open()
    assert (state.is_complete("m1", "1"), state.is_complete("m1", "0"), state.is_complete("m2", "0")) == (
        True,
        False,
        True,
    )


def test_commits_of_one_run_build_upon_each_other_and_the_last_completes_the_slot(
    place: Place, kind: TableFormat
) -> None:
    sink = sink_at(place("t"), kind)
    state = sink.commit(sink.open(), Commit("m1", "r1", stage(sink, "r1", [1])))
    state = sink.commit(state, Commit("m1", "r1", stage(sink, "r1", [2])))
    assert (ids_in(place("t")), state.slots, state) == ([1, 2], {"m1": None}, sink.open())
    first = sink.slot(state, "m1").fragments[0].path
    (rest,) = {part.path for part in sink.slot(state, "m1").fragments} - {first}
    state = sink.commit(state, Commit("m1", "r1", stage(sink, "r1", [3]), [first], "7"))
    assert rest in {part.path for part in sink.slot(state, "m1").fragments}
    assert (len(ids_in(place("t"))), state.is_complete("m1", "7"), state) == (2, True, sink.open())
    state = sink.commit(state, Commit("m1", "r2", stage(sink, "r2", [4])))
    assert not state.is_complete("m1", "7")


def test_an_empty_commit_takes_a_models_rows_away(tmp_path: Path, kind: TableFormat) -> None:
    sink = sink_at(str(tmp_path / "t"), kind)
    commit(sink, "r1", [1, 2])
    state = sink.open()
    sink.commit(state, Commit("m1", "r2", [], [part.path for part in sink.slot(state, "m1").fragments], "1"))
    assert ids_in(str(tmp_path / "t")) == []


def test_earlier_versions_stay_readable(tmp_path: Path, kind: TableFormat) -> None:
    sink = sink_at(str(tmp_path / "t"), kind)
    first = commit(sink, "r1", [1, 2])
    commit(sink, "r2", [3], version="1")
    assert ids_in(str(tmp_path / "t"), version=int(first.version or "")) == [1, 2]


def test_of_two_runs_that_started_alike_one_commits_and_the_other_changes_nothing(
    place: Place, kind: TableFormat
) -> None:
    sink, other = sink_at(place("t"), kind), sink_at(place("t"), kind)
    commit(sink, "r0", [0])
    state, other_state = sink.open(), other.open()
    ours, theirs = of(sink, state, "r1", [1]), of(other, other_state, "r2", [2])
    sink.commit(state, ours)
    with pytest.raises(CommitError, match="another run of this job committed first"):
        other.commit(other_state, theirs)
    assert ids_in(place("t")) == [1]


def test_of_two_first_runs_one_makes_the_table(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    state = sink.open()
    sink.commit(state, Commit("m1", "r1", stage(sink, "r1", [1])))
    with pytest.raises(CommitError):
        sink.commit(state, Commit("m1", "r2", stage(sink, "r2", [2])))
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
    assert sink.orphans() == []
    assert ids_in(place("t")) == [1]


def test_orphans_are_what_no_version_holds_and_can_be_removed(place: Place, kind: TableFormat) -> None:
    sink = sink_at(place("t"), kind)
    commit(sink, "r1", [1])
    commit(sink, "r2", [2])
    (left,) = stage(sink, "r3", [3])
    assert [(orphan.path, orphan.size) for orphan in sink.orphans()] == [(left.path, left.size)]
    sink.remove([left.path])
    assert sink.orphans() == []
    assert ids_in(place("t")) == [2]


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_whose_answer_was_lost_counts_when_it_landed(
    tmp_path: Path, kind: TableFormat, landed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_at(str(tmp_path / "t"), kind)
    state = commit(sink, "r1", [1])
    lose_answers(monkeypatch, kind, landed)
    ours = of(sink, state, "r2", [2])
    if landed:
        assert sink.commit(state, ours) == sink.open()
    else:
        with pytest.raises(CommitError, match="the commit failed"):
            sink.commit(state, ours)
    monkeypatch.undo()
    assert ids_in(sink.uri) == ([2] if landed else [1])


def lose_answers(monkeypatch: pytest.MonkeyPatch, kind: TableFormat, landed: bool) -> None:
    """Have the store fail, after it has done what it was asked for or before."""
    target, name = (DeltaTable, "create_write_transaction") if kind == "delta" else (parquet, "create_file")
    real = getattr(target, name)

    def fails(*arguments: object, **options: object) -> None:
        if landed:
            real(*arguments, **options)
        raise OSError("the connection timed out")

    monkeypatch.setattr(target, name, fails)


def test_a_part_that_was_rewritten_by_someone_else_is_not_removed(tmp_path: Path) -> None:
    sink = sink_at(str(tmp_path / "t"), "delta")
    commit(sink, "r1", [1])
    state = sink.commit(sink.open(), Commit("m1", "r1", stage(sink, "r1", [2])))
    ours = of(sink, state, "r2", [3])
    DeltaTable(sink.uri).optimize.compact()
    with pytest.raises(CommitError, match="was rewritten while this run was at work"):
        sink.commit(state, ours)
    assert ids_in(sink.uri) == [1, 2]


def test_a_missing_bucket_is_an_error_before_any_work(s3: object) -> None:
    with pytest.raises(TableNotFoundError, match="there is no bucket 'not-there'"):
        sink_at("s3://not-there/t", "delta")


def test_plain_readers_of_a_parquet_sink_never_meet_half_a_result(tmp_path: Path) -> None:
    sink = sink_at(str(tmp_path / "t"), "parquet")
    stage(sink, "r1", [1, 2])
    assert pq.read_table(tmp_path / "t").num_rows == 0
    commit(sink, "r2", [3])
    (part,) = sink.slot(sink.open(), "m1").fragments
    assert pq.read_table(tmp_path / "t" / part.path)["id"].to_pylist() == [3]


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
