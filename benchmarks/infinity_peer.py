"""The peer endpoint, infinity_emb with its torch engine, in a virtual environment of its own under a cache folder.

It needs older packages than lakebed, so it is installed apart, from `infinity_requirements.txt`. It serves the
text weights that the packaged model reads, under the path and the model name of our own endpoint. Its settings are
its own defaults but for BetterTransformer, which has gone from torch, and the access log, since ours writes none.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.peer_environment import variables

REQUIREMENTS = Path(__file__).with_name("infinity_requirements.txt")
READY_SECONDS = 180
POLL_SECONDS = 0.2


@contextmanager
def running_infinity(folder: Path, weights: Path, model: str, port: int) -> Iterator[int]:
    """Serve the sentence-transformers folder `weights` as `model` at /v1 on loopback; yields the process's id.

    `folder` is a virtual environment of REQUIREMENTS. Raises RuntimeError with the end of the server's log if it
    does not start.
    """
    with tempfile.TemporaryDirectory(prefix="lakebed-infinity-") as home:
        log = Path(home) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(folder / "bin" / "infinity_emb"), *_arguments(weights, model, port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**variables(), "INFINITY_ANONYMOUS_USAGE_STATS": "0", "INFINITY_HOME": home},
                cwd=home,
            )
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def _arguments(weights: Path, model: str, port: int) -> list[str]:
    options = {
        "model-id": str(weights),
        "served-model-name": model,
        "engine": "torch",
        "device": "cpu",
        "host": "127.0.0.1",
        "port": str(port),
        "url-prefix": "/v1",
        "log-level": "warning",
    }
    return [
        "v2",
        "--no-bettertransformer",
        *(part for name, value in options.items() for part in (f"--{name}", value)),
    ]


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < give_up and process.poll() is None:
            try:
                if client.get(url).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(POLL_SECONDS)
    raise RuntimeError(f"infinity_emb did not start: {log.read_text(errors='replace')[-2000:]}")
