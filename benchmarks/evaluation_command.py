"""`lakebed` as a user runs it, with state in a folder of its own, and how long it took."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def state_in(home: Path) -> Iterator[None]:
    """Keep this process's own state in a folder, too."""
    before = os.environ.get("LAKEBED_HOME")
    os.environ["LAKEBED_HOME"] = str(home)
    try:
        yield
    finally:
        os.environ.pop("LAKEBED_HOME")
        if before is not None:
            os.environ["LAKEBED_HOME"] = before


def seconds_of(home: Path, *arguments: object) -> float:
    """Run a command; returns its seconds, or raises RuntimeError with what it said."""
    environment = {**os.environ, "LAKEBED_HOME": str(home)}
    for variable in ("LAKEBED_TRACKING_URI", "MLFLOW_TRACKING_URI"):
        environment.pop(variable, None)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lakebed", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"lakebed {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    print(f"lakebed {' '.join(map(str, arguments))}: {seconds:,.1f} s")
    return seconds
