"""Runs that go on from what is there: after a crash, or upon a newer version of the source."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.jobs.plain_readers import JOB_SINKS, read_plainly

from lakebed.jobs.embed import run_embed
from lakebed.jobs.report import EmbedReport
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import CommitError
from lakebed.platform.items import items_of

pytestmark = pytest.mark.usefixtures("ray_cluster")
ENCODER = FakeEncoder(16)


@pytest.fixture(params=["delta", "parquet"])
def kind(request: pytest.FixtureRequest) -> str:
    """Format of the sink."""
    kind: str = request.param
    return kind


class Tables:
    """A source in Delta, a sink, and the job between them."""

    def __init__(self, folder: Path, kind: str = "delta") -> None:
        self.source, self.kind = str(folder / "source"), kind
        self.sink = "iceberg:lake.sink" if kind == "iceberg" else str(folder / "sink")
        self.notes: list[str] = []

    def write(self, notes: dict[int, str | None], mode: Any = "overwrite") -> None:
        """Write the source, or more of it."""
        rows = {"id": pa.array(list(notes), pa.int64()), "note": pa.array(list(notes.values()), pa.string())}
        write_deltalake(self.source, pa.table(rows), mode=mode)

    def run(self, watch: Any = None, again: bool = False, retry: bool = False, **fields: Any) -> EmbedReport:
        """Run the job."""
        values = {
            "source": {"uri": self.source},
            "sink": {"uri": self.sink, "format": self.kind},
            "columns": {"keys": ["id"], "text": "note"},
            "model": "fake:16",
            "experiment": None,
            "max_quarantined": 1.0,
            "compute": {"batch_rows": 10, "part_rows": 10, "commit_seconds": 0.001},
            **fields,
        }
        job = EmbedJob.parse(values, where="job")
        options = {"watch": lambda _: nullcontext(watch)} if watch else {}
        self.notes.clear()
        return run_embed(job, again=again, retry_quarantined=retry, note=self.notes.append, **options)

    @property
    def compared(self) -> bool:
        """Whether the last run had to compare rows with those of the sink."""
        return any(note.startswith("comparing") for note in self.notes)

    def versions(self) -> Iterator[pa.Table]:
        """Every version of the sink, as readers met it."""
        for version in range(DeltaTable(self.sink).version() + 1):
            yield DeltaTable(self.sink, version=version).to_pyarrow_table()

    def read(self, uri: str | None = None) -> pa.Table:
        """The newest version, read without lakebed."""
        found = read_plainly(uri or self.sink, self.kind)
        assert found is not None
        return found

    def check(self, notes: dict[int, str | None]) -> None:
        """Compare the sink with what it should hold, row by row."""
        good = {number: note for number, note in notes.items() if note}
        rows = sorted(self.read().select(["id", "embedding"]).to_pylist(), key=lambda row: row["id"])
        assert [row["id"] for row in rows] == sorted(good)
        expected = encode(ENCODER, items_of([good[row["id"]] for row in rows])).vectors
        np.testing.assert_allclose(np.array([row["embedding"] for row in rows]), expected, atol=1e-6)


def notes(numbers: range, word: str = "pump") -> dict[int, str | None]:
    return {number: f"{word} {number}" for number in numbers}


class Dies:
    """Watches a run, and ends it once so many rows are done and something is committed."""

    def __init__(self, rows: int) -> None:
        self.left = rows

    def note(self, phase: str, detail: str = "") -> None:
        """Watch."""

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Watch."""

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        self.left -= rows
        if self.left <= 0:
            raise KeyboardInterrupt


def test_a_run_that_died_is_gone_on_with_from_its_last_commit(tmp_path: Path, kind: str) -> None:
    tables, wanted = Tables(tmp_path, kind), notes(range(100))
    tables.write(wanted)
    with pytest.raises(KeyboardInterrupt):
        tables.run(watch=Dies(60))
    there = len(tables.read())
    assert 0 < there < 100
    report = tables.run()
    assert (report.held, report.embedded) == (there, 100 - there)
    tables.check(wanted)
    assert tables.run().nothing_new


@pytest.mark.parametrize("kind", ["iceberg", "lance"])
def test_other_formats_are_gone_on_with_and_kept_up_to_date_alike(tmp_path: Path, kind: str) -> None:
    tables, wanted = Tables(tmp_path, kind), {**notes(range(60)), 7: None}
    for start in (0, 30):
        tables.write({row: wanted[row] for row in range(start, start + 30)}, mode="append")
    with pytest.raises(KeyboardInterrupt):
        tables.run(watch=Dies(40))
    assert 0 < len(tables.read()) < 60
    DeltaTable(tables.source).optimize.compact()
    assert tables.run().embedded > 0
    tables.check(wanted)
    wanted = {**notes(range(10, 60)), **notes(range(20, 22), "fan"), 61: "new"}
    tables.write(wanted)
    report = tables.run()
    assert (report.held, report.embedded, report.removed) == (48, 3, 11)
    tables.check(wanted)
    assert len(tables.read(f"{tables.sink}_quarantine")) == 0


def test_new_changed_and_deleted_rows_are_all_that_a_newer_version_costs(tmp_path: Path, kind: str) -> None:
    tables = Tables(tmp_path, kind)
    tables.write(notes(range(50)))
    tables.write({**notes(range(50, 60)), 60: None}, mode="append")
    tables.run()
    wanted = {**notes(range(5, 60)), **notes(range(20, 23), "fan"), 60: None, **notes(range(70, 80))}
    tables.write(wanted)
    report = tables.run()
    assert (report.held, report.embedded, report.removed, report.bad) == (52, 13, 8, 1)
    tables.check(wanted)
    assert tables.read(f"{tables.sink}_quarantine")["id"].to_pylist() == [60]
    assert tables.run().nothing_new


def test_files_that_were_rewritten_are_no_work(tmp_path: Path, kind: str) -> None:
    tables, wanted = Tables(tmp_path, kind), {**notes(range(60)), 3: None}
    for start in range(0, 60, 20):
        tables.write({row: wanted[row] for row in range(start, start + 20)}, mode="append")
    tables.run()
    DeltaTable(tables.source).optimize.compact()
    report = tables.run()
    assert (report.held, report.embedded, report.removed, report.bad) == (59, 0, 0, 1)
    tables.check(wanted)
    assert tables.run().nothing_new
    tables.write(notes(range(60, 65)), mode="append")
    assert (tables.run().embedded, len(tables.read())) == (5, 64)


def test_rows_that_were_moved_are_compared_once(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    for start in range(0, 60, 20):
        tables.write(notes(range(start, start + 20)), mode="append")
    tables.run()
    DeltaTable(tables.source).optimize.compact()
    tables.write(notes(range(60, 90)), mode="append")
    with pytest.raises(KeyboardInterrupt):
        tables.run(watch=Dies(20))
    assert tables.compared
    assert tables.run().held > 60
    assert not tables.compared
    tables.write(notes(range(90, 95)), mode="append")
    assert tables.run().embedded == 5
    assert not tables.compared
    tables.check(notes(range(95)))
    wanted = {**notes(range(95)), 3: "another", 70: "too"}
    tables.write(wanted)
    report = tables.run()
    assert (tables.compared, report.embedded, report.removed) == (True, 2, 2)
    tables.check(wanted)


def test_equal_rows_are_counted_and_not_taken_for_one(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    columns = {"text": "note"}

    def write(same: int) -> None:
        write_deltalake(tables.source, pa.table({"note": ["one"] * same + ["other"]}), mode="overwrite")

    write(5)
    tables.run(columns=columns)
    write(3)
    report = tables.run(columns=columns)
    assert (report.embedded, report.removed, len(tables.read())) == (0, 2, 4)
    write(6)
    report = tables.run(columns=columns)
    assert (report.embedded, report.removed, len(tables.read())) == (3, 0, 7)


def test_no_reader_ever_meets_a_key_twice(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.write(notes(range(40)))
    tables.run()
    tables.write({**notes(range(80)), **notes(range(10, 30), "fan")})
    report = tables.run()
    assert report.commits > 1
    for version in tables.versions():
        assert len(set(version["id"].to_pylist())) == len(version)
    tables.check({**notes(range(80)), **notes(range(10, 30), "fan")})


def test_all_again_replaces_all_in_the_last_commit(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.write(notes(range(30)))
    tables.run()
    report = tables.run(again=True)
    assert (report.embedded, report.held) == (30, 0)
    assert [len(version) for version in tables.versions()][-2:] == [30, 30]
    assert set(tables.read()["lb_run"].to_pylist()) == {report.run}
    tables.check(notes(range(30)))


def test_what_was_quarantined_is_tried_again_when_asked_for(tmp_path: Path, kind: str) -> None:
    tables, wanted = Tables(tmp_path, kind), {**notes(range(20)), 4: None, 9: "  "}
    tables.write(wanted)
    tables.run()
    report = tables.run(retry=True)
    assert (report.held, report.bad, report.embedded) == (18, 2, 0)
    quarantine = tables.read(f"{tables.sink}_quarantine")
    assert sorted(quarantine["id"].to_pylist()) == [4, 9]
    assert set(quarantine["lb_run"].to_pylist()) == {report.run}
    tables.check({**wanted, 9: None})


class Rival:
    """Runs the same job to its end, in the moment before the one it watches commits."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def note(self, phase: str, detail: str = "") -> None:
        if phase == "committing":
            self.run()

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Watch."""

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Watch."""


@pytest.mark.parametrize("kind", JOB_SINKS)
def test_of_two_drivers_one_is_fenced_out_and_nothing_is_doubled(tmp_path: Path, kind: str) -> None:
    tables, wanted = Tables(tmp_path, kind), notes(range(40))
    tables.write(wanted)
    slow = {"compute": {"batch_rows": 10, "part_rows": 10}}
    with pytest.raises(CommitError, match="committed first"):
        tables.run(watch=Rival(tables.run), **slow)
    tables.check(wanted)
    assert tables.run().nothing_new


def test_a_second_model_has_its_own_rows_and_resumes_by_itself(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.write(notes(range(30)))
    tables.run()
    with pytest.raises(KeyboardInterrupt):
        tables.run(watch=Dies(10), model="fake:32", dimensions=16)
    report = tables.run(model="fake:32", dimensions=16)
    assert report.held + report.embedded == 30
    assert len(tables.read()) == 60
