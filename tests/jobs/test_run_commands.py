"""`lakebed jobs show`, `jobs clean` and `quarantine show` as a user calls them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.cli.app import main
from lakebed.jobs.ledger import Ledger, plan_of_this_process, recorded
from lakebed.jobs.run_record import RunPlan
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.tracking import Tracking

Command = Callable[..., tuple[int, str, str]]
RUN = "20260101T000000-aa"
BAD = pa.table(
    {
        "id": [7, 8, 9],
        "lb_file": ["a.parquet", "a.parquet", "b.parquet"],
        "lb_position": pa.array([6, 7, 0], pa.int64()),
        "lb_error_code": ["null", "non_finite", "null"],
        "lb_error": ["note is null", "channel 0 holds [nan]", "note is null"],
        "lb_model": ["m", "m", "m"],
        "lb_model_digest": ["d", "d", "d"],
    }
)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process; returns its exit code, its output, its errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lakebed", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


def plan(table: Path, run: str = RUN) -> RunPlan:
    fields: dict[str, Any] = {
        "run": run, "job": {}, "model": "m@3", "digest": "d" * 64, "source": "/source", "source_version": "3",
        "source_rows": 10, "rows": 10, "held": 0, "units": 1,
        "sink": SinkConfig(uri=str(table)), "quarantine": SinkConfig(uri=str(table.with_name("rejects"))),
    }  # fmt: skip
    return plan_of_this_process(**fields)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A table whose ledger has one run that is done."""
    with recorded(str(tmp_path / "t"), plan(tmp_path / "t"), ()) as ledger:
        ledger.advance(10, {"null": 2})
        ledger.committed(1, "0", 10)
    return tmp_path / "t"


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    """A job that writes to `t`, with its bad rows in `rejects`."""
    spec = f"{{source: {{uri: /a}}, columns: {{text: note}}, sink: {{uri: {tmp_path}/t}}, "
    (tmp_path / "job.yaml").write_text(f"{spec} quarantine: {tmp_path}/rejects}}")
    return str(tmp_path / "job.yaml")


def test_a_run_is_shown_by_the_table_it_writes_to_or_by_its_job(
    tmp_path: Path, finished: Path, job_file: str, command: Command
) -> None:
    for where in (["--sink", str(finished)], ["--job", job_file]):
        code, output, _ = command("jobs", "show", RUN, *where, "--json", str(tmp_path / "figures.json"))
        assert code == 0
        assert "10 of 10 (100%)" in output
        assert "done after" in output
        assert json.loads((tmp_path / "figures.json").read_text())["quarantined/null"] == 2


def test_a_run_is_found_through_mlflow(
    finished: Path, command: Command, mlflow_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_database)
    with Tracking(mlflow_database).run("any", "embed", {"lakebed.run": RUN}) as run:
        run.params({"sink": str(finished)})
    assert "done after" in command("jobs", "show", RUN)[1]
    code, _, errors = command("jobs", "show", "another")
    assert (code, errors) == (
        3, "error: MLflow has no run 'another' (say where it writes to: --sink URI or --job JOB)\n"
    )  # fmt: skip


def test_runs_of_a_table_are_listed_newest_first(finished: Path, command: Command) -> None:
    with pytest.raises(KeyboardInterrupt), recorded(str(finished), plan(finished, "20260102T000000-bb"), ()):
        raise KeyboardInterrupt
    _, first, second = command("jobs", "show", "--sink", str(finished))[1].splitlines()
    assert first.split()[:2] == ["20260102T000000-bb", "interrupted"]
    assert second.split()[:2] == [RUN, "done"]


def test_following_a_run_fails_as_the_run_fails(tmp_path: Path, command: Command) -> None:
    ledger = Ledger(str(tmp_path), plan(tmp_path), ())
    ledger.begin()
    ledger.end("failed", "no space")
    code, output, errors = command("jobs", "show", RUN, "--sink", str(tmp_path), "--follow")
    assert code == 8
    assert "failed after" in output
    assert "no space; running the job again begins anew" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        (["jobs", "show"], 2, "which table? give --sink URI"),
        (["jobs", "show", "--sink", "/nowhere"], 3, "no run has written there"),
        (["jobs", "show", RUN, "--sink", "/nowhere"], 3, f"no run {RUN!r} is known there"),
        (["jobs", "show", RUN, "--sink", "/t", "--job", "j.yaml"], 2, "not both"),
        (["jobs", "show", "--sink", "/t", "--follow"], 2, "are for one run"),
        (["jobs", "show", RUN, "--sink", "ftp://t"], 2, "unknown scheme"),
        (["jobs", "clean", "--sink", "/t", "--older-than", "long"], 2, "write 30m, 24h or 7d"),
        (["jobs", "clean", "--sink", "/nowhere"], 3, "there is no table of vectors"),
        (["quarantine", "show", "/nowhere"], 3, "there is no table of vectors"),
    ],
)
def test_what_is_wrong_is_one_line(command: Command, arguments: list[str], code: int, fault: str) -> None:
    ended, _, errors = command(*arguments)
    assert (ended, errors.count("\n")) == (code, 1)
    assert fault in errors


def test_cleaning_lists_first_and_removes_then(finished: Path, job_file: str, command: Command) -> None:
    left = finished / f"run-{RUN}" / "part-0.parquet"
    left.parent.mkdir()
    pq.write_table(pa.table({"id": [1]}), left)
    size = f"{left.stat().st_size:,}"
    arguments = ["jobs", "clean", job_file, "--older-than", "0s"]
    listed = command(*arguments, "--dry-run")[1]
    assert f"{finished}/run-{RUN}/part-0.parquet" in listed
    assert f"1 files, {size} bytes could be removed" in listed
    assert "1 left: too new" in command("jobs", "clean", "--sink", str(finished))[1]
    assert left.exists()
    assert f"{finished}: 1 files, {size} bytes removed" in command(*arguments)[1]
    assert not left.exists()


def test_quarantined_rows_are_shown_by_job_by_sink_and_by_their_own_table(
    tmp_path: Path, finished: Path, job_file: str, command: Command
) -> None:
    write_deltalake(tmp_path / "rejects", BAD)
    for place in (job_file, str(finished), str(tmp_path / "rejects")):
        code, output, _ = command("quarantine", "show", place)
        assert code == 0
        assert "3 rows are quarantined: 1 non_finite, 2 null" in output
        assert "channel 0 holds [nan]" in output
        assert output.splitlines()[0].split() == [
            "id",
            "lb_file",
            "lb_position",
            "lb_error_code",
            "lb_error",
            "lb_model",
        ]


def test_quarantined_rows_of_one_code_go_to_a_file_as_json(tmp_path: Path, command: Command) -> None:
    for part in range(3):
        write_deltalake(tmp_path / "rejects", BAD.slice(part, 1), mode="append")
    assert len(DeltaTable(tmp_path / "rejects").file_uris()) == 3
    arguments = ["--code", "null", "--limit", "1", "--json", str(tmp_path / "bad.json")]
    _, _, errors = command("quarantine", "show", str(tmp_path / "rejects"), *arguments)
    assert "1 of them are shown" in errors
    found = json.loads((tmp_path / "bad.json").read_text())
    assert (found["quarantined"], found["quarantined/null"]) == (3, 2)
    (row,) = found["rows"]
    assert (row["id"], row["lb_error_code"]) in {(7, "null"), (9, "null")}


def test_no_quarantine_table_means_no_bad_rows(finished: Path, command: Command) -> None:
    assert "no rows are quarantined" in command("quarantine", "show", str(finished))[1]


def test_another_table_is_no_quarantine_table(tmp_path: Path, job_file: str, command: Command) -> None:
    write_deltalake(tmp_path / "rejects", pa.table({"id": [1]}))
    code, _, errors = command("quarantine", "show", job_file)
    assert code == 1
    assert "this is no quarantine table" in errors
