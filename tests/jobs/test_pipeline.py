"""What is left of a pipeline that failed."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from tests.waiting import wait_until

from lakebed.jobs.output import POSITION
from lakebed.jobs.pipeline import UnitSource, resources, run_pipeline
from lakebed.jobs.plan import plan_job
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.units import whole_units
from lakebed.jobs.worker import Embedding
from lakebed.platform.config.embed import ColumnsConfig, ComputeConfig
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.errors import TableError
from lakebed.platform.lake.parquet import open_parquet


@pytest.mark.usefixtures("ray_cluster")
def test_encoders_of_a_failed_job_go_while_its_error_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    pq.write_table(
        pa.table({"id": range(400), "note": [f"pump {row}" for row in range(400)]}), tmp_path / "a.parquet"
    )
    source = open_parquet(str(tmp_path))
    units = whole_units(source.fragments)
    plan = plan_job(units, ComputeConfig(batch_rows=20, part_rows=20), resources())
    embedding = Embedding(
        resolve_model("tests.jobs.deadly_encoders:Slow"),
        RowMapping(ColumnsConfig(keys=("id",), text="note")),
        16,
        Budget(),
        1,
        "cpu",
    )

    def full(rows: pa.Table) -> Any:
        if rows.column(POSITION)[0].as_py() >= 100:
            raise TableError("no room", hint="make some")
        return None

    with pytest.raises(TableError, match="no room") as kept:
        list(run_pipeline(plan, UnitSource(source, units, ("id", "note"), 20), embedding, full, {}))
    wait_until(lambda: ray.available_resources().get("CPU", 0) == ray.cluster_resources()["CPU"])
    assert kept.value  # as long as this, the error is kept
