"""Jobs sent to a real cluster, started by `ray start --head` with tokens on, as a laptop would send them."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.cli.app import main
from lakebed.jobs.embed import run_embed
from lakebed.jobs.launch import Cluster
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import packaged_model, resolve_model
from lakebed.platform.errors import JobFailedError, JobNotFoundError, UnreachableError

TOKEN = secrets.token_hex(32)


@pytest.fixture(scope="module")
def cluster_address() -> Iterator[str]:
    """Start a cluster of one node on free ports, in a folder of its own; end it by its processes' ids."""
    ports = free_ports(5)
    with tempfile.TemporaryDirectory(prefix="lb", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2",
            f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}",
            f"--ray-client-server-port={ports[3]}", f"--metrics-export-port={ports[4]}",
            "--object-store-memory=150000000", f"--temp-dir={folder}", "--disable-usage-stats",
        ]  # fmt: skip
        with (Path(folder) / "start.log").open("w") as log:
            head = subprocess.Popen(command, env=cluster_environment(), stdout=log, stderr=log)
        address = f"http://127.0.0.1:{ports[1]}"
        try:
            wait_for_cluster(address, head, Path(folder) / "start.log")
            yield address
        finally:
            end(head)


def cluster_environment() -> dict[str, str]:
    """The cluster's environment: its Python first on the path, tokens on; nothing of this test's."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **kept,
        "PATH": path,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "LAKEBED_HOME": "/nonexistent",
    }


def free_ports(count: int) -> list[int]:
    import socket

    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for_cluster(address: str, head: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    headers = {"Authorization": f"Bearer {TOKEN}"}
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/api/jobs/", headers=headers, timeout=10).status_code == 200:
                return
        assert head.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)  # between two looks at the condition


def end(head: "subprocess.Popen[bytes]") -> None:
    processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    head.wait(timeout=30)
    psutil.wait_procs(processes, timeout=30)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


def job_at(folder: Path, sink: str, text: str = "note", rows: int = 500) -> EmbedJob:
    if not (folder / "source").exists():
        notes = pa.table({"id": range(rows), "note": [f"note {row} " * (1 + row % 5) for row in range(rows)]})
        write_deltalake(folder / "source", notes)
    fields = {
        "source": {"uri": str(folder / "source")},
        "columns": {"text": text, "keys": ["id"]},
        "sink": {"uri": str(folder / sink)},
        "model": "fake:16",
        "experiment": None,
    }
    return EmbedJob.parse(fields, where="job")


def result(folder: Path, sink: str) -> dict[int, tuple[str, list[float]]]:
    rows = DeltaTable(folder / sink).to_pyarrow_table().to_pylist()
    found = {row["id"]: (row["lb_key"], row["embedding"]) for row in rows}
    assert len(found) == len(rows)
    return found


def lineage(folder: Path, sink: str) -> set[tuple[str, int, str]]:
    columns = ["lb_model", "lb_model_version", "lb_model_digest"]
    table = DeltaTable(folder / sink).to_pyarrow_table(columns=columns)
    return set(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


@pytest.mark.usefixtures("ray_cluster")
def test_a_submitted_job_gives_what_a_local_one_gives_and_a_model_that_lies_only_here_goes_along(
    tmp_path: Path, cluster_address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(packaged_model(), tmp_path / "mine@3")
    for sink in ("remote", "local"):
        fields = job_at(tmp_path, sink, rows=40).model_copy(
            update={"model": str(tmp_path / "mine@3"), "dimensions": 32, "experiment": "e"}
        )
        (tmp_path / f"{sink}.yaml").write_text(fields.model_dump_json(exclude_defaults=True))
    monkeypatch.setattr(
        sys, "argv", ["lakebed", "submit", str(tmp_path / "remote.yaml"), "--address", cluster_address]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "40 embedded" in said.out + said.err
    assert [job.status for job in Cluster(cluster_address).jobs()] == ["SUCCEEDED"]
    run_embed(EmbedJob.from_yaml(tmp_path / "local.yaml"))
    remote, local = result(tmp_path, "remote"), result(tmp_path, "local")
    assert remote.keys() == local.keys()
    similarity = [np.dot(remote[key][1], local[key][1]) for key in local]
    assert min(similarity) > 0.9999
    made_by = {("mine", 3, resolve_model("lakebed-embed").digest)}
    assert lineage(tmp_path, "remote") == lineage(tmp_path, "local") == made_by


def test_a_job_that_fails_there_fails_here_with_its_own_words(tmp_path: Path, cluster_address: str) -> None:
    cluster = Cluster(cluster_address)
    job_id = cluster.submit(job_at(tmp_path, "remote", text="nope"), resolve_model("fake:16"))
    with pytest.raises(JobFailedError, match=rf"job {job_id} failed: .*no column 'nope'"):
        cluster.follow(job_id, lambda _: None)
    assert cluster.job(job_id).status == "FAILED"
    assert "no column 'nope'" in cluster.logs(job_id)


def test_a_stopped_job_leaves_nothing(
    tmp_path: Path, cluster_address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = Cluster(cluster_address).submit(job_at(tmp_path, "remote"), resolve_model("fake:16"))
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["lakebed", "jobs", "stop", job_id, "--address", cluster_address])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == "STOPPED"
    assert not DeltaTable.is_deltatable(str(tmp_path / "remote"))


@pytest.mark.parametrize("ask", [Cluster.job, Cluster.logs, Cluster.stop], ids=["status", "logs", "stop"])
def test_an_unknown_job_is_said_to_be_unknown(cluster_address: str, ask: Callable[[Cluster, str], object]) -> None:
    with pytest.raises(JobNotFoundError, match="no job 'nope'"):
        ask(Cluster(cluster_address), "nope")


def test_a_wrong_token_is_said_to_be_wrong(cluster_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(UnreachableError, match="wants another token"):
        Cluster(cluster_address)
