import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import lance
import pyarrow as pa
import pytest
from lance import LanceDataset

from lakebed.platform.config.storage import SinkConfig, TableConfig
from lakebed.platform.errors import CommitError, ConfigError, TableError, TableNotFoundError, UnreachableError
from lakebed.platform.lake.fragments import Snapshot, read_all
from lakebed.platform.lake.lance import open_lance
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Owner, Sink, SinkState, mark_of
from lakebed.platform.lake.storage import lance_options
from lakebed.platform.lake.tables import open_sink, open_table

Place = Callable[[str], str]
ROWS = pa.table({"id": [1, 2, 3], "note": ["a", "b", None]})
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("lb_model_digest", pa.string()),
        ("embedding", pa.list_(pa.float32(), 2)),
    ]
)
OWNER = Owner("owner-1", {"source": "/a", "dimensions": 2})


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "t")


def sink_at(uri: str, owner: Owner = OWNER, schema: pa.Schema = SCHEMA) -> Sink:
    return open_sink(SinkConfig(uri=uri, format="lance"), schema, owner)


def stage(sink: Sink, ids: Iterable[int], run: str = "r", slot: str = "m1") -> Part:
    numbers = list(ids)
    vectors = [[float(number), 1.0] for number in numbers]
    rows = pa.table([numbers, [slot] * len(numbers), pa.array(vectors, SCHEMA.field(2).type)], schema=SCHEMA)
    return pickle.loads(pickle.dumps(sink.writer(run, slot)))(rows, ["embedding"])


def commit(sink: Sink, ids: Iterable[int], run: str = "r", slot: str = "m1", **more: Any) -> SinkState:
    return sink.commit(sink.open(), Commit(slot, run, [stage(sink, ids, run, slot)], **more))


def independent(uri: str, version: int | None = None) -> lance.LanceDataset:
    return lance.dataset(uri, version=version, storage_options=lance_options(uri))


def ids_in(uri: str, version: int | None = None) -> list[int]:
    return sorted(independent(uri, version).to_table()["id"].to_pylist())


def ids_of(snapshot: Snapshot) -> list[list[int]]:
    return [
        [number for batch in snapshot.read(fragment, ["id"], 2) for number in batch["id"].to_pylist()]
        for fragment in snapshot.fragments
    ]


def opened(uri: str, version: int | None = None) -> Snapshot:
    return open_table(TableConfig(uri=uri, version=version))


def test_a_lance_dataset_is_found_and_read_whole(place: Place) -> None:
    lance.write_dataset(ROWS, place("t"), storage_options=lance_options(place("t")))
    assert read_all(opened(place("t"))).equals(ROWS)


def test_a_version_stays_pinned_while_the_dataset_grows(folder: str) -> None:
    for _ in range(2):
        lance.write_dataset(ROWS, folder, mode="append")
    assert [opened(folder, version).rows for version in (1, 2, None)] == [3, 6, 6]


def test_a_missing_version_names_the_newest_and_a_cleaned_one_is_gone(folder: str) -> None:
    for _ in range(2):
        lance.write_dataset(ROWS, folder, mode="overwrite")
    with pytest.raises(TableNotFoundError, match=r"no version 7 \(the newest is 2\)"):
        opened(folder, 7)
    independent(folder).cleanup_old_versions(timedelta(0))
    with pytest.raises(TableNotFoundError, match="version 1 is gone"):
        opened(folder, 1)


def test_a_folder_without_a_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match="there is no Lance dataset"):
        open_table(TableConfig(uri=str(tmp_path), format="lance"))


def test_positions_count_the_rows_that_are_left(folder: str) -> None:
    lance.write_dataset(pa.table({"id": range(10)}), folder)
    independent(folder).delete("id in (0, 4)")
    snapshot = opened(folder)
    assert [(fragment.start, fragment.rows) for fragment in snapshot.fragments] == [(0, 8)]
    assert ids_of(snapshot) == [[1, 2, 3, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset.delete("id = 2"),
        lambda dataset: dataset.get_fragments()[0],
        lambda dataset: dataset.add_columns({"more": "id + 1"}),
        lambda dataset: dataset.update({"note": "'z'"}, where="id = 2"),
    ],
    ids=["delete", "nothing", "add a column", "update"],
)
def test_a_fragment_keeps_its_name_only_while_its_rows_do(
    folder: str, change: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    before = opened(lance.write_dataset(ROWS, folder).uri)
    change(independent(folder))
    after = opened(folder)
    same = before.fragments[0].file == after.fragments[0].file
    assert same == ("nothing" in request.node.callspec.id)
    assert read_all(before).equals(ROWS)


def test_large_fragments_are_cut_and_still_read_in_order(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lance.write_dataset(pa.table({"id": range(1000)}), folder)
    independent(folder).delete("id % 7 = 0")
    monkeypatch.setattr("lakebed.platform.lake.fragments.FRAGMENT_BYTES", 400)
    snapshot = opened(folder)
    starts = [fragment.start for fragment in snapshot.fragments]
    assert len(starts) > 2
    assert starts == [sum(f.rows for f in snapshot.fragments[:place]) for place in range(len(starts))]
    assert list(chain(*ids_of(snapshot))) == [number for number in range(1000) if number % 7]


def test_dictionary_columns_are_read_as_their_values(folder: str) -> None:
    lance.write_dataset(pa.table({"note": pa.array(["a", "b"]).dictionary_encode()}), folder)
    assert read_all(opened(folder)).equals(pa.table({"note": ["a", "b"]}))


def test_a_snapshot_travels_with_all_that_reading_needs(folder: str) -> None:
    lance.write_dataset(ROWS, folder)
    assert read_all(pickle.loads(pickle.dumps(opened(folder)))).equals(ROWS)


def test_other_formats_do_not_load_lance(tmp_path: Path) -> None:
    code = (
        "import sys; from lakebed.platform.lake.tables import open_sink, open_table\n"
        "from lakebed.platform.config.storage import SinkConfig; import pyarrow as pa\n"
        "from lakebed.platform.lake.sink import Owner\n"
        f"open_sink(SinkConfig(uri={str(tmp_path)!r}, format='delta'), pa.schema([]), Owner('a', {{}})).open()\n"
        "sys.exit('lance' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_pylance_the_error_names_the_extra(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lance.write_dataset(ROWS, folder)
    monkeypatch.setattr("lakebed.platform.lake.tables.find_spec", lambda _: None)
    for open_it in (lambda: opened(folder), lambda: sink_at(folder)):
        with pytest.raises(ConfigError, match=r"not installed \(pip install 'lakebed\[lance\]'\)"):
            open_it()


def test_what_is_staged_is_invisible_until_the_commit_and_then_read_key_by_key(place: Place) -> None:
    sink = sink_at(place("t"))
    state, part = sink.open(), stage(sink, [1, 2])
    assert sink.open() == state == SinkState(False, 0, None, {})
    after = sink.commit(state, Commit("m1", "r1", [part], complete_for="7"))
    rows = {row["id"]: row["embedding"] for row in independent(place("t")).to_table().to_pylist()}
    assert rows == {1: [1.0, 1.0], 2: [2.0, 1.0]}
    assert independent(place("t")).schema.field("embedding").type == pa.list_(pa.float32(), 2)
    assert sink.open() == after == SinkState(True, 1, "1", {"m1": mark_of("7")})


def test_parts_are_added_and_replaced_in_one_commit_and_other_slots_stay(place: Place) -> None:
    sink = sink_at(place("t"))
    commit(sink, [1, 2])
    commit(sink, [3])
    state = commit(sink, [1, 2, 3], slot="m2", complete_for="0")
    [old] = [f.path for f in sink.slot(state, "m1").fragments if f.rows == 2]
    after = sink.commit(state, Commit("m1", "r4", [stage(sink, [2, 4])], [old], complete_for="1"))
    assert sorted(ids_of(sink.slot(after, "m1"))) == [[2, 4], [3]]
    assert ids_of(sink.slot(after, "m2")) == [[1, 2, 3]]
    assert after.slots == {"m1": mark_of("1"), "m2": mark_of("0")}


def test_a_commit_without_a_source_version_takes_the_slots_mark_away(folder: str) -> None:
    sink = sink_at(folder)
    commit(sink, [1], complete_for="0")
    state = sink.commit(commit(sink, [2]), Commit("m2", "r", [], complete_for="0"))
    assert state.slots == {"m1": None, "m2": mark_of("0")}


def test_a_dataset_may_be_emptied_and_filled_again(folder: str) -> None:
    sink = sink_at(folder)
    state = commit(sink, [1, 2])
    [path] = [fragment.path for fragment in sink.slot(state, "m1").fragments]
    state = sink.commit(state, Commit("m1", "r2", [], [path]))
    assert ids_in(folder) == []
    stale = state
    state = sink.commit(state, Commit("m1", "r3", [stage(sink, [3])]))
    with pytest.raises(CommitError, match="another run of this job committed first"):
        sink.commit(stale, Commit("m1", "r4", [stage(sink, [4])]))
    assert ids_in(folder) == [3]


def test_earlier_versions_stay_readable(folder: str) -> None:
    sink = sink_at(folder)
    first = commit(sink, [1, 2])
    commit(sink, [3])
    assert first.version is not None
    assert read_all(opened(folder, int(first.version)))["id"].to_pylist() == ids_in(folder, 1) == [1, 2]


@pytest.mark.parametrize("there", [True, False], ids=["a dataset", "nothing"])
def test_of_two_runs_that_started_alike_one_commits_and_the_other_changes_nothing(
    place: Place, there: bool
) -> None:
    sink, other = sink_at(place("t")), sink_at(place("t"))
    if there:
        commit(sink, [0])
    state, other_state = sink.open(), other.open()
    parts, other_parts = [stage(sink, [1])], [stage(other, [2])]
    after = sink.commit(state, Commit("m1", "r1", parts))
    with pytest.raises(CommitError, match="another run of this job committed first"):
        other.commit(other_state, Commit("m2", "r2", other_parts))
    assert 2 not in ids_in(place("t"))
    assert sink.open() == after


@pytest.mark.parametrize("before", [0, 1, 2], ids=["nothing", "one fragment", "an emptied dataset"])
def test_lance_itself_refuses_a_commit_that_another_overtook_between_look_and_write(
    folder: str, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    sink = sink_at(folder)
    if before:
        commit(sink, [0])
    if before == 2:
        paths = [fragment.path for fragment in sink.slot(sink.open(), "m1").fragments]
        sink.commit(sink.open(), Commit("m1", "r", [], paths))
    state, parts, others = sink.open(), [stage(sink, [1])], [stage(sink, [2])]

    def overtaken(*arguments: Any, **more: Any) -> LanceDataset:
        monkeypatch.undo()
        sink_at(folder).commit(state, Commit("m1", "r2", others))
        return LanceDataset.commit(*arguments, **more)

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(overtaken))
    with pytest.raises(CommitError, match="another run of this job committed first"):
        sink.commit(state, Commit("m1", "r1", parts))
    assert 1 not in ids_in(folder)
    assert 2 in ids_in(folder)


@pytest.fixture
def forgetful_store(s3_endpoint: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store behind a door that takes each manifest when it first comes, and hangs up instead of answering."""
    manifests: Counter[str] = Counter()

    class Door(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_manifest = self.command == "PUT" and "/_versions/" in self.path
            manifests.update([self.path] if is_manifest else [])
            answer = behind.request(self.command, self.path, content=body, headers=dict(self.headers))
            if is_manifest and manifests[self.path] == 1:
                return
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else answer.content)

        def log_message(self, *_: Any) -> None:
            pass

    for command in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Door, f"do_{command}", Door.forward)
    with httpx.Client(base_url=s3_endpoint) as behind, ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield s3
        server.shutdown()
    assert list(manifests.values()) == [2, 2]


def test_commits_whose_answer_the_store_lost_have_succeeded(forgetful_store: Any) -> None:
    sink = sink_at(forgetful_store.uri("t"))
    assert commit(sink, [1]) == SinkState(True, 1, "1", {"m1": None})
    state = commit(sink, [2], complete_for="0")
    assert state == sink.open() == SinkState(True, 2, "2", {"m1": mark_of("0")})
    assert ids_in(sink.uri) == [1, 2]


@pytest.mark.parametrize("before", [True, False], ids=["a dataset", "nothing"])
def test_a_commit_that_landed_and_was_reported_as_failed_has_succeeded(
    folder: str, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    sink = sink_at(folder)
    if before:
        commit(sink, [0])
    state, part, real = sink.open(), stage(sink, [1]), LanceDataset.commit

    def lost(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        raise OSError("connection reset by peer")

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(lost))
    after = sink.commit(state, Commit("m1", "r1", [part], complete_for="0"))
    assert sink.open() == after
    assert ids_in(folder) == [*([0] if before else []), 1]


@pytest.mark.parametrize("before", [True, False], ids=["a dataset", "nothing"])
def test_a_commit_that_lands_after_it_was_given_up_is_not_made_twice(
    folder: str, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    sink = sink_at(folder)
    if before:
        commit(sink, [0])
    state, part, real, calls = sink.open(), stage(sink, [1]), LanceDataset.commit, Counter[str]()

    def slow(*arguments: Any, **more: Any) -> LanceDataset:
        calls.update(["commit"])
        if calls["commit"] == 1:
            raise OSError("operation timed out")
        real(*arguments, **more)  # what the first one asked for
        return real(*arguments, **more)

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(slow))
    after = sink.commit(state, Commit("m1", "r1", [part], complete_for="0"))
    assert calls["commit"] == 2
    assert sink.open() == after
    assert ids_in(folder) == [*([0] if before else []), 1]


def test_a_commit_that_did_not_land_is_an_error_and_changes_nothing(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_at(folder)
    state = commit(sink, [0])
    part = stage(sink, [1])

    def failing(*_: Any, **__: Any) -> None:
        raise OSError("503 slow down")

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(failing))
    with pytest.raises(CommitError, match=r"the commit failed: .*503 slow down"):
        sink.commit(state, Commit("m1", "r1", [part]))
    monkeypatch.undo()
    assert (sink.open(), ids_in(folder)) == (state, [0])


def test_a_store_that_is_not_there_is_one_line(s3: Any, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnreachableError, match=f"{free_port} does not answer") as error:
        open_lance(s3.uri("t"))
    assert "\n" not in str(error.value)


def test_an_index_made_meanwhile_does_no_harm_and_keeps_what_it_covers(folder: str) -> None:
    sink = sink_at(folder)
    state = commit(sink, [1, 2], complete_for="0")
    independent(folder).create_scalar_index("id", "BTREE")
    assert sink.open().slots == state.slots
    sink.commit(state, Commit("m1", "r2", [stage(sink, [3])]))
    assert independent(folder).stats.index_stats("id_idx")["num_unindexed_rows"] == 1
    assert [independent(folder).count_rows(f"id = {number}") for number in (1, 2, 3, 4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset.delete("id = 1"),
        lambda dataset: dataset.restore(),
        lambda dataset: dataset.optimize.compact_files(),
        lambda dataset: dataset.insert(dataset.to_table()),
    ],
    ids=["delete", "restore", "compaction", "insert"],
)
def test_rows_changed_by_something_else_stop_the_commit_and_void_the_marks(
    folder: str, change: Callable[[Any], Any]
) -> None:
    sink = sink_at(folder)
    commit(sink, [1])
    state = commit(sink, [2], complete_for="0")
    independent(folder).create_scalar_index("id", "BTREE")
    change(independent(folder))
    assert sink.open().slots == {}
    with pytest.raises(CommitError, match="something else changed it first"):
        sink.commit(state, Commit("m1", "r2", [stage(sink, [3])]))
    assert 3 not in ids_in(folder)


def test_marks_of_a_commit_that_lance_rebased_are_void(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sink_at(folder)
    state, part = commit(sink, [1]), stage(sink, [2])

    def late(*arguments: Any, **more: Any) -> LanceDataset:
        monkeypatch.undo()
        independent(folder).insert(independent(folder).to_table())
        return LanceDataset.commit(*arguments, **more)

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(late))
    after = sink.commit(state, Commit("m1", "r2", [part], complete_for="0"))
    assert ids_in(folder) == [1, 1, 2]
    assert (after.sequence, after.slots) == (3, {})


def test_slots_that_compaction_joined_are_told_apart_and_replaced_apart(folder: str) -> None:
    sink = sink_at(folder)
    commit(sink, [1, 2])
    commit(sink, [1, 2], slot="m'2")
    independent(folder).optimize.compact_files()
    state = sink.open()
    [part] = sink.slot(state, "m1").fragments
    after = sink.commit(state, Commit("m1", "r3", [stage(sink, [2])], [part.path], complete_for="1"))
    assert ids_of(sink.slot(after, "m1")) == [[2]]
    assert ids_of(sink.slot(after, "m'2")) == [[1, 2]]
    assert ids_in(folder) == [1, 2, 2]


def test_versions_may_be_cleaned_up(folder: str) -> None:
    sink = sink_at(folder)
    for number in range(3):
        state = commit(sink, [number], complete_for="0")
    independent(folder).cleanup_old_versions(timedelta(0))
    assert sink.open() == state
    independent(folder).create_scalar_index("id", "BTREE")
    independent(folder).cleanup_old_versions(timedelta(0))
    assert sink.open().slots == {}
    commit(sink, [3])
    assert ids_in(folder) == [0, 1, 2, 3]


def test_a_dataset_of_another_job_is_refused_with_the_difference(folder: str) -> None:
    commit(sink_at(folder), [1])
    with pytest.raises(TableError, match="its dimensions is 2, this job's 3"):
        sink_at(folder, Owner("owner-2", {"source": "/a", "dimensions": 3})).open()


def test_a_dataset_that_no_job_made_is_refused(folder: str) -> None:
    lance.write_dataset(ROWS, folder)
    with pytest.raises(TableError, match="no embedding job made"):
        sink_at(folder).open()


def test_a_dataset_with_other_columns_is_refused(folder: str) -> None:
    commit(sink_at(folder), [1])
    with pytest.raises(TableError, match="column 'site' is missing in the table"):
        sink_at(folder, schema=SCHEMA.append(pa.field("site", pa.string()))).open()


def test_a_dataset_whose_columns_were_made_anew_is_refused(folder: str) -> None:
    commit(sink_at(folder), [1])
    independent(folder).drop_columns(["id"])
    independent(folder).add_columns({"id": "cast(1 as bigint)"})
    with pytest.raises(TableError, match="columns were made anew"):
        sink_at(folder).open()


def test_a_folder_with_a_table_of_another_format_is_refused(folder: str) -> None:
    commit(sink_at(folder), [1])
    with pytest.raises(TableError, match="a lance table is there"):
        open_sink(SinkConfig(uri=folder, format="delta"), SCHEMA, OWNER)


def test_a_type_that_lance_cannot_hold_is_one_clear_line(folder: str) -> None:
    with pytest.raises(TableError, match=r"Lance cannot hold .*Interval\(MonthDayNano\) \(leave it out") as error:
        sink_at(folder, schema=pa.schema([("every", pa.month_day_nano_interval())]))
    assert ".rs:" not in str(error.value)


def test_orphans_say_their_run_and_are_removed_alone(place: Place) -> None:
    sink = sink_at(place("t"))
    lost = stage(sink, [0], "r0")
    state = commit(sink, [1], "r1")
    late = stage(sink, [2], "r2")
    [path] = [fragment.path for fragment in sink.slot(state, "m1").fragments]
    sink.commit(state, Commit("m1", "r3", [stage(sink, [3], "r3")], [path]))
    found = {orphan.path: (orphan.run, orphan.size) for orphan in sink.orphans()}
    assert found == {lost.path: ("r0", lost.size), late.path: ("r2", late.size)}
    sink.discard("r2")
    assert [orphan.run for orphan in sink.orphans()] == ["r0"]
    sink.remove([lost.path])
    assert sink.orphans() == []
    assert (ids_in(place("t"), 1), ids_in(place("t"))) == ([1], [3])


def test_nothing_is_an_orphan_where_branches_may_name_it(folder: str) -> None:
    sink = sink_at(folder)
    commit(sink, [1])
    stage(sink, [2])
    independent(folder).create_branch("trial")
    assert sink.orphans() == []


def test_what_was_staged_before_any_commit_is_found(folder: str) -> None:
    sink = sink_at(folder)
    stage(sink, [1], "r1")
    Path(folder, "data/torn.lance").write_bytes(b"half a file")
    assert {orphan.run for orphan in sink.orphans()} == {"r1", None}
    sink.discard("r1")
    assert [orphan.run for orphan in sink.orphans()] == [None]
