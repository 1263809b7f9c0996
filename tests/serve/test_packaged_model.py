"""The packaged model behind HTTP: the vector of an item does not depend on the way it took."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Batching, Limits
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import items_of
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.cache import EmbeddingCache
from lakebed.serve.models import ServedModels, load_models
from lakebed.serve.service import Service

WAVE = np.sin(np.linspace(0, 30, 300)).tolist()
INPUTS: list[Any] = [
    "a pump that rattles",
    "a much longer text about a bearing that runs hot after two hours at full load, twice this week",
    {"time_series": [WAVE]},
    {"time_series": [WAVE[:40], WAVE[40:80], WAVE[80:120]]},
    {"text": "a slow oscillation", "time_series": [WAVE]},
    {"time_series": [[1.0]]},
]


@pytest.fixture(scope="module")
def models() -> ServedModels:
    return load_models({"lakebed-embed": resolve_model("lakebed-embed")}, "cpu", Batching())


@pytest.fixture
def client(models: ServedModels) -> Iterator[TestClient]:
    with TestClient(create_api(Service(models, NoKeys(), Limits()))) as client:
        yield client


def vectors(client: TestClient, value: Any, **fields: Any) -> Any:
    answer = client.post("/v1/embeddings", json={"model": "lakebed-embed", "input": value, **fields})
    assert answer.status_code == 200, answer.text
    return np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)


def test_alone_together_at_once_and_offline_an_item_has_one_vector(
    client: TestClient, models: ServedModels
) -> None:
    encoder = models.find("lakebed-embed").encoder
    offline = encode(encoder, items_of(INPUTS)).vectors
    alone = np.concatenate([vectors(client, [value]) for value in INPUTS])
    together = vectors(client, INPUTS)
    with ThreadPoolExecutor(len(INPUTS)) as threads:
        at_once = np.concatenate(list(threads.map(lambda value: vectors(client, [value]), INPUTS)))
    for online in (alone, together, at_once):
        assert np.sum(online * offline, axis=1).min() >= 0.9999


def test_vectors_have_the_model_s_dimensions_and_unit_length_cut_or_not(client: TestClient) -> None:
    for dimensions in (768, 256, 64):
        cut = vectors(client, INPUTS, dimensions=dimensions)
        assert cut.shape == (len(INPUTS), dimensions)
        np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, rtol=1e-5)


def test_a_cached_item_has_the_vector_it_has_without_a_cache(client: TestClient, models: ServedModels) -> None:
    service = Service(models, NoKeys(), Limits(), cache=EmbeddingCache(2**20))
    with TestClient(create_api(service)) as cached:
        vectors(cached, INPUTS[:3])
        for fields in ({}, {"dimensions": 256}):
            cosines = np.sum(vectors(client, INPUTS, **fields) * vectors(cached, INPUTS, **fields), axis=1)
            assert cosines.min() >= 0.9999
