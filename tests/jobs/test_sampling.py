from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakebed.jobs.sampling import sample
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.tables import open_table


def table(folder: Path, files: int, rows: int) -> Snapshot:
    folder.mkdir()
    for file in range(files):
        pq.write_table(pa.table({"id": range(file * rows, (file + 1) * rows)}), folder / f"{file}.parquet")
    return open_table(TableConfig(uri=str(folder)))


def ids(snapshot: Snapshot, places: int, rows: int, seed: int = 0) -> list[list[int]]:
    return [found["id"].to_pylist() for found in sample(snapshot, ["id"], places, rows, seed)]


def test_samples_come_from_all_over_the_table(tmp_path: Path) -> None:
    found = ids(table(tmp_path / "t", files=4, rows=1000), places=8, rows=10)
    assert len(found) == 8
    assert all(len(rows) == 10 for rows in found)
    assert {rows[0] // 1000 for rows in found} == {0, 1, 2, 3}
    assert len({rows[0] // 500 for rows in found}) >= 7, "one from each share of the table"


def test_no_row_is_sampled_twice_and_a_small_table_is_sampled_whole(tmp_path: Path) -> None:
    found = sorted(row for rows in ids(table(tmp_path / "t", files=2, rows=25), places=8, rows=10) for row in rows)
    assert found == list(range(50))


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    snapshot = table(tmp_path / "t", files=3, rows=1000)
    assert ids(snapshot, 4, 10, seed=1) == ids(snapshot, 4, 10, seed=1) != ids(snapshot, 4, 10, seed=2)


def test_rows_deep_inside_large_files_are_not_reached_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = table(tmp_path / "t", files=1, rows=10_000)
    monkeypatch.setattr("lakebed.jobs.sampling.SKIPPED_BYTES", snapshot.fragments[0].size // 10)
    assert max(row for rows in ids(snapshot, 8, 10) for row in rows) < 1100
