"""The servers of the endpoint benchmark: starting ours and the peer's, sending load, watching processes."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from benchmarks.endpoint_load import Group, Outcome, Plan, Tally, read_outcome
from benchmarks.infinity_peer import running_infinity
from lakebed.platform.config.serve import ServeConfig
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server

ROOT = Path(__file__).parents[1]
HOST, PATH = "127.0.0.1", "/v1/embeddings"
SAMPLES = 4
WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Server:
    """A server under test: its port on loopback, and its first process."""

    port: int
    process: psutil.Process

    def processes(self) -> list[psutil.Process]:
        """All its processes of this moment."""
        return [self.process, *self.process.children(recursive=True)]

    def load(self, groups: Mapping[str, Group], seconds: float, probe: str | None = None) -> Outcome:
        """Send load from a process of its own; every answer is waited for."""
        plan = Plan(HOST, self.port, PATH, seconds, dict(groups), SAMPLES, probe=probe)
        with tempfile.TemporaryDirectory(prefix="lakebed-load-") as folder:
            files = [Path(folder) / "plan.json", Path(folder) / "outcome.json"]
            files[0].write_bytes(orjson.dumps(plan))
            command = [sys.executable, "-m", "benchmarks.endpoint_load", *map(str, files)]
            subprocess.run(command, cwd=ROOT, check=True)
            return read_outcome(files[1].read_bytes())


@contextmanager
def our_server(model: str) -> Iterator[Server]:
    """`lakebed serve` as it comes, without keys, and with an empty registry."""
    with tempfile.TemporaryDirectory(prefix="lakebed-home-") as home:
        config = ServeConfig(port=free_port(), models={model: model}, require_keys=False)
        with running_server(config, environment={**os.environ, "LAKEBED_HOME": home}):
            (process,) = (child for child in psutil.Process().children() if "lakebed" in child.cmdline())
            yield Server(config.port, process)


@contextmanager
def peer_server(environment: Path, weights: Path, model: str) -> Iterator[Server]:
    """infinity_emb with the same text weights under the same name."""
    port = free_port()
    with running_infinity(environment, weights, model, port) as pid:
        yield Server(port, psutil.Process(pid))


def answered(tally: Tally) -> Tally:
    """Return a tally of which every request was answered; raises RuntimeError for another."""
    if tally.failures or tally.unanswered or set(tally.statuses) - {"200"}:
        raise RuntimeError(
            f"not every request was answered: {tally.statuses}, {tally.failures}, {tally.unanswered}"
        )
    return tally


def cpu_seconds(server: Server) -> dict[str, float]:
    """Processor time that each process has used, by name and id; of the ended ones nothing is known."""
    used = {}
    for process in server.processes():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[f"{process.name()} {process.pid}"] = times.user + times.system
    return used


def idle_cores(server: Server, seconds: float) -> float:
    """Cores that a server takes while nobody asks anything of it."""
    before = cpu_seconds(server)
    time.sleep(seconds)
    after = cpu_seconds(server)
    return sum(used - before.get(name, used) for name, used in after.items()) / seconds


@dataclass
class Memory:
    """Resident memory of all of a server's processes in MiB, at moments."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def peak(self, start: float, stop: float) -> float:
        """The largest between two moments of the monotonic clock."""
        return max(size for moment, size in self.samples if start <= moment <= stop)


@contextmanager
def memory_watched(server: Server) -> Iterator[Memory]:
    """Sample memory in the background while the block runs."""
    memory, stop = Memory([(time.monotonic(), _resident(server))]), threading.Event()

    def watch() -> None:
        while not stop.wait(WATCH_SECONDS):
            memory.samples.append((time.monotonic(), _resident(server)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()


def _resident(server: Server) -> float:
    total = 0
    for process in server.processes():
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 2**20
