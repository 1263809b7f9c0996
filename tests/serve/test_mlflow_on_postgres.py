"""An evaluation logged to `mlflow server` on PostgreSQL with artifacts on S3; in this folder for its database."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text
from tests.conftest import S3Bucket

from lakebed.eval.catalogue import find_suite
from lakebed.eval.record import EXPERIMENT, evaluate_and_record
from lakebed.eval.subject import resolve_subject
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking


@pytest.fixture
def shared_mlflow(postgres: str, s3: S3Bucket, tmp_path: Path, free_port: int) -> Iterator[str]:
    """Run an MLflow server as a team does: only the server reaches database and bucket; yields its URL."""
    name = f"mlflow_{uuid.uuid4().hex}"
    engine = create_engine(f"{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(free_port)]
    command += ["--workers", "1", "--backend-store-uri", f"{postgres}/{name}"]
    command += ["--artifacts-destination", s3.uri("mlflow")]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_healthy(f"http://127.0.0.1:{free_port}", server, tmp_path / "log")
        yield f"http://127.0.0.1:{free_port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _wait_until_healthy(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)  # between two looks at the condition


def test_an_evaluation_is_whole_on_a_server_with_postgres_and_s3(
    shared_mlflow: str, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # whoever evaluates needs no key to the bucket
        monkeypatch.delenv(variable)
    registry, tracking = Registry(shared_mlflow), Tracking(shared_mlflow)
    suite = find_suite("smoke").with_options(names=("BasicMotions",))
    subject = resolve_subject("fake:64", registry)
    done = evaluate_and_record(subject, suite, label="smoke", tracking=tracking, registry=registry)
    [run] = tracking.finished(EXPERIMENT, subject.tags)
    assert run.id == done.run_id
    assert {key: run.metrics[key] for key in done.figures} == pytest.approx(done.figures)
    assert tracking.table(run.id, "scores.parquet").num_rows == 3 * 40
    again = evaluate_and_record(subject, suite, label="smoke", tracking=tracking, registry=registry)
    assert again.run_id == run.id
    assert again.earlier is not None
