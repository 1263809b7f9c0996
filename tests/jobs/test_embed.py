"""The job on a real Ray. Every result is read back without lakebed's own reader and compared row by row."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.jobs.embed import run_embed
from lakebed.jobs.report import EmbedReport
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import CommitError, TableError, TooManyBadRowsError, UnreachableError
from lakebed.platform.items import Item
from lakebed.platform.lake.delta import DeltaSink
from lakebed.platform.lake.storage import delta_options, filesystem, inner_path, names_in
from lakebed.platform.tracking import Run, Tracking

pytestmark = pytest.mark.usefixtures("ray_cluster")
SERIES = pa.list_(pa.list_(pa.float32()))
ROWS = 300


def words(row: int) -> str:
    return " ".join(f"w{row * step}" for step in range(1, 2 + row % 9))


def waves(row: int) -> list[list[float]]:
    phase = np.arange(3 + row % 11) + row
    return [np.float32(np.sin(phase)).tolist(), np.float32(np.cos(phase) * row).tolist()]


def write_source(uri: str, kind: str, table: pa.Table) -> None:
    if kind == "delta":
        write_deltalake(uri, table, mode="overwrite", storage_options=delta_options(uri))
        return
    for part in range(3):
        with filesystem(uri).open(inner_path(f"{uri}/{part}.parquet"), "wb") as file:
            pq.write_table(table.slice(part * 100, 100), file)


def read_result(uri: str, kind: str) -> dict[Any, dict[str, Any]]:
    """Read a sink as a stranger to lakebed would."""
    if kind == "delta":
        table = DeltaTable(uri, storage_options=delta_options(uri)).to_pyarrow_table()
    else:
        store = filesystem(uri)
        root = inner_path(uri)
        newest = sorted(store.glob(f"{root}/_lakebed/manifest-*.json"))[-1]
        parts = json.loads(store.cat_file(newest))["parts"]
        table = pa.concat_tables(pq.read_table(f"{root}/{part['path']}", filesystem=store) for part in parts)
    rows = table.to_pylist()
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows), "a row is doubled"
    return found


def job(source: str, sink: str, columns: dict[str, Any], **fields: Any) -> EmbedJob:
    values = {"model": "fake:16", "experiment": None, "max_quarantined": 0.5, **fields}
    sink_values = {"uri": sink, "format": values.pop("sink_format", "delta")}
    return EmbedJob.parse(
        {"source": {"uri": source}, "sink": sink_values, "columns": {"keys": ["id"], **columns}, **values},
        where="job",
    )


def assert_vectors(found: dict[Any, dict[str, Any]], items: dict[int, Item], dimensions: int = 16) -> None:
    assert found.keys() == items.keys()
    expected = encode(FakeEncoder(16), list(items.values()), dimensions).vectors
    vectors = np.array([found[key]["embedding"] for key in items], np.float32)
    assert np.allclose(vectors, expected, atol=1e-6)
    assert [found[key]["lb_key"] for key in items] == [item.content_key() for item in items.values()]


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_texts_and_series_in_a_table_become_vectors_in_a_table(place: Callable[[str], str], kind: str) -> None:
    table = pa.table(
        {
            "id": range(ROWS),
            "note": [words(row) for row in range(ROWS)],
            "s": pa.array([waves(row) for row in range(ROWS)], SERIES),
            "site": [f"site {row % 3}" for row in range(ROWS)],
        }
    )
    write_source(place("source"), kind, table)
    columns = {"text": "note", "series": "s", "keep": ["site"]}
    report = run_embed(job(place("source"), place("sink"), columns, sink_format=kind, dimensions=8))
    found = read_result(place("sink"), kind)
    assert_vectors(found, {row: Item.of(words(row), waves(row)) for row in range(ROWS)}, 8)
    assert {row["site"] for row in found.values()} == {"site 0", "site 1", "site 2"}
    assert {(row["lb_run"], row["lb_model"], row["lb_model_digest"]) for row in found.values()} == {
        (report.run, "fake", FakeEncoder(16).info.digest)
    }
    assert (report.rows, report.embedded, report.bad) == (ROWS, ROWS, 0)
    assert report.samples == sum(len(waves(row)[0]) * 2 for row in range(ROWS))
    assert report.tokens == sum(1 + row % 9 for row in range(ROWS))


def test_channels_in_columns_of_their_own_with_names_and_a_rate(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": range(ROWS),
            "x": pa.array([waves(row)[0] for row in range(ROWS)], pa.list_(pa.float32())),
            "y": pa.array([waves(row)[1] for row in range(ROWS)], pa.list_(pa.float32())),
        }
    )
    write_source(str(tmp_path / "source"), "parquet", table)
    run_embed(
        job(
            str(tmp_path / "source"),
            str(tmp_path / "sink"),
            {"channels": ["x", "y"]},
            channel_names=["x", "y"],
            sampling_rate=32,
        )
    )
    items = {row: Item.of(None, waves(row), ["x", "y"], 32) for row in range(ROWS)}
    assert_vectors(read_result(str(tmp_path / "sink"), "delta"), items)


def test_bad_rows_go_to_quarantine_with_place_and_reason_and_take_no_other_along(tmp_path: Path) -> None:
    bad = {
        3: (None, "null"),
        50: ([], "empty_series"),
        51: ([[]], "empty_series"),
        120: ([[1.0, 2.0], [1.0]], "ragged"),
        199: ([[float("nan")]], "non_finite"),
        200: ([[1.0], None], "null_channel"),
    }
    series = [bad[row][0] if row in bad else waves(row) for row in range(ROWS)]
    write_source(str(tmp_path / "source"), "parquet", pa.table({"id": range(ROWS), "s": pa.array(series, SERIES)}))
    report = run_embed(job(str(tmp_path / "source"), str(tmp_path / "sink"), {"series": "s"}))
    assert_vectors(
        read_result(str(tmp_path / "sink"), "delta"),
        {row: Item.of(None, waves(row)) for row in range(ROWS) if row not in bad},
    )
    quarantined = read_result(str(tmp_path / "sink_quarantine"), "delta")
    assert {key: row["lb_error_code"] for key, row in quarantined.items()} == {
        key: code for key, (_, code) in bad.items()
    }
    assert quarantined[120]["lb_file"].startswith("1.parquet#")
    assert quarantined[120]["lb_position"] == 20
    assert "channel 0 has 2 samples, channel 1 has 1" in quarantined[120]["lb_error"]
    assert report.quarantined == {"null": 1, "empty_series": 2, "ragged": 1, "non_finite": 1, "null_channel": 1}


def test_running_again_does_nothing_a_newer_source_replaces_and_a_second_model_stays_beside(
    tmp_path: Path,
) -> None:
    source, sink = str(tmp_path / "source"), str(tmp_path / "sink")

    def write(rows: range, bad: int | None) -> None:
        notes = [None if row == bad else words(row) for row in rows]
        write_source(source, "delta", pa.table({"id": rows, "note": pa.array(notes, pa.string())}))

    def run(model: str = "fake:16", **options: Any) -> EmbedReport:
        return run_embed(job(source, sink, {"text": "note"}, model=model, dimensions=16), **options)

    write(range(40), bad=7)
    first = run()
    again = run()
    assert again.nothing_new
    assert (again.sink_version, again.embedded) == (first.sink_version, 0)
    write(range(20, 60), bad=None)
    second = run()
    assert_vectors(read_result(sink, "delta"), {row: Item.of(words(row)) for row in range(20, 60)})
    assert (second.held, second.embedded, second.removed) == (20, 20, 19)
    versions = {row["id"]: row["lb_source_version"] for row in read_result(sink, "delta").values()}
    assert versions == {row: first.source_version if row < 40 else second.source_version for row in range(20, 60)}
    assert read_result(f"{sink}_quarantine", "delta") == {}, "the bad row is gone from the source"
    run(model="fake:32")
    both = DeltaTable(sink).to_pyarrow_table()
    assert both.group_by("lb_model_digest").aggregate([("id", "count")])["id_count"].to_pylist() == [40, 40]
    forced = run(again=True)
    assert forced.embedded == 40
    assert len(DeltaTable(sink).to_pyarrow_table()) == 80


def test_too_many_bad_rows_stop_the_job_and_leave_no_table(tmp_path: Path) -> None:
    notes = [None if row % 2 else words(row) for row in range(ROWS)]
    write_source(str(tmp_path / "source"), "parquet", pa.table({"id": range(ROWS), "note": notes}))
    wanted = job(str(tmp_path / "source"), str(tmp_path / "sink"), {"text": "note"}, max_quarantined=0.1)
    with pytest.raises(TooManyBadRowsError, match=r"cannot be embedded: .* null; .* for example: note is null"):
        run_embed(wanted)
    for table in ("sink", "sink_quarantine"):
        assert not DeltaTable.is_deltatable(str(tmp_path / table))
    assert "_lakebed" in names_in(str(tmp_path / "sink")), "the ledger says what was wrong"


class Rival:
    """Commits to a Parquet sink of its own accord, in the moment before the job does."""

    def __init__(self, sink: Path) -> None:
        self.manifest = sink / "_lakebed" / "manifest-000001.json"

    def note(self, phase: str, detail: str = "") -> None:
        if phase == "committing":
            self.manifest.parent.mkdir(parents=True, exist_ok=True)
            self.manifest.write_text(json.dumps({"format": "lakebed-manifest-2", "run": "another"}))

    def committed(self, sequence: int, version: str, rows: int) -> None:
        """Watch."""

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        """Watch."""


def test_a_commit_that_fails_takes_nothing_from_what_was_committed(tmp_path: Path) -> None:
    """The quarantine is committed first; when the result's commit then fails, its files must stay."""
    source, sink = str(tmp_path / "source"), tmp_path / "sink"
    write_source(source, "delta", pa.table({"id": [1, 2], "note": ["good", ""]}))
    spec = job(source, str(sink), {"text": "note"}, sink_format="parquet")
    with pytest.raises(CommitError, match="committed first"):
        run_embed(spec, watch=lambda _: nullcontext(Rival(sink)))
    (row,) = read_result(f"{sink}_quarantine", "parquet").values()
    assert (row["id"], row["lb_error_code"]) == (2, "empty_text")


def test_a_job_whose_mlflow_goes_away_keeps_its_result(
    tmp_path: Path, mlflow_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise UnreachableError("MLflow does not answer")

    monkeypatch.setattr(Run, "metrics", away)
    write_source(str(tmp_path / "source"), "delta", pa.table({"id": [1], "note": ["a pump"]}))
    wanted = job(str(tmp_path / "source"), str(tmp_path / "sink"), {"text": "note"}, experiment="e")
    assert run_embed(wanted, tracking=Tracking(mlflow_database)).embedded == 1
    assert "the result is committed" in caplog.text
    assert_vectors(read_result(str(tmp_path / "sink"), "delta"), {1: Item.of("a pump")})


def test_a_job_is_a_run_in_mlflow_with_what_it_read_and_how_fast_it_was(
    tmp_path: Path, mlflow_database: str
) -> None:
    notes = pa.table({"id": range(50), "note": [words(row) for row in range(50)]})
    write_source(str(tmp_path / "source"), "delta", notes)
    tracking = Tracking(mlflow_database)
    wanted = job(str(tmp_path / "source"), str(tmp_path / "sink"), {"text": "note"}, experiment="e")
    report = run_embed(wanted, tracking=tracking)
    (record,) = tracking.finished("e", {"lakebed.run": report.run})
    assert record.id == report.tracking_run
    assert (record.metrics["rows"], record.params["source_version"]) == (50, "0")
    assert record.metrics["rows_per_second"] > 0
    assert record.metrics["rows_done"] == 50
    assert "throughput.png" in tracking.artifacts(record.id)


def test_what_ended_a_run_is_said_though_what_it_staged_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise TableError("sink: read-only file system")

    write_source(str(tmp_path / "source"), "parquet", pa.table({"id": range(4), "note": ["a", None, None, None]}))
    wanted = job(str(tmp_path / "source"), str(tmp_path / "sink"), {"text": "note"}, max_quarantined=0.1)
    monkeypatch.setattr(DeltaSink, "discard", refused)
    with pytest.raises(TooManyBadRowsError):
        run_embed(wanted)
    assert "read-only file system; `lakebed jobs clean` removes what is left of the run" in caplog.text
