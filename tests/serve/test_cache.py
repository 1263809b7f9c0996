"""The cache of vectors: its bound, what it keeps, and that no answer shows whether it was used."""

import gc
import secrets
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lakebed.serve.cache import CachedItem, EmbeddingCache

ClientFactory = Callable[..., TestClient]

INPUTS: list[Any] = [
    "one",
    "two words",
    {"time_series": [[0.5] * 40]},
    "one",
    {"text": "one", "time_series": [[0.5] * 40]},
]


def entry(size: int) -> CachedItem:
    return CachedItem(bytes(4 * size), 1, 0, 0)


ENTRY = entry(8).size


@settings(deadline=None)
@given(
    st.integers(0, 6 * ENTRY),
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 9), max_size=4), st.integers(1, 300))),
)
def test_the_bound_holds_and_the_most_recent_survive(bound: int, calls: list[tuple[bool, list[int], int]]) -> None:
    cache, recent = EmbeddingCache(bound), dict[str, CachedItem]()
    for is_store, numbers, size in calls:
        keys = list(dict.fromkeys(map(str, numbers)))
        if is_store:
            cache.store("model", {key: entry(size) for key in keys})
            for key in keys if entry(size).size <= bound else []:
                recent.pop(key, None)
                recent[key] = entry(size)
            while sum(item.size for item in recent.values()) > bound:
                del recent[next(iter(recent))]
        else:
            assert cache.find("model", keys) == {key: recent[key] for key in keys if key in recent}
            for key in keys:
                if key in recent:
                    recent[key] = recent.pop(key)
        assert cache.bytes == sum(item.size for item in recent.values()) <= bound
        assert len(cache) == len(recent)


def test_models_do_not_share_entries() -> None:
    cache = EmbeddingCache(10_000)
    cache.store("one", {"key": entry(8)})
    assert cache.find("other", ["key"]) == {}


def test_what_had_to_go_is_told() -> None:
    cache = EmbeddingCache(2 * ENTRY)
    assert cache.store("model", {"a": entry(8), "b": entry(8)}) == 0
    assert cache.store("model", {"c": entry(8)}) == 1
    assert list(cache.find("model", "abc")) == ["b", "c"]


def test_bytes_are_those_that_python_takes() -> None:
    gc.collect()
    tracemalloc.start()
    cache = EmbeddingCache(2**30)
    for _ in range(2000):
        cache.store("model", {secrets.token_hex(16): CachedItem(secrets.token_bytes(1536), 7, 0, 1000)})
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * cache.bytes < taken < cache.bytes


def vectors(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return np.array([each["embedding"] for each in answer.json()["data"]], np.float32)


def embed(client: TestClient, value: Any, **fields: Any) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": "fake", "input": value, **fields})


def test_vectors_and_usage_are_the_same_with_and_without(client_of: ClientFactory) -> None:
    plain, cached = client_of(), client_of(cache=EmbeddingCache(2**20))
    for value in (INPUTS, INPUTS[:2], ["new", *INPUTS, "newer"], INPUTS):
        for fields in ({}, {"dimensions": 16}):
            expected, answer = embed(plain, value, **fields), embed(cached, value, **fields)
            np.testing.assert_array_equal(vectors(answer), vectors(expected))
            assert answer.json()["usage"] == expected.json()["usage"]


def test_an_item_is_computed_once(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(metrics=metrics, cache=EmbeddingCache(2**20))
    for value in (INPUTS, INPUTS, ["two words", "new"]):
        embed(client, value)
    assert sum(metrics.values["lakebed_batch_rows", "fake"]) == 4 + 0 + 1
    assert metrics.counts["lakebed_cache_misses_total",] == 5
    assert metrics.counts["lakebed_cache_hits_total",] == 1 + 5 + 1
    assert metrics.counts["lakebed_items_total", "fake"] == 5 + 5 + 2
    assert metrics.reads["lakebed_cache_bytes",]() > 5 * 64 * 4


def test_a_cache_too_small_for_anything_changes_no_answer(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(metrics=metrics, cache=EmbeddingCache(2 * ENTRY))
    expected = vectors(embed(client_of(), INPUTS))
    for _ in range(2):
        np.testing.assert_array_equal(vectors(embed(client, INPUTS)), expected)
    assert metrics.counts["lakebed_cache_evictions_total",] > 0


def test_a_cached_text_over_the_window_is_refused_as_ever(client_of: ClientFactory) -> None:
    client = client_of(cache=EmbeddingCache(2**20))
    text = "word " * 300
    assert embed(client, text, truncate="end").json()["usage"]["truncated_tokens"] == 44
    refused = embed(client, text)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert embed(client, text, truncate="end").json()["usage"]["truncated_tokens"] == 44
