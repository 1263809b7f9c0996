"""Waiting for something that will come about, for no longer than it may take."""

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], seconds: float = 90) -> None:
    """Look again and again until something holds; fails after so many seconds."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"did not come about in {seconds:g} s"
        time.sleep(0.05)  # between two looks at the condition
