"""The ledger, written and read back on real stores."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.waiting import wait_until

from lakebed.jobs.ledger import Ledger, plan_of_this_process, recorded
from lakebed.jobs.pace import Pace
from lakebed.jobs.progress import Silent, Together
from lakebed.jobs.run_record import RunPlan, ledger_folder, read_run, runs_at
from lakebed.jobs.units import Unit
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.errors import CommitError, JobNotFoundError, TableError
from lakebed.platform.lake.fragments import Fragment
from lakebed.platform.lake.storage import filesystem, inner_path, names_in

UNITS = (
    Unit(Fragment("a.parquet", 0, 10, 100), ((2, 5), (7, 10))),
    Unit(Fragment("b.parquet", 4, 2, 9), ((4, 6),)),
)


def plan(table: str, run: str = "20260101T000000-aa", **fields: Any) -> RunPlan:
    values = {
        "run": run, "job": {"model": "fake:8"}, "model": "fake:8", "digest": "d" * 64, "source": "/source",
        "source_version": "3", "source_rows": 12, "rows": 8, "held": 4, "units": 2,
        "sink": SinkConfig(uri=table), "quarantine": SinkConfig(uri=f"{table}_quarantine"),
    }  # fmt: skip
    return plan_of_this_process(**{**values, **fields})


def test_what_a_run_tells_its_ledger_is_read_back_from_any_store(place: Callable[[str], str]) -> None:
    with recorded(place("t"), plan(place("t")), UNITS) as ledger:
        ledger.note("embedding", "8 rows")
        ledger.advance(5, {"null": 1})
        ledger.advance(3, {"null": 1, "ragged": 1})
        ledger.committed(1, "0", 5)
        ledger.committed(2, "1", 3)
    found = read_run(place("t"), "20260101T000000-aa")
    assert (found.plan.rows, found.plan.source_version, found.plan.sink.uri) == (8, "3", place("t"))
    state = found.state
    assert (state.phase, state.rows, state.quarantined) == ("embedding", 8, {"null": 2, "ragged": 1})
    assert [(commit.sequence, commit.version, commit.rows) for commit in state.commits] == [
        (1, "0", 5),
        (2, "1", 3),
    ]
    assert (state.commit_count, state.committed) == (2, 8)
    assert state.outcome is not None
    assert state.outcome.state == "done"
    units = f"{ledger_folder(inner_path(place('t')), found.plan.run)}/units.parquet"
    assert pq.read_table(units, filesystem=filesystem(place("t"))).to_pylist() == [
        {"file": "a.parquet", "first": 2, "rows": 6}, {"file": "b.parquet", "first": 4, "rows": 2},
    ]  # fmt: skip


def test_a_run_that_finds_out_first_what_there_is_to_do_says_it_later(tmp_path: Path) -> None:
    first = plan(str(tmp_path), rows=0, held=0, units=0, preliminary=True)
    with pytest.raises(KeyboardInterrupt), recorded(str(tmp_path), first, ()):
        raise KeyboardInterrupt
    assert read_run(str(tmp_path), first.run).plan.preliminary
    with recorded(str(tmp_path), first, ()) as ledger:
        ledger.planned(UNITS, source_rows=12, rows=8, held=4)
    found = read_run(str(tmp_path), first.run).plan
    assert found == first.model_copy(update={"preliminary": False, "rows": 8, "held": 4, "units": 2})
    assert pq.read_table(tmp_path / "_lakebed/ledger" / first.run / "units.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [
        (CommitError("/t: the commit failed", hint="again"), "failed", "/t: the commit failed (again)"),
        (RuntimeError("one\ntwo"), "failed", "one"),
        (ValueError(), "failed", "ValueError"),
        (KeyboardInterrupt(), "interrupted", None),
    ],
)
def test_how_a_run_ends_is_written_last(
    tmp_path: Path, error: BaseException, state: str, line: str | None
) -> None:
    with pytest.raises(type(error)), recorded(str(tmp_path), plan(str(tmp_path)), UNITS):
        raise error
    outcome = read_run(str(tmp_path), "20260101T000000-aa").state.outcome
    assert outcome is not None
    assert (outcome.state, outcome.error) == (state, line)


def test_a_commit_is_written_at_once(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), plan(str(tmp_path)), UNITS, seconds=3600)
    ledger.begin()
    ledger.committed(1, "0", 5)
    wait_until(lambda: [run.state.commit_count for run in runs_at(str(tmp_path))] == [1])
    ledger.end("done")


def test_a_heartbeat_goes_on_when_nothing_happens(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), plan(str(tmp_path)), UNITS, seconds=0.01)
    ledger.begin()
    wait_until(lambda: bool(runs_at(str(tmp_path))))
    first = runs_at(str(tmp_path))[0].state.heartbeat
    wait_until(lambda: runs_at(str(tmp_path))[0].state.heartbeat > first)
    ledger.end("done")


def test_a_store_that_fails_is_told_of_once_and_the_job_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "t").write_text("a file where the table's folder should be")
    with (
        caplog.at_level(logging.WARNING),
        recorded(str(tmp_path / "t"), plan(str(tmp_path / "t")), UNITS) as ledger,
    ):
        ledger.committed(1, "0", 5)
    (warning,) = caplog.messages
    assert warning.startswith("the ledger cannot be written, the job goes on: ")


def test_a_store_that_comes_back_gets_the_plan_as_well(tmp_path: Path) -> None:
    blocked = tmp_path / "_lakebed"
    blocked.write_text("in the way")
    ledger = Ledger(str(tmp_path), plan(str(tmp_path)), UNITS, seconds=0.01)
    ledger.begin()
    wait_until(lambda: ledger._warned)
    blocked.unlink()
    wait_until(lambda: bool(runs_at(str(tmp_path))))
    ledger.end("done")


def test_runs_of_a_table_come_newest_first(tmp_path: Path) -> None:
    table = str(tmp_path)
    for run in ("20260101T000000-aa", "20260103T000000-cc", "20260102T000000-bb"):
        with recorded(table, plan(table, run), UNITS):
            pass
    assert [record.plan.run[-2:] for record in runs_at(table)] == ["cc", "bb", "aa"]
    assert [record.plan.run[-2:] for record in runs_at(table, limit=1)] == ["cc"]


def test_a_run_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(JobNotFoundError, match="no run 'x' is known there"):
        read_run(str(tmp_path), "x")
    assert runs_at(str(tmp_path)) == []


def test_a_ledger_that_cannot_be_understood_is_one_clear_line(tmp_path: Path) -> None:
    with recorded(str(tmp_path), plan(str(tmp_path)), UNITS):
        pass
    (state,) = tmp_path.glob("_lakebed/ledger/*/state.json")
    state.write_text("{}")
    with pytest.raises(TableError, match="not a ledger of this version: phase"):
        runs_at(str(tmp_path))


def test_a_ledger_leaves_no_partial_files(tmp_path: Path) -> None:
    with recorded(str(tmp_path), plan(str(tmp_path)), UNITS):
        pass
    folder = ledger_folder(str(tmp_path), "20260101T000000-aa")
    assert names_in(folder) == ["plan.json", "state.json", "units.parquet"]


def test_a_pace_is_told_over_a_minute_and_over_all_without_start_up() -> None:
    pace = Pace()
    assert (pace.recent(5), pace.overall(5)) == (None, None)
    for second in range(100, 301):
        pace.add(10 if second < 200 else 30, second)
    assert pace.recent(300) == pytest.approx(30)
    assert pace.overall(300) == pytest.approx(20, rel=0.01)
    assert pace.recent(360) == pytest.approx(0)


def test_watchers_together_are_all_told() -> None:
    class Noting(Silent):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def advance(self, rows: int, errors: Any) -> None:
            self.heard.append((rows, errors))

        def committed(self, sequence: int, version: str, rows: int) -> None:
            self.heard.append((sequence, version, rows))

    one, other = Noting(), Noting()
    both = Together(one, other)
    both.advance(3, {"null": 1})
    both.committed(1, "0", 3)
    assert one.heard == other.heard == [(3, {"null": 1}), (1, "0", 3)]
