"""Whether a job's memory depends on the size of its table: the peak of all its processes, small and large.

The memory of a process is its proportional set size (PSS, proc(5)), which counts a page that n processes share as
one n-th in each: of all together, shared libraries and Ray's object store count once.
"""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.job_command import Ran, embed
from benchmarks.job_rows import write_texts

SAMPLE_SECONDS = 0.5
MODEL = "fake:64"


@dataclass
class Peak:
    """The most memory that a process and all below it held at once, in bytes, and who held it then.

    `processes` are the ids of all that were ever seen.
    """

    total: int = 0
    by_process: dict[str, int] = field(default_factory=dict)
    processes: set[int] = field(default_factory=set)

    def sample(self, root: int) -> None:
        """Look once."""
        held = {}
        for process in _processes(root):
            name = f"{process.pid} {_name(process)}"
            held[name] = _proportional_set_size(process.pid)
            self.processes.add(process.pid)
        total = sum(held.values())
        if total > self.total:
            self.total, self.by_process = total, held


@contextmanager
def peak_memory(root: int) -> Iterator[Peak]:
    """Sample the memory of a process and all below it for the length of a block."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak.sample(root)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sizes of the two tables."""
    parser.add_argument("--memory-rows", type=int, nargs=2, default=[20_000, 2_000_000], metavar=("FEW", "MANY"))


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run a job on a small table and on a large one, each with a Ray of its own."""
    (few, first), (many, second) = (_peak_of(rows) for rows in options.memory_rows)
    return {
        "memory_growth": second.total / first.total,
        "memory_mib_few": first.total / 2**20,
        "memory_mib_many": second.total / 2**20,
        "memory_processes_few": len(first.processes),
        "memory_processes_many": len(second.processes),
        "memory_rows_few": few.rows,
        "memory_rows_many": many.rows,
        "memory_rows_per_second_many": many.per_second,
    }


def _peak_of(rows: int) -> tuple[Ran, Peak]:
    found: list[Peak] = []

    @contextmanager
    def watch(root: int) -> Iterator[None]:
        with peak_memory(root) as peak:
            found.append(peak)
            yield

    with TemporaryDirectory(prefix="lakebed-memory-") as folder:
        write_texts(Path(folder) / "source", rows)
        run = embed(Path(folder) / "source", Path(folder) / "sink", MODEL, watch=watch)
    (peak,) = found
    print(f"memory: {rows:,} rows, {peak.total / 2**20:,.0f} MiB at the peak, {run.per_second:,.0f} rows/s")
    for name, size in sorted(peak.by_process.items(), key=lambda entry: -entry[1]):
        print(f"  {size / 2**20:>7,.0f} MiB  {name}")
    return run, peak


def _processes(root: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "ended"


def _proportional_set_size(pid: int) -> int:
    """Return bytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return sum(sizes) * 1024
