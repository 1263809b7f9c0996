"""How a run stands, as its ledger says, in the words people read."""

import io
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lakebed.jobs.ledger import Ledger, plan_of_this_process
from lakebed.jobs.run_record import CommitRecord, Outcome, RunPlan, RunRecord, RunState
from lakebed.jobs.standing import Standing, fail_as, follow, span
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.errors import JobFailedError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def plan(table: str = "/sink") -> RunPlan:
    fields: dict[str, Any] = {
        "run": "20260101T000000-aa", "job": {}, "model": "m@3", "digest": "d" * 64, "source": "/source",
        "source_version": "3", "source_rows": 1_000_000, "rows": 800_000, "held": 200_000, "units": 64,
        "sink": SinkConfig(uri=table), "quarantine": SinkConfig(uri=f"{table}_quarantine"),
    }  # fmt: skip
    return plan_of_this_process(**fields)


def standing(silent: float = 2, **state: Any) -> Standing:
    fields = {"phase": "embedding", "heartbeat": NOW - timedelta(seconds=silent), **state}
    return Standing(
        RunRecord(plan().model_copy(update={"began": NOW - timedelta(hours=3)}), RunState(**fields)), NOW
    )


def commits(rows: int) -> dict[str, Any]:
    at = NOW - timedelta(minutes=5)
    return {
        "commits": (CommitRecord(sequence=4, version="9", rows=rows, at=at),),
        "commit_count": 4,
        "committed": rows,
    }


def printed(found: Standing) -> str:
    console = Console(file=io.StringIO(), width=200)
    found.show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_that_does_not_know_yet_what_there_is_to_do_tells_no_counts() -> None:
    def preliminary(silent: float) -> Standing:
        found = standing(silent, phase="cutting windows from 12 samples")
        return Standing(RunRecord(found.plan.model_copy(update={"preliminary": True}), found.state), NOW)

    assert "rows" not in dict(preliminary(2).lines())
    assert preliminary(2).progress() == "cutting windows from 12 samples"
    assert "running the job again goes on from what the tables hold" in preliminary(90).sentence()


def test_a_run_at_work_tells_progress_rate_time_left_commits_and_quarantine() -> None:
    found = standing(
        rows=400_000, recent_rate=1000.0, overall_rate=900.0, quarantined={"null": 3}, **commits(300_000)
    )
    text = printed(found)
    for part in (
        "400,000 of 800,000 (50%) in 64 units; 200,000 were held before",
        "1,000 rows/s over the last minute, 900 rows/s overall; about 6 min left",
        "4 of 300,000 rows; the last is sequence 4, version 9, 5 min ago",
        "3: 3 null; see /sink_quarantine",
    ):
        assert part in text
    assert (found.status, found.seconds_left) == ("running", 400)


def test_a_silent_run_says_from_where_the_next_one_goes_on() -> None:
    found = standing(silent=250, rows=250_000, recent_rate=1000.0, **commits(200_000))
    assert found.sentence() == (
        "no sign of life for 4 min: the driver died or lost the store; "
        "running the job again goes on from 400,000 rows"
    )
    assert found.seconds_left is None
    with pytest.raises(JobFailedError, match="no sign of life"):
        fail_as(found)


def test_a_driver_whose_clock_is_ahead_is_not_silent() -> None:
    assert standing(silent=-300).status == "running"


@pytest.mark.parametrize(
    ("state", "error", "sentence"),
    [
        ("done", None, "done after 3 h 0 min"),
        (
            "failed",
            "no space",
            "failed after 3 h 0 min: no space; running the job again goes on from 200,000 rows",
        ),
        ("interrupted", None, "interrupted after 3 h 0 min; running the job again goes on from 200,000 rows"),
    ],
)
def test_a_run_that_ended_says_how(state: str, error: str | None, sentence: str) -> None:
    outcome = Outcome.model_validate({"state": state, "error": error, "at": NOW})
    found = standing(silent=9999, outcome=outcome)
    assert (found.status, found.sentence()) == (state, sentence)


def test_figures_are_flat_and_are_json() -> None:
    figures = standing(rows=10, quarantined={"null": 2}, **commits(8)).as_json()
    assert all(not isinstance(value, dict | list) for value in figures.values())
    assert json.loads(json.dumps(figures))["quarantined/null"] == 2
    assert (figures["rows_committed"], figures["sink_version"], figures["status"]) == (8, "9", "running")


def test_following_goes_on_until_the_run_ends(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), plan(str(tmp_path)), (), seconds=0.01)
    ledger.begin()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            ledger.end("failed", "no space")

    while not (tmp_path / "_lakebed/ledger/20260101T000000-aa/state.json").exists():
        threading.Event().wait(0.01)  # between two looks at the condition
    looks = list(follow(str(tmp_path), "20260101T000000-aa", wait))
    assert [look.status for look in looks] == ["running", "running", "failed"]


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=4, seconds=10), "4 min"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=3, hours=2), "3 d 2 h"),
    ],
)
def test_a_length_of_time_is_said_in_two_units(time: timedelta, said: str) -> None:
    assert span(time) == said
