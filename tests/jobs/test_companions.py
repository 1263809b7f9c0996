"""Processes that work beside what is measured begin, go on and end with it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.waiting import wait_until

from lakebed.jobs.companions import companions
from lakebed.platform.errors import LakebedError


def counting(folder: Path) -> Callable[[], object]:
    """Work that leaves a growing file, named by its process."""

    def again() -> None:
        with (folder / str(os.getpid())).open("a") as file:
            file.write("x")
        time.sleep(0.01)  # the work itself: takes a moment, and little CPU

    return again


def refusing() -> Callable[[], object]:
    raise ValueError("no such device")


def dying() -> Callable[[], object]:
    return lambda: os._exit(3)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_each_has_begun_when_the_block_does_and_goes_on_until_it_ends(tmp_path: Path) -> None:
    with companions(2, partial(counting, tmp_path)):
        began = sizes(tmp_path)
        assert len(began) == 2
        assert str(os.getpid()) not in began
        wait_until(lambda: all(size > began[name] for name, size in sizes(tmp_path).items()))
    assert not any(psutil.pid_exists(int(name)) for name in began)


def test_none_are_started_for_one_encoder(tmp_path: Path) -> None:
    with companions(0, partial(counting, tmp_path)):
        assert sizes(tmp_path) == {}


@pytest.mark.parametrize(("work", "why"), [(refusing, "ValueError: no such device"), (dying, "its process ended")])
def test_one_that_cannot_work_is_an_error(work: Callable[[], Callable[[], object]], why: str) -> None:
    with pytest.raises(LakebedError, match=why), companions(1, work):
        raise AssertionError("the block must not begin")


def test_they_end_when_the_process_that_measures_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "measures.py"
    script.write_text(
        "import os, sys, time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from lakebed.jobs.companions import companions\n"
        f"from {counting.__module__} import counting\n"
        "if __name__ == '__main__':\n"
        "    with companions(1, partial(counting, Path(sys.argv[1]))):\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    folder = tmp_path / "counts"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, str(script), str(folder)], check=False, env=environment, timeout=60)
    [name] = sizes(folder)
    wait_until(lambda: not psutil.pid_exists(int(name)))
