"""How the job benchmarks watch the memory of a run."""

import subprocess
import sys

from benchmarks.job_memory import Peak

MIB = 2**20
CHILD = "held = bytearray(b'x') * (64 * 2**20); print(flush=True); input()"
PARENT = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {CHILD!r}]))"


def _peak(code: str) -> Peak:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        peak = Peak()
        peak.sample(process.pid)
        process.communicate("\n")
    return peak


def test_the_memory_of_a_process_below_counts():
    alone, above = _peak(CHILD), _peak(PARENT)
    assert 64 * MIB < alone.total < above.total
    assert (len(alone.processes), len(above.processes)) == (1, 2)


def test_the_peak_is_the_largest_sample():
    peak = _peak(CHILD)
    before = peak.total
    peak.sample(0)
    assert peak.total == before == sum(peak.by_process.values())
