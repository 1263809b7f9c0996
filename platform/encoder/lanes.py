"""Lanes: threads that each run whole forwards on one core, beside each other.

Within one forward, cores wait for each other between the parts that they share, and small batches have little to
share: with 8 short texts, two cores are 1.06 times as fast as one, and two lanes nearly twice (decision 0016).
"""

import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache

_STARTS_SECONDS = 60.0


@cache
def lanes(count: int) -> Executor:
    """So many lanes, the same ones for everybody in this process."""
    import torch  # not above: whoever only starts a server needs none of it

    threads, started = torch.get_num_threads(), threading.Barrier(count)
    pool = ThreadPoolExecutor(count, thread_name_prefix="lane", initializer=_take_one_core)
    for ready in [pool.submit(started.wait, _STARTS_SECONDS) for _ in range(count)]:
        ready.result()
    # What the lanes have set for themselves, torch takes as the default of every later thread, too.
    torch.set_num_threads(threads)
    return pool


os.register_at_fork(after_in_child=lanes.cache_clear)  # a child has none of its parent's threads


def _take_one_core() -> None:
    import torch

    torch.get_num_threads()  # a thread's first question sets it to the default, so that comes before
    torch.set_num_threads(1)
