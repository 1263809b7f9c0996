"""A dry run against what the job really does to the rows."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from lakebed.cli.app import main
from lakebed.jobs.checking import check_job
from lakebed.jobs.dry_run import dry_run, planned_encoders
from lakebed.jobs.estimate import Estimate, Range, Sample, per_row, seconds_per_row, share_of
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.errors import ConfigError, EmptyTableError
from lakebed.platform.lake.sink import Commit
from lakebed.platform.lake.storage import names_in
from lakebed.platform.lake.tables import open_table

ROWS = 2000


def job(folder: Path, columns: dict[str, Any], **fields: Any) -> EmbedJob:
    """A job with one encoder, so that a dry run starts no process, unless `fields` say otherwise."""
    values = {
        "model": "fake:16",
        "cluster": {"address": "embedded", "cpus": 2},
        "compute": {"actors": 1},
        **fields,
    }
    tables = {"source": {"uri": str(folder / "source")}, "sink": {"uri": str(folder / "sink")}}
    return EmbedJob.parse({**tables, "columns": columns, **values}, where="job")


def notes(folder: Path, bad: int = 0) -> None:
    """Texts of 3 words and 11 characters; every `bad`th is null."""
    values = [None if bad and row % bad == 0 else f"pump {row:04} x" for row in range(ROWS)]
    for part in range(4):
        rows = slice(part * 500, (part + 1) * 500)
        table = pa.table({"id": range(ROWS)[rows], "note": pa.array(values[rows], pa.string())})
        write_deltalake(folder / "source", table, mode="append")


def estimate(wanted: EmbedJob, **options: Any) -> Estimate:
    snapshot = open_table(wanted.source)
    return dry_run(
        wanted, snapshot, resolve_model(wanted.model), 16, planned_encoders(wanted, snapshot), **options
    )


def test_counts_are_told_from_the_rows(tmp_path: Path) -> None:
    notes(tmp_path)
    found = estimate(job(tmp_path, {"text": "note", "keys": ["id"]}), held=500)
    figures = found.as_json()
    assert (figures["rows"], figures["rows_held"], figures["source_rows"]) == (1500, 500, 2000)
    assert (figures["tokens_per_row"], figures["tokens"], figures["characters_per_text"]) == (3, 4500, 11)
    assert (figures["encoders_most"], figures["samples"], figures["sampled_rows"]) == (1, 0, 512)
    assert all(not isinstance(value, dict | list) for value in figures.values())


def test_a_filter_leaves_its_rows_and_windows_are_refused(tmp_path: Path) -> None:
    notes(tmp_path)
    source = {"uri": str(tmp_path / "source"), "filter": "id < 600"}
    found = estimate(job(tmp_path, {"text": "note", "keys": ["id"]}, source=source), held=5000).as_json()
    assert (found["source_rows"], found["rows_held"], found["rows"], found["tokens_per_row"]) == (600, 600, 0, 3)
    with pytest.raises(EmptyTableError, match="none of the sampled rows"):
        estimate(job(tmp_path, {"text": "note"}, source={**source, "filter": "id < 0"}))
    windows = {"entity": ["note"], "time": "id", "channels": ["x"], "length": 5}
    with pytest.raises(ConfigError, match="before they are cut"):
        estimate(job(tmp_path, {}, windows=windows, sampling_rate=1))


def test_series_and_the_bytes_of_their_vectors_are_counted(tmp_path: Path) -> None:
    series = pa.array([[[1.0, 2.0, float(row)]] * 2 for row in range(ROWS)], pa.list_(pa.list_(pa.float32())))
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table({"s": series}), tmp_path / "source/a.parquet")
    found = estimate(job(tmp_path, {"series": "s"}))
    assert (found.per_row("samples"), found.per_row("tokens")) == (6, 0)
    assert ROWS * 16 * 4 < found.bytes_out < ROWS * (16 * 4 + 60), "a vector of 16 floats, a key, a footer"


def test_bad_rows_are_counted_with_an_example(tmp_path: Path) -> None:
    notes(tmp_path, bad=4)
    found = estimate(job(tmp_path, {"text": "note"}))
    assert found.bad.likely == pytest.approx(0.25, abs=0.03)
    assert found.as_json()["bad_example"] == "note is null (null)"
    assert found.per_row("tokens") == pytest.approx(2.25, abs=0.1)


def test_held_rows_take_no_time(tmp_path: Path) -> None:
    notes(tmp_path)
    assert estimate(job(tmp_path, {"text": "note"}), held=ROWS).seconds == Range(0, 0, 0)


def test_encoders_of_a_machine_are_measured_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    found = estimate(job(tmp_path, {"text": "note"}, compute={"actors": 2}))
    assert found.encoders == (2, 2)
    assert found.seconds is not None
    assert found.seconds.likely == pytest.approx(seconds_per_row(found.samples, 1).likely * ROWS / 2)
    assert ", 2 encoders at once, 1 thread each" in found.measured_on


def test_encoders_that_wait_for_a_free_cpu_do_not_make_the_job_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakebed.jobs.dry_run.starts_its_own", lambda _: True)  # though a test's Ray runs here
    notes(tmp_path)
    wanted = job(tmp_path, {"text": "note"}, compute={"actors": 4, "batch_rows": 64})
    assert planned_encoders(wanted, open_table(wanted.source)) == (2, 2)


def test_encoders_that_come_and_go_make_the_range_wider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # so no process beside
    wanted = job(tmp_path, {"text": "note"})
    found = dry_run(wanted, open_table(wanted.source), resolve_model("fake:16"), 16, (2, 8), dollars_per_hour=3600)
    assert found.seconds is not None
    assert found.seconds.most == pytest.approx(seconds_per_row(found.samples, 1).most * ROWS / 2)
    assert found.dollars == found.seconds


def test_a_job_for_gpus_gets_no_time_from_a_machine_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes(tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    found = estimate(job(tmp_path, {"text": "note"}, compute={"actors": 2, "gpus": 1}), dollars_per_hour=9)
    assert (found.seconds, found.dollars) == (None, None)
    assert "this machine has none" in str(found.without_time)


def test_a_table_of_one_row_can_be_estimated(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "source", pa.table({"note": ["a pump"]}))
    assert estimate(job(tmp_path, {"text": "note"})).sampled == 1


def test_the_spread_between_samples_makes_the_range() -> None:
    assert per_row([1.0, 1.0, 1.0], [10, 10, 10]) == Range(0.1, 0.1, 0.1)
    uneven = per_row([0.8, 1.0, 1.2], [10, 10, 10])
    assert uneven.likely == pytest.approx(0.1)
    assert uneven.most == pytest.approx(0.1 + 4.303 * 0.2 / 3**0.5 / 10, rel=1e-3)
    assert uneven.least == pytest.approx(0.08), "never below the fastest sample"
    assert per_row([0.8, 1.2], [10, 30]).likely == pytest.approx(0.05)


def test_on_a_busy_machine_the_range_reaches_down_to_the_cpu_time() -> None:
    def sampled(cpu_seconds: float) -> Sample:
        return Sample(10, 1.0, cpu_seconds, tokens=0, samples=0, characters=0, texts=0, bad=0, example=None)

    assert seconds_per_row([sampled(0.9)] * 3, 1).least == pytest.approx(0.1)
    assert seconds_per_row([sampled(0.4)] * 3, 1) == Range(pytest.approx(0.04), 0.1, 0.1)
    assert seconds_per_row([sampled(0.4)] * 3, None).least == pytest.approx(0.1), "a GPU leaves the CPU idle"


def test_no_bad_row_in_a_sample_is_not_none_at_all() -> None:
    share = share_of(0, 300)
    assert (share.least, share.likely) == (0, 0)
    assert share.most == pytest.approx(0.0122, abs=1e-4)


def test_the_command_prints_ranges_and_writes_nothing_to_the_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes(tmp_path, bad=5)
    arguments = ["--source", str(tmp_path / "source"), "--sink", str(tmp_path / "sink"), "--text", "note"]
    arguments += ["--model", "fake:8", "--address", "embedded", "--dollars-per-hour", "3.5"]
    arguments += ["--dry-run", "--json", str(tmp_path / "estimate.json")]
    monkeypatch.setattr(sys, "argv", ["lakebed", "embed", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr().out
    assert ended.value.code == 0
    for part in ("2,000 to embed", "for example: note is null (null); the job stops above 0.1", "$3.50 an hour"):
        assert part in output
    assert json.loads((tmp_path / "estimate.json").read_text())["model"] == "fake:8"
    assert names_in(str(tmp_path / "sink")) == []


def test_rows_that_the_sink_holds_are_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes(tmp_path)
    wanted = job(tmp_path, {"text": "note", "keys": ["id"]}, model="fake:8")
    checked = check_job(wanted)
    slot = checked.info.digest
    writer = checked.sink.writer("r1", slot)
    held = pa.table({field.name: pa.nulls(700, field.type) for field in writer.columns}, schema=writer.columns)
    checked.sink.commit(checked.sink_state, Commit(slot, "r1", [writer(held)]))
    arguments = ["--source", wanted.source.uri, "--sink", wanted.sink.uri, "--text", "note", "--key", "id"]
    arguments += ["--model", "fake:8", "--address", "embedded", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["lakebed", "embed", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert "1,300 to embed; 700 of 2,000 are held already" in capsys.readouterr().out
