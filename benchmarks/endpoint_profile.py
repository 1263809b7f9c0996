"""Where the milliseconds of a request go: processor time by process, and in the replica by thread and by stage.

    python -m benchmarks.endpoint_profile --seconds 20

Loads of one kind after the other, texts and signals, on one connection and on sixteen. The kernel says how much
time each thread of the replica used; py-spy samples what Python threads are at, which divides a thread's time
among the stages: the innermost frame that a stage knows decides. Both hold on a busy machine; elapsed time does
not. Time of threads that Python does not know, and of those that ended meanwhile, is what else the replica
used: torch's and Ray's own threads, and the signal tower's. The median latency is also measured at the
replica's own port, past HAProxy. Prints one table in Markdown. Knows the names of our functions, not how long
they should take.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.endpoint_load import Group, Tally
from benchmarks.endpoint_requests import MODEL, Requests, write_requests
from benchmarks.endpoint_servers import Server, answered, cpu_seconds, our_server
from benchmarks.machine import arguments
from lakebed.platform.machine import machine

SAMPLES_PER_SECOND = 100
LOADS = (("one", 1), ("single", 16), ("batch32", 1), ("batch32", 16), ("signals", 1), ("signals", 16))
WAITING = re.compile(
    r"_worker \(concurrent/futures/thread\.py:81\)|Thread\.run |main_loop|\bwait|_poll_wrapper|Selector|acquire"
)
"""The innermost frame of a thread that waits. Of the event loop's thread that is the loop's own C code as well."""

STAGES = (
    ("read the request, write the answer", r"read_request|embeddings_body|\(wire\.py|\(protocol\.py"),
    ("make items", r"\(inputs\.py|\(items\.py|\(series\.py"),
    ("tokenize", r"tokenize|TextTower\.tokenize"),
    ("prepare, the rest", r"\.prepare|prepare_channels|Service\._prepare"),
    ("gather", r"concat|\.take|Scheduler\._gather"),
    ("forward", r"\.forward|\(bert\.py|\(description\.py|\(convolution\.py"),
    ("finish", r"\.finish|truncate"),
    ("schedule and admit", r"\(scheduler\.py|\(batch_queue\.py|\(admission\.py"),
    ("routes and service", r"\(embeddings\.py|\(service\.py|\(auth\.py"),
    ("FastAPI, Starlette, uvicorn", r"\(fastapi/|\(starlette/|\(uvicorn/"),
    ("Ray Serve", r"\(ray/"),
)
"""Of the patterns that fit a frame, the first one names its stage."""

EVENT_LOOP, OTHER_THREADS = "event loop, C code", "other threads: torch, Ray"
PROCESSES = {"ServeReplica": "replica", "haproxy": "HAProxy", "": "rest of Ray"}


@dataclass(frozen=True)
class Profile:
    """One load: milliseconds a request by stage and by process, and what the clients saw."""

    title: str
    rows: Mapping[str, float]


def profile(server: Server, requests: Requests, name: str, connections: int, seconds: float) -> Profile:
    """Put one load on a server, and see where its time goes."""
    replica = replica_of(server)
    groups = {"all": Group(requests.bodies[name], connections)}
    server.load(groups, 1.0)
    past_haproxy = replace(server, port=http_port(replica))
    direct = answered(past_haproxy.load(groups, seconds / 2).groups["all"])
    before, threads_before = cpu_seconds(server), thread_seconds(replica)
    with ThreadPoolExecutor(1) as background:
        sampled = background.submit(samples, replica.pid, seconds)
        tally = answered(server.load(groups, seconds).groups["all"])
        stacks = sampled.result()
    by_process = _by_process(before, cpu_seconds(server))
    by_thread = {tid: used - threads_before.get(tid, 0) for tid, used in thread_seconds(replica).items()}
    by_stage = stage_seconds(stacks, by_thread, by_process["replica"])
    spent = {**by_stage, **{f"**{process}**": used for process, used in by_process.items()}}
    count = len(tally.latencies)
    return Profile(
        f"{name}, {connections} conn.",
        {
            "requests/s": count / tally.seconds,
            "median latency": _median(tally),
            "the same past HAProxy": _median(direct),
            **{stage: 1000 * used / count for stage, used in spent.items()},
        },
    )


def replica_of(server: Server) -> psutil.Process:
    """The process that holds the encoder."""
    (replica,) = (process for process in server.processes() if "ServeReplica" in _title(process))
    return replica


def http_port(replica: psutil.Process) -> int:
    """The port at which Serve has HAProxy reach the replica; it takes the lowest free one from 30000."""
    listening = [found.laddr.port for found in replica.net_connections() if found.status == psutil.CONN_LISTEN]
    return min(port for port in listening if port >= 30_000)


def thread_seconds(process: psutil.Process) -> dict[int, float]:
    """Processor time that each thread has used."""
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


def samples(pid: int, seconds: float) -> list[str]:
    """What py-spy saw: `thread (ID): name;outer frame;...;inner frame count`, a line each."""
    with tempfile.TemporaryDirectory(prefix="lakebed-profile-") as folder:
        path = Path(folder) / "stacks"
        command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), "--threads"]
        command += ["--rate", str(SAMPLES_PER_SECOND), "--duration", str(max(1, int(seconds)))]
        subprocess.run([*command, "--format", "raw", "--output", str(path)], capture_output=True, check=True)
        return path.read_text(encoding="utf-8").splitlines()


def stage_seconds(stacks: list[str], by_thread: Mapping[int, float], total: float) -> dict[str, float]:
    """Divide each thread's time among stages by its samples; what no sampled thread used goes to the others."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        thread, *called = frames.split(";")
        tid = int(thread.partition("(")[2].partition(")")[0])
        counts[tid][stage_of(called, in_loop="AsyncIO" in thread)] += int(count)
    spent = Counter({stage: 0.0 for stage, _ in STAGES})
    for tid, stages in counts.items():
        stages.pop("", None)
        for stage, count in stages.items():
            spent[stage] += by_thread.get(tid, 0.0) * count / stages.total()
    spent[OTHER_THREADS] = max(0.0, total - spent.total())
    return dict(spent)


def stage_of(frames: list[str], *, in_loop: bool = False) -> str:
    """The stage of a stack, outermost frame first; empty for a thread that waits."""
    if not frames or WAITING.search(frames[-1]):
        return EVENT_LOOP if in_loop else ""
    for frame in reversed(frames):
        for stage, pattern in STAGES:
            if re.search(pattern, frame):
                return stage
    return EVENT_LOOP if in_loop else OTHER_THREADS


def table(profiles: list[Profile]) -> Iterator[str]:
    """The lines of a Markdown table, a column for each load."""
    yield "| ms a request | " + " | ".join(found.title for found in profiles) + " |"
    yield "|---|" + "---:|" * len(profiles)
    for row in dict.fromkeys(name for found in profiles for name in found.rows):
        yield f"| {row} | " + " | ".join(f"{found.rows.get(row, 0.0):.2f}" for found in profiles) + " |"


def _by_process(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    spent = dict.fromkeys(PROCESSES.values(), 0.0)
    for name, used in after.items():
        kind = next(kind for part, kind in PROCESSES.items() if part in name)
        spent[kind] += used - before.get(name, 0.0)
    return spent


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.name() + " ".join(process.cmdline())
    return ""


def _median(tally: Tally) -> float:
    return 1000 * statistics.median(tally.latencies)


def main() -> None:
    """Profile every load and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakebed-requests-") as folder, our_server(MODEL) as server:
        requests = write_requests(Path(folder))
        found = [profile(server, requests, *load, options.seconds) for load in LOADS]
    print(*table(found), sep="\n")
    print(f"\n{machine()}, load average {os.getloadavg()[1]:.1f}")


if __name__ == "__main__":
    main()
