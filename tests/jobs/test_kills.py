"""Drivers that are killed, at any moment and at the worst ones; then every row is there once.

LAKEBED_KILLS says how many moments are tried; the default keeps the whole test suite short.
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
from deltalake import DeltaTable, write_deltalake

from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import items_of
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.parquet import open_parquet

KILLS: Final = int(os.environ.get("LAKEBED_KILLS", "2"))
ROWS: Final = 600

DRIVER: Final = """
import os, sys
from pathlib import Path
from lakebed.cli.app import quiet_libraries
quiet_libraries()
from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.lake.delta import DeltaSink
from lakebed.platform.lake.parquet import ParquetSink

def die(*_):
    os.kill(os.getpid(), 9)

moment, job = sys.argv[1], EmbedJob.model_validate_json(Path(sys.argv[2]).read_text())
kind = {"delta": DeltaSink, "parquet": ParquetSink}[job.sink.format]
real = kind.commit
if moment == "before":
    kind.commit = die
if moment == "after":
    kind.commit = lambda *arguments: die(real(*arguments))
print("ready", flush=True)
run_embed(job)
"""


def note(row: int) -> str | None:
    return None if row % 50 == 7 else f"a pump {row}"


def job_in(folder: Path, kind: str, address: str) -> EmbedJob:
    rows = pa.table({"id": range(ROWS), "note": pa.array([note(row) for row in range(ROWS)], pa.string())})
    for start in range(0, ROWS, 150):
        write_deltalake(folder / "source", rows.slice(start, 150), mode="append")
    values = {
        "source": {"uri": str(folder / "source")},
        "sink": {"uri": str(folder / "sink"), "format": kind},
        "columns": {"keys": ["id"], "text": "note"},
        "model": "fake:16",
        "experiment": None,
        "compute": {"batch_rows": 20, "part_rows": 20, "commit_seconds": 0.05},
        "cluster": {"address": address},
    }
    return EmbedJob.parse(values, where="job")


def killed_driver(folder: Path, job: EmbedJob, moment: str, after: float | None = None) -> None:
    """Run a driver that kills itself at a moment, or is killed so many seconds after it has begun."""
    (folder / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-c", DRIVER, moment, str(folder / "job.json")]
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


def read(uri: str, kind: str) -> pa.Table:
    return DeltaTable(uri).to_pyarrow_table() if kind == "delta" else read_all(open_parquet(uri))


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_a_driver_that_is_killed_at_any_moment_loses_and_doubles_no_row(
    tmp_path: Path, kind: str, ray_cluster: str
) -> None:
    job, moments = job_in(tmp_path, kind, ray_cluster), random.Random(kind)
    killed_driver(tmp_path, job, "before")
    killed_driver(tmp_path, job, "after")
    for _ in range(KILLS):
        killed_driver(tmp_path, job, "random", moments.uniform(0.5, 4))
    run_embed(job)
    rows = sorted(read(job.sink.uri, kind).select(["id", "embedding"]).to_pylist(), key=lambda row: row["id"])
    good = [row for row in range(ROWS) if note(row)]
    assert [row["id"] for row in rows] == good
    expected = encode(FakeEncoder(16), items_of([note(row) for row in good])).vectors
    np.testing.assert_allclose(np.array([row["embedding"] for row in rows]), expected, atol=1e-6)
    quarantined = read(job.quarantine_table.uri, kind)["id"].to_pylist()
    assert sorted(quarantined) == [row for row in range(ROWS) if not note(row)]
