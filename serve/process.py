"""A server in a process of its own, for tests, demonstrations and benchmarks."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import yaml

from lakebed.platform.config.serve import ServeConfig
from lakebed.serve.errors import ServerError
from lakebed.serve.server import base_url

_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 60


@contextmanager
def running_server(
    config: ServeConfig, *, environment: Mapping[str, str] | None = None, timeout: float = 180
) -> Iterator[str]:
    """Run `lakebed serve` until the block ends; yields its base URL, such as http://127.0.0.1:8000.

    `environment` replaces this process's. Raises ServerError with what the server printed if it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="lakebed-server-") as folder:
        path, log = Path(folder) / "serve.yaml", Path(folder) / "server.log"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lakebed", "serve", "--config", str(path)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                start_new_session=True,  # a Ctrl-C in the terminal is for us, and we stop it
            )
        try:
            _wait_until_ready(process, base_url(config), log, timeout)
            yield base_url(config)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a server to end and wait for it; returns its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, timeout: float) -> None:
    give_up = time.monotonic() + timeout
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < give_up:
            if process.poll() is not None:
                break
            try:
                if client.get(f"{url}/healthz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(_POLL_SECONDS)
    raise ServerError(f"no server at {url}: {log.read_text(errors='replace').strip() or 'it printed nothing'}")
