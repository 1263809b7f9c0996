"""Jobs on some rows of a table, and on windows of a long one: they end, and go on, as any job does."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.jobs.embed import run_embed
from lakebed.jobs.progress import Note
from lakebed.jobs.report import EmbedReport
from lakebed.jobs.run_record import runs_at
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import ColumnNotFoundError
from lakebed.platform.items import Item, items_of

pytestmark = pytest.mark.usefixtures("ray_cluster")


def run(
    folder: Path,
    columns: dict[str, Any],
    source: dict[str, Any],
    note: Note = lambda _: None,
    **fields: Any,
) -> EmbedReport:
    values = {
        "source": {"uri": str(folder / "source"), **source},
        "sink": {"uri": str(folder / "sink")},
        "columns": columns,
        "model": "fake:16",
        "experiment": None,
        **fields,
    }
    return run_embed(EmbedJob.parse(values, where="job"), note=note)


def test_a_filter_chooses_rows_and_a_newer_version_brings_more(tmp_path: Path) -> None:
    def write(first: int, stop: int, mode: Any) -> None:
        rows = {"id": range(first, stop), "site": ["ab"[row % 2] for row in range(first, stop)]}
        write_deltalake(
            tmp_path / "source", pa.table({**rows, "note": [f"n {row}" for row in rows["id"]]}), mode=mode
        )

    columns, source = {"text": "{site}: {note}", "keys": ["id"]}, {"filter": "site == 'a' and id >= 4"}
    write(0, 20, "append")
    first = run(tmp_path, columns, source)
    assert (first.rows, first.embedded) == (8, 8)
    write(20, 30, "append")
    second = run(tmp_path, columns, source)
    assert (second.held, second.embedded, run(tmp_path, columns, source).nothing_new) == (8, 5, True)
    found = sorted(DeltaTable(tmp_path / "sink").to_pyarrow_table().to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(4, 30, 2))
    expected = encode(FakeEncoder(16), items_of([f"a: n {row['id']}" for row in found])).vectors
    np.testing.assert_allclose(np.array([row["embedding"] for row in found]), expected, atol=1e-6)


def test_a_filter_that_does_not_fit_the_table_is_said_before_any_work(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "source", pa.table({"id": [1], "note": ["n"]}))
    with pytest.raises(ColumnNotFoundError, match="nowhere"):
        run(tmp_path, {"text": "note"}, {"filter": "nowhere == 1"})


def test_windows_of_a_long_table_are_embedded_and_new_samples_cost_their_windows(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    samples = {pump: generator.standard_normal(250) for pump in ("p1", "p2")}

    def write(first: int, stop: int) -> None:
        tables = [
            pa.table({"pump": [pump] * (stop - first), "at": range(first, stop), "x": values[first:stop]})
            for pump, values in samples.items()
        ]
        write_deltalake(tmp_path / "source", pa.concat_tables(tables), mode="append")

    windows = {"entity": ["pump"], "time": "at", "channels": ["x"], "length": 50}
    fields = {"windows": windows, "sampling_rate": 1}
    write(0, 200)
    first = run(tmp_path, {}, {}, **fields)
    assert (first.rows, first.embedded) == (8, 8)
    write(200, 250)
    second = run(tmp_path, {}, {}, **fields)
    assert (second.held, second.embedded, second.removed) == (8, 2, 0)
    assert run(tmp_path, {}, {}, **fields).nothing_new
    rows = DeltaTable(tmp_path / "sink").to_pyarrow_table().to_pylist()
    assert len({(row["pump"], row["lb_window_start"]) for row in rows}) == len(rows) == 10
    for row in rows:
        start = row["lb_window_start"]
        series = samples[row["pump"]][start : start + 50]
        item = Item.of(None, [series.tolist()], None, 1)
        expected = encode(FakeEncoder(16), [item]).vectors[0]
        np.testing.assert_allclose(row["embedding"], expected, atol=1e-6)


def test_a_run_says_what_takes_time_and_is_known_to_be_at_work_while_it_cuts_windows(tmp_path: Path) -> None:
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        while all(record.state.outcome for record in runs_at(str(tmp_path / "sink"))):
            threading.Event().wait(0.01)  # between two looks: the ledger has a thread of its own

    windows = {"entity": ["pump"], "time": "at", "channels": ["x"], "length": 5}
    for rows in (10, 15):
        samples = pa.table({"pump": ["a"] * rows, "at": range(rows), "x": np.arange(rows, dtype=np.float64)})
        write_deltalake(tmp_path / "source", samples, mode="overwrite")
        run(tmp_path, {}, {}, note, windows=windows, sampling_rate=1)
    assert said == [
        "cutting windows from 10 samples",
        "cutting windows from 15 samples",
        "looking at what the tables hold",
        "comparing 3 rows with those that the table holds",
    ]
    first, second = (record.plan for record in reversed(runs_at(str(tmp_path / "sink"))))
    assert [(plan.rows, plan.held, plan.preliminary) for plan in (first, second)] == [(2, 0, False), (1, 2, False)]
