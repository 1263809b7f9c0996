"""Drift between versions of real tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakebed.eval.drift import Drift, find_drift, record
from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.errors import ColumnNotFoundError, ConfigError, EmptyTableError, LakebedError
from lakebed.platform.items import FloatArray
from lakebed.platform.lake.tables import open_table
from lakebed.platform.tracking import Tracking


def vectors(seed: int, rows: int = 300, shift: float = 0.0) -> FloatArray:
    made = np.random.default_rng(seed).standard_normal((rows, 8))
    made[:, 0] += shift
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def rows_of(found: FloatArray, first: int = 0, **columns: Any) -> pa.Table:
    ids = list(range(first, first + len(found)))
    extra = {name: [value] * len(ids) for name, value in columns.items()}
    kind = pa.list_(pa.float32())
    return pa.table({"id": ids, "embedding": pa.array(found.astype(np.float32).tolist(), kind), **extra})


def versions(folder: Path, *tables: pa.Table) -> TableConfig:
    """A Delta table whose versions hold these rows."""
    for table in tables:
        write_deltalake(str(folder), table, mode="overwrite")
    return TableConfig(uri=str(folder))


def drifted(table: TableConfig, **options: Any) -> Drift:
    return find_drift(table, 0, **{"permutations": 300, "sample": 300, **options})


def test_two_draws_of_one_distribution_have_not_drifted(tmp_path: Path) -> None:
    found = drifted(versions(tmp_path / "t", rows_of(vectors(1)), rows_of(vectors(2))))
    assert found.p > 0.05
    assert found.figures["far_share"] < 0.05
    assert found.figures["baseline_norm_mean"] == pytest.approx(1)


def test_a_shift_is_drift(tmp_path: Path) -> None:
    found = drifted(versions(tmp_path / "t", rows_of(vectors(1)), rows_of(vectors(2, shift=1.0))))
    assert found.p < 0.01
    assert found.figures["classifier_accuracy"] > 0.6


def test_rows_are_matched_by_key(tmp_path: Path) -> None:
    before = vectors(1)
    after = np.concatenate([before[50:], vectors(3, rows=20)])
    after[:10] = vectors(4, rows=10)
    found = drifted(versions(tmp_path / "t", rows_of(before), rows_of(after, first=50)), keys=["id"])
    assert found.changes is not None
    assert vars(found.changes) == {"added": 20, "removed": 50, "changed": 10, "same": 240}
    assert found.figures["vectors_new_share"] == pytest.approx(30 / 270)


def test_duplicates_and_missing_vectors_are_counted(tmp_path: Path) -> None:
    before = vectors(1, rows=100)
    twice = rows_of(np.concatenate([before, before[:25]]))
    empty = pa.table({"id": [999], "embedding": pa.array([None], pa.list_(pa.float32()))})
    found = drifted(versions(tmp_path / "t", rows_of(before), pa.concat_tables([twice, empty])))
    assert found.figures["baseline_duplicate_rate"] == 0
    assert found.figures["current_duplicate_rate"] == pytest.approx(25 / 125)
    assert found.figures["current_rows_without_vector"] == 1


def test_new_rows_that_drift_show_best_alone(tmp_path: Path) -> None:
    before = vectors(1, rows=2000)
    grown = np.concatenate([before, vectors(2, rows=40, shift=1.0)])
    table = versions(tmp_path / "t", rows_of(before), rows_of(grown))
    assert drifted(table).p > 0.05
    alone = drifted(table, only_new=True)
    assert alone.p < 0.05
    assert len(alone.current.sample) == 40


def test_one_models_vectors_are_compared(tmp_path: Path) -> None:
    both = pa.concat_tables(
        [rows_of(vectors(1), lb_model_digest="aaa"), rows_of(vectors(2, shift=3.0), lb_model_digest="bbb")]
    )
    table = versions(tmp_path / "t", rows_of(vectors(3), lb_model_digest="aaa"), both)
    assert drifted(table).current.rows == 300
    assert drifted(table).p > 0.05
    other = versions(tmp_path / "u", rows_of(vectors(3), lb_model_digest="old"), both)
    with pytest.raises(ConfigError, match="different models"):
        drifted(other)
    several = versions(tmp_path / "v", both, both)
    with pytest.raises(ConfigError, match="--digest"):
        drifted(several)
    assert drifted(several, digest="bb").current.rows == 300


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
def test_what_a_job_changed_in_a_table_of_another_format_is_told(tmp_path: Path, kind: str) -> None:
    sink = {"uri": "iceberg:lake.vectors" if kind == "iceberg" else str(tmp_path / "vectors"), "format": kind}
    table, seen = TableConfig.model_validate(sink), []
    for word, rows in (("pump", 40), ("fan", 60)):
        notes = pa.table({"id": range(rows), "note": [f"{word} {row}" for row in range(rows)]})
        write_deltalake(str(tmp_path / "source"), notes, mode="overwrite")
        fields = {
            "source": {"uri": str(tmp_path / "source")},
            "sink": sink,
            "model": "fake:16",
            "experiment": None,
        }
        run_embed(EmbedJob.parse({**fields, "columns": {"keys": ["id"], "text": "note"}}, where="test"))
        seen.append(int(open_table(table).version))
    found = find_drift(table, seen[0], keys=["id"], permutations=100)
    assert found.changes is not None
    assert vars(found.changes) == {"added": 20, "removed": 0, "changed": 40, "same": 0}


def test_the_same_seed_gives_the_same_figures_and_samples(tmp_path: Path) -> None:
    table = versions(tmp_path / "t", rows_of(vectors(1)), rows_of(vectors(2)))
    assert drifted(table, sample=50).figures == drifted(table, sample=50).figures
    assert drifted(table, sample=50, seed=1).figures != drifted(table, sample=50).figures


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    good = rows_of(vectors(1))
    table = versions(tmp_path / "t", good, rows_of(vectors(1)[:, :4]), rows_of(vectors(1, rows=5)))
    with pytest.raises(ConfigError, match="8 dimensions in version 0, of 4"):
        drifted(table.model_copy(update={"version": 1}))
    with pytest.raises(EmptyTableError, match="5 vectors, too few"):
        drifted(table)
    with pytest.raises(LakebedError, match="99"):
        find_drift(table, 99)
    with pytest.raises(ColumnNotFoundError, match="columns are id, embedding"):
        drifted(table, column="vector")
    with pytest.raises(ConfigError, match="no column of vectors"):
        drifted(table, column="id")
    with pytest.raises(ConfigError, match="is both"):
        find_drift(table.model_copy(update={"version": 0}), 0)
    broken = vectors(1)
    broken[3, 3] = np.nan
    with pytest.raises(LakebedError, match="not finite"):
        drifted(versions(tmp_path / "n", good, rows_of(broken)))


def test_drift_is_logged_with_both_versions_and_a_plot(tmp_path: Path, mlflow_database: str) -> None:
    tracking = Tracking(mlflow_database)
    found = drifted(versions(tmp_path / "t", rows_of(vectors(1)), rows_of(vectors(2))))
    run_id = record(found, tracking, {"seed": 0})
    logged = tracking.latest("lakebed-drift", {"lakebed.baseline": "0"})
    assert logged is not None
    assert (logged.id, logged.metrics["p"]) == (run_id, found.p)
    assert tracking.artifacts(run_id) == ["drift.png"]
    assert json.loads(json.dumps(dict(found.figures)))


def test_a_lance_dataset_of_fixed_size_vectors_is_read_too(tmp_path: Path) -> None:
    import lance

    for seed, shift in ((1, 0.0), (2, 1.0)):
        rows = rows_of(vectors(seed, shift=shift))
        kind = pa.list_(pa.float32(), 8)
        rows = rows.set_column(1, "embedding", rows.column("embedding").cast(kind))
        lance.write_dataset(rows, str(tmp_path / "t.lance"), mode="overwrite")
    found = find_drift(TableConfig(uri=str(tmp_path / "t.lance")), 1, permutations=200, keys=["id"])
    assert (found.baseline.version, found.current.version, found.p < 0.01) == ("1", "2", True)
    assert found.figures["rows_changed"] == 300


def test_vectors_of_a_job_are_compared_as_it_wrote_them(tmp_path: Path) -> None:
    columns = {"lb_model_digest": "a" * 64}
    for first in (0, 10):
        rows = rows_of(vectors(1)[first:], **columns)
        named = rows.append_column("lb_key", pa.array([f"k{first + number}" for number in range(len(rows))]))
        write_deltalake(str(tmp_path / "t"), named, mode="overwrite", partition_by=["lb_model_digest"])
    found = drifted(TableConfig(uri=str(tmp_path / "t")))
    assert found.changes is not None
    assert vars(found.changes) == {"added": 0, "removed": 10, "changed": 0, "same": 290}
    assert "content" in found.notes[0]
