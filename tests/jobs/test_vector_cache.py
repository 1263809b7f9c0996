from collections import OrderedDict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lakebed.jobs.vector_cache import VectorCache
from lakebed.platform.encoder.prepared import IntArray, VectorArray

BATCHES = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), max_size=20)


def of(numbers: list[int]) -> tuple[list[str], VectorArray, IntArray]:
    """Keys, vectors and counts that tell which number they belong to."""
    column = np.array(numbers, np.int64).reshape(-1, 1)
    return [str(number) for number in numbers], np.repeat(column, 4, 1).astype(np.float32), np.repeat(column, 2, 1)


def cache_of(slots: int) -> VectorCache:
    return next(cache for size in range(10**6) if (cache := VectorCache(size, 4)).slots == slots)


@settings(deadline=None)
@given(st.integers(0, 10), BATCHES)
def test_the_newest_vectors_are_found_with_their_counts_and_the_oldest_are_gone(
    slots: int, batches: list[list[int]]
) -> None:
    cache, model = cache_of(slots), OrderedDict[int, None]()
    for batch in batches:
        cache.store(*of(batch))
        for number in [number for number in batch if number not in model][:slots]:
            model[number] = None
        while len(model) > slots:
            model.popitem(last=False)
        places, vectors, counts = cache.find(of(list(range(31)))[0])
        assert places.tolist() == sorted(model)
        assert vectors[:, 0].tolist() == counts[:, 1].tolist() == sorted(model)
        assert len(cache) == len(model)


def test_nothing_fits_into_less_than_a_vector() -> None:
    cache = VectorCache(100, 64)
    cache.store(["a"], np.ones((1, 64), np.float32), np.ones((1, 2), np.int64))
    assert cache.find(["a"])[0].tolist() == []


def test_an_entry_takes_no_more_than_it_is_counted_for() -> None:
    import tracemalloc

    keys = [f"{number:032x}" for number in range(20_000)]
    vectors, counts = np.ones((20_000, 16), np.float32), np.ones((20_000, 2), np.int64)
    tracemalloc.start()
    cache = VectorCache(20_000 * (64 + 220), 16)
    cache.store([f"{number:032x}" for number in range(20_000)], vectors, counts)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cache) == len(keys)
    assert held <= 20_000 * (64 + 220)
