"""The peer endpoint, infinity_emb with its torch engine, in a virtual environment of its own under a cache folder.

It needs older packages than lakebed, so it is installed apart, on first use, from `infinity_requirements.txt`. It
serves the text weights that the packaged model reads, under the path and the model name of our own endpoint. Its
settings are its own defaults but for BetterTransformer, which has gone from torch, and the access log, since ours
writes none.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

REQUIREMENTS = Path(__file__).with_name("infinity_requirements.txt")
READY_SECONDS = 180
POLL_SECONDS = 0.2


class PeerMissingError(RuntimeError):
    """The peer is not installed and cannot be, for want of a network for example."""


def environment() -> Path:
    """Return the virtual environment's folder, made if need be; raises PeerMissingError with pip's last words."""
    folder = cache_folder() / "infinity"
    done = folder / "installed.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return folder
    print(f"installing infinity_emb into {folder}")
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([str(folder / "bin" / "pip"), "install", "--quiet", "--requirement", str(REQUIREMENTS)])
    done.write_text(wanted, encoding="utf-8")
    return folder


def cache_folder() -> Path:
    """Where benchmarks keep what they need not make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakebed" / "benchmarks"


@contextmanager
def running_infinity(folder: Path, weights: Path, model: str, port: int) -> Iterator[int]:
    """Serve the sentence-transformers folder `weights` as `model` at /v1 on loopback; yields the process's id.

    `folder` is the virtual environment. Raises RuntimeError with the end of the server's log if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="lakebed-infinity-") as home:
        log = Path(home) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(folder / "bin" / "infinity_emb"), *_arguments(weights, model, port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_variables(home),
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


def _variables(home: str) -> dict[str, str]:
    """This process's environment without what is meant for our own libraries; nothing phones home."""
    ours = ("PYTHON", "OMP_", "TOKENIZERS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    quiet = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    return {**inherited, **quiet, "INFINITY_HOME": home}


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


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissingError(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-1000:]}")
