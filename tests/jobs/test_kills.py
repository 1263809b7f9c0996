"""Drivers that are killed, at any moment and at the worst ones; then every row is there once, whatever the sink.

LAKEBED_KILLS says how many random moments are tried for each, beside those before and after a commit; the default
keeps the whole test suite short.
"""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tests.jobs.plain_readers import read_plainly

from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import items_of

WORST: Final = ("before", "after")
MOMENTS: Final = {
    "delta": (*WORST, "random"),
    "parquet": ("after", "random"),
    "iceberg": ("after",),
    "lance": ("after",),
}
ROWS: Final = 600
SINKS: Final = {
    "delta": "lakebed.platform.lake.delta:DeltaSink",
    "parquet": "lakebed.platform.lake.parquet:ParquetSink",
    "iceberg": "lakebed.platform.lake.iceberg_sink:IcebergSink",
    "lance": "lakebed.platform.lake.lance_sink:LanceSink",
}

DRIVER: Final = """
import os, sys
from pathlib import Path
from pkgutil import resolve_name
from lakebed.cli.app import quiet_libraries
quiet_libraries()
from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob

def die(*_):
    os.kill(os.getpid(), 9)

moment, sink = sys.argv[1], resolve_name(sys.argv[2])
real, commits = sink.commit, []

def third(*arguments):
    commits.append(real(*arguments))
    return commits[-1] if len(commits) < 3 else die()

if moment == "before":
    sink.commit = die
if moment == "after":
    sink.commit = third
print("ready", flush=True)
run_embed(EmbedJob.model_validate_json(Path(sys.argv[3]).read_text()))
"""


def note(row: int) -> str | None:
    return None if row % 50 == 7 else f"a pump {row}"


def job_in(folder: Path, kind: str, address: str) -> EmbedJob:
    rows = pa.table({"id": range(ROWS), "note": pa.array([note(row) for row in range(ROWS)], pa.string())})
    for start in range(0, ROWS, 150):
        write_deltalake(folder / "source", rows.slice(start, 150), mode="append")
    values = {
        "source": {"uri": str(folder / "source")},
        "sink": {"uri": "iceberg:lake.sink" if kind == "iceberg" else str(folder / "sink"), "format": kind},
        "columns": {"keys": ["id"], "text": "note"},
        "model": "fake:16",
        "experiment": None,
        "compute": {"batch_rows": 20, "part_rows": 20, "commit_seconds": 0.05},
        "cluster": {"address": address},
    }
    return EmbedJob.parse(values, where="job")


def killed_driver(folder: Path, job: EmbedJob, moment: str, after: float | None = None) -> None:
    """Run a driver that kills itself `before` its first commit or `after` its third, or is killed so many seconds
    after it has begun."""
    (folder / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-c", DRIVER, moment, SINKS[job.sink.format], str(folder / "job.json")]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert driver.stdout
    assert driver.stdout.readline() == "ready\n"
    if after is None:
        assert driver.wait(120) == -9
        return
    try:
        driver.wait(after)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()


@pytest.mark.parametrize("kind", SINKS)
def test_a_driver_that_is_killed_at_any_moment_loses_and_doubles_no_row(
    tmp_path: Path, kind: str, ray_cluster: str
) -> None:
    job, moments = job_in(tmp_path, kind, ray_cluster), random.Random(kind)
    kills = os.environ.get("LAKEBED_KILLS")
    for moment in (*WORST, *["random"] * int(kills)) if kills else MOMENTS[kind]:
        killed_driver(tmp_path, job, moment, moments.uniform(0.5, 4) if moment == "random" else None)
    run_embed(job)
    result, quarantined = (read_plainly(table.uri, kind) for table in (job.sink, job.quarantine_table))
    assert result is not None
    assert quarantined is not None
    rows = sorted(result.select(["id", "embedding"]).to_pylist(), key=lambda row: row["id"])
    good = [row for row in range(ROWS) if note(row)]
    assert [row["id"] for row in rows] == good
    expected = encode(FakeEncoder(16), items_of([note(row) for row in good])).vectors
    np.testing.assert_allclose(np.array([row["embedding"] for row in rows]), expected, atol=1e-6)
    assert sorted(quarantined["id"].to_pylist()) == [row for row in range(ROWS) if not note(row)]
