"""`lakebed backfill`: a table gets another model's vectors, and loses the old ones when that is asked for."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from lakebed.cli.app import app
from lakebed.jobs.backfill import job_of_table, remove_other_models
from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.errors import CommitError, TableNotFoundError

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_table_is_brought_to_another_model_by_its_name_alone(tmp_path: Path) -> None:
    rows = pa.table({"id": range(20), "note": [f"note {row}" if row else None for row in range(20)]})
    write_deltalake(tmp_path / "source", rows)
    sink = SinkConfig(uri=str(tmp_path / "sink"))
    values = {
        "source": {"uri": str(tmp_path / "source"), "filter": "id < 15"},
        "sink": {"uri": sink.uri},
        "columns": {"text": "note", "keys": ["id"]},
        "dimensions": 16,
        "model": "fake:16",
        "experiment": None,
    }
    first = EmbedJob.parse(values, where="job")
    run_embed(first)
    told = job_of_table(sink, "fake:32")
    assert told.key == first.key
    with pytest.raises(CommitError, match="not all there"):
        remove_other_models(told, FakeEncoder(32).info.digest, "0")
    done = CliRunner().invoke(app, ["backfill", sink.uri, "--model", "fake:32", "--no-track", "--remove-others"])
    assert done.exit_code == 0, done.output
    assert "14 rows of model" in done.output
    found = DeltaTable(sink.uri).to_pyarrow_table()
    assert sorted(found["id"].to_pylist()) == list(range(1, 15))
    assert set(found["lb_model_digest"].to_pylist()) == {FakeEncoder(32).info.digest}
    bad = DeltaTable(f"{sink.uri}_quarantine").to_pyarrow_table()
    assert bad["lb_model_digest"].to_pylist() == [FakeEncoder(32).info.digest]
    assert len(DeltaTable(sink.uri, version=1).to_pyarrow_table()) == 28


def test_a_table_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match="no table of vectors"):
        job_of_table(SinkConfig(uri=str(tmp_path / "nowhere")), "fake:32")
