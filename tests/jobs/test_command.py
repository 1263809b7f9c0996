"""`lakebed embed` as a user calls it: what is wrong is one line and an exit code, and nothing is left behind."""

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakebed.cli.app import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; returns its exit code and what it wrote to standard error."""

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lakebed", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def source(folder: Path, rows: int = 3) -> str:
    write_deltalake(
        folder / "source", pa.table({"id": range(rows), "note": [f"note {row}" for row in range(rows)]})
    )
    return str(folder / "source")


def arguments(folder: Path, uri: str, *more: str) -> list[str]:
    least = ["embed", "--source", uri, "--sink", str(folder / "sink"), "--model", "fake:8", "--no-track"]
    return [*least, *more]


@pytest.mark.parametrize(
    ("more", "code", "fault"),
    [
        (["--text", "nope"], 3, "no column 'nope' (columns are id, note)"),
        (["--text", "id"], 1, "column 'id' holds int64, not text"),
        (["--text", "note", "--source-version", "9"], 3, "there is no version 9"),
        (["--text", "note", "--model", "no-such-model"], 3, "no model named 'no-such-model'"),
        (["--text", "note", "--dimensions", "9"], 2, "dimensions must be between 1 and 8"),
        (["--text", "note", "--max-quarantined", "much"], 2, "max_quarantined"),
        (["--text", "note", "--source-format", "orc"], 2, "source.format"),
        ([], 2, "columns: required field is missing"),
    ],
)
def test_what_is_wrong_with_a_job_is_one_line(
    tmp_path: Path, run: Run, more: list[str], code: int, fault: str
) -> None:
    ended, output = run(*arguments(tmp_path, source(tmp_path), *more))
    assert (ended, output.count("\n")) == (code, 1)
    assert output.startswith("error: ")
    assert fault in output
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "lakebed-home") == ["source"]


def test_an_empty_table_is_said_to_be_empty(tmp_path: Path, run: Run) -> None:
    schema = pa.schema([("id", pa.int64()), ("note", pa.string())])
    write_deltalake(tmp_path / "empty", schema.empty_table())
    ended, output = run(*arguments(tmp_path, str(tmp_path / "empty"), "--text", "note"))
    assert ended == 1
    assert "the table has no rows" in output


def test_a_missing_table_is_named(tmp_path: Path, run: Run) -> None:
    ended, output = run(*arguments(tmp_path, str(tmp_path / "nowhere"), "--text", "note"))
    assert ended == 3
    assert f"{tmp_path}/nowhere: there is no table" in output


def test_a_malformed_file_names_its_line(tmp_path: Path, run: Run) -> None:
    (tmp_path / "job.yaml").write_text("source:\n  uri: [")
    ended, output = run("embed", str(tmp_path / "job.yaml"))
    assert ended == 2
    assert "job.yaml: not valid YAML at line 2" in output


def test_a_cluster_that_is_not_there_is_unreachable(tmp_path: Path, run: Run, free_port: int) -> None:
    (tmp_path / "job.yaml").write_text("{source: {uri: /a}, columns: {text: note}, sink: {uri: /b}}")
    address = f"http://127.0.0.1:{free_port}"
    for command in (["submit", str(tmp_path / "job.yaml")], ["jobs", "list"], ["jobs", "status", "x"]):
        ended, output = run(*command, "--address", address)
        assert (ended, output) == (
            4, f"error: {address}: no Ray cluster answers (check the address, or the tunnel to it)\n"
        )  # fmt: skip


def test_a_wrong_or_missing_address_is_a_usage_error(run: Run) -> None:
    assert run("jobs", "list")[0] == 2
    assert "expected http://host:8265" in run("jobs", "list", "--address", "127.0.0.1:6379")[1]
