"""What tests of several parts share: one local Ray, a real S3 server, a real MLflow server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from lakebed.cli.app import quiet_libraries
from lakebed.platform.cluster import SYSTEM_CONFIG

SHARED: Final = ("server", "mlflow_server")
"""Fixtures of several files that take long to start: all tests that need one run in one process.

Not `ray_cluster`, which half of all work needs: each of two processes starts its own, once.
"""

LONG: Final = ("serve", "jobs")
"""Folders of long tests, which begin first, so that short ones fill up what is left at the end."""

AWS_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "lakebed-test",
    "AWS_SECRET_ACCESS_KEY": "lakebed-test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def pytest_configure() -> None:
    """Set what the command line sets before any library is imported."""
    quiet_libraries()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests belong together when halves of them run beside each other (`--dist loadgroup`)."""
    for item in items:
        needs = getattr(item, "fixturenames", ())
        group = next((name for name in SHARED if name in needs), _file_of(item).as_posix())
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _file_of(item).parts[0] not in LONG)


def _file_of(item: pytest.Item) -> Path:
    return item.path.relative_to(Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Call a test by its own name again, by which `--last-failed` finds it; the scheduler appends the group's."""
    name, _, group = report.nodeid.rpartition("@")
    if group in SHARED or group.endswith(".py"):
        report.nodeid = name


@pytest.fixture(autouse=True)
def lakebed_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test's state (MLflow database, key store) in a folder of its own."""
    home = tmp_path / "lakebed-home"
    monkeypatch.setenv("LAKEBED_HOME", str(home))
    for variable in ("LAKEBED_TRACKING_URI", "MLFLOW_TRACKING_URI", "LAKEBED_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    return home


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Start one embedded Ray with 2 CPUs for the whole session; yields its address."""
    import ray

    # Socket paths may have 107 bytes, so the folder is short; Ray writes to it until its last process ends.
    with tempfile.TemporaryDirectory(prefix="lb", dir="/tmp", ignore_cleanup_errors=True) as folder:
        context = ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=256 * 1024**2,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=folder,
            _system_config=dict(SYSTEM_CONFIG),  # as an embedded Ray of lakebed's has it
        )
        yield str(context.address_info["address"])
        ray.shutdown()


@dataclass(frozen=True)
class S3Bucket:
    """An empty bucket on a real HTTP server that speaks S3; the AWS variables point at it."""

    endpoint: str
    name: str

    def uri(self, path: str) -> str:
        """Return the s3:// URI of a path in the bucket."""
        return f"s3://{self.name}/{path}"


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve S3 on a free port of loopback for the whole session.

    In a process of its own: delta-rs holds the interpreter while it waits for some answers, so a server on a
    thread of this one would never give them.
    """
    log_path = tmp_path_factory.mktemp("s3") / "log"
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log_path.open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for_answer(f"{url}/moto-api/", server, log_path)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """Make an empty bucket, and point this process's AWS variables at the server that holds it."""
    import boto3

    for variable, value in {**AWS_VARIABLES, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(variable, value)
    for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(variable, raising=False)
    name = f"lake-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    return S3Bucket(s3_endpoint, name)


@pytest.fixture
def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tables of MLflow's database once: that takes seconds."""
    from lakebed.platform.mlflow_store import MlflowStore

    database = tmp_path_factory.mktemp("mlflow-template") / "mlflow.db"
    assert MlflowStore(f"sqlite:///{database}").client
    return database


@pytest.fixture
def mlflow_database(_mlflow_template: Path, tmp_path: Path) -> str:
    """Return the URI of an empty SQLite store of this test's own, in `tmp_path / "store"`."""
    store = tmp_path / "store"
    store.mkdir()
    shutil.copyfile(_mlflow_template, store / "mlflow.db")
    return f"sqlite:///{store}/mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real MLflow server on a free port for the whole session; yields its URL."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # Seven processes of its own, for evaluations of language models that nothing here asks for.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for_answer(f"{url}/health", server, folder / "log")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _wait_for_answer(url: str, server: "subprocess.Popen[bytes]", log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)  # between two looks at the condition


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Name a place for a table, on each kind of store in turn."""
    if request.param == "local":
        return lambda name: str(tmp_path / name)
    bucket: S3Bucket = request.getfixturevalue("s3")
    return bucket.uri


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command of a headless Chromium that asks for nothing by itself."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        reason = "no Chromium is installed here: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    profile = tmp_path_factory.mktemp("chromium")
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    options = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{part}" for part in quiet)]
    return [chromium, *options, f"--user-data-dir={profile}", "--virtual-time-budget=20000"]


@pytest.fixture(scope="session")
def page_in_a_browser(_chromium: list[str]) -> Callable[[str], str]:
    """Load an address in headless Chromium; gives the page as HTML once its scripts have run."""

    def load(address: str) -> str:
        command = [*_chromium, "--dump-dom", address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return load


@pytest.fixture(scope="session")
def picture_in_a_browser(_chromium: list[str]) -> Callable[[Path, Path], str]:
    """Write a picture of a page's first 1000 x 1600 pixels; gives what the browser had to say about the page."""

    def draw(page: Path, picture: Path) -> str:
        size = ["--window-size=1000,1600", "--force-device-scale-factor=1", "--enable-logging=stderr"]
        command = [*_chromium, *size, f"--screenshot={picture}", page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr

    return draw
