"""The encoder asked again: alone, in other company, over HTTP, in other versions; and what it costs."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
import uvicorn

from lakebed.eval.entries import source_of, task_of
from lakebed.eval.run import evaluate
from lakebed.eval.tasks.consistency import overlap
from lakebed.eval.tasks.protocol import EncoderTask, TaskResult, lower_is_better
from lakebed.platform.config.entries.consistency import Consistency
from lakebed.platform.config.entries.cost import Cost
from lakebed.platform.config.serve import Batching, Limits
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import ConfigError, ModelNotFoundError, UnreachableError
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.models import load_models
from lakebed.serve.service import Service


def measured(entry: Consistency | Cost, encoder: Encoder) -> TaskResult:
    suite = Suite(name="again", description="asked again", entries=(entry,))
    return evaluate(encoder, suite).measured[0].result


@dataclass(frozen=True)
class Crowded(FakeEncoder):
    """An encoder at fault: the largest batch around an item shows in its vector."""

    def forward(self, work: Prepared) -> VectorArray:
        vectors = super().forward(work)
        vectors[:, 0] += 0.1 * min(len(work), 20)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextmanager
def served(port: int, models: Sequence[str] = ("fake:64",)) -> Iterator[str]:
    """A real server of lakebed's interface on a thread, without keys."""
    named = {name: resolve_model(name) for name in models}
    app = create_api(Service(load_models(named, "cpu", Batching()), NoKeys(), Limits()))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        url = f"http://127.0.0.1:{port}/v1"
        transport = httpx.HTTPTransport(retries=8)  # each waits twice as long for the port to listen
        with httpx.Client(transport=transport) as client:
            client.get(f"{url}/models")
        yield url
    finally:
        server.should_exit = True
        thread.join()


def test_an_encoder_that_looks_at_no_company_is_consistent() -> None:
    result = measured(Consistency(task="consistency", pool=30, alone=8), FakeEncoder(64))
    for name in ("alone", "order", "batch"):
        assert result.metrics[f"{name}_cosine_min"] == pytest.approx(1, abs=1e-6)
    assert result.metrics["float16_top10"] > 0.95
    assert 0.7 < result.metrics["int8_top10"] <= 1
    for one in result.examples:
        assert one.scores.mean() == pytest.approx(result.metrics[one.metric])


def test_an_encoder_that_looks_at_its_batch_is_found_out() -> None:
    result = measured(Consistency(task="consistency", pool=30, alone=8), Crowded(64))
    assert result.metrics["alone_cosine_min"] < 0.9
    assert result.metrics["batch_cosine_min"] < 0.99


def test_neighbours_of_another_model_are_others() -> None:
    same, other = (
        measured(Consistency(task="consistency", pool=40, alone=1, baseline=baseline), FakeEncoder(64))
        for baseline in ("fake:64", "fake:32")
    )
    assert same.metrics["baseline_top10"] == 1
    assert other.metrics["baseline_top10"] < 0.7  # its vectors begin with the same numbers


def test_overlap_looks_at_no_order() -> None:
    assert overlap(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 1], [6, 7, 8]])).tolist() == [1, 1 / 3]


def test_a_baseline_that_does_not_exist_is_named_before_any_work() -> None:
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        task_of(Consistency(task="consistency", baseline="no-such-model@3"))


def test_served_vectors_of_texts_and_signals_are_compared(free_port: int) -> None:
    with served(free_port) as url:
        entry = Consistency(task="consistency", pool=20, alone=20, served=f"{url}?model=fake:64")
        result = measured(entry, FakeEncoder(64))
        assert result.metrics["served_cosine_min"] == pytest.approx(1, abs=1e-6)
        with pytest.raises(ConfigError, match="gives vectors of 64 dimensions, not 32"):
            measured(entry, FakeEncoder(32))
        with pytest.raises(ModelNotFoundError, match="HTTP 404"):
            measured(entry.model_copy(update={"served": f"{url}?model=another"}), FakeEncoder(64))


def test_a_server_that_is_away_is_one_line(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/v1"
    with pytest.raises(UnreachableError, match=f"{url}: no server answers"):
        measured(Consistency(task="consistency", pool=20, served=f"{url}?model=fake"), FakeEncoder(64))


def test_a_url_with_a_password_in_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="served"):
        Consistency.parse({"task": "consistency", "served": "http://me:secret@host/v1?model=m"}, where="suite")


def test_vectors_alone_do_not_say_how_they_were_made() -> None:
    for entry in (Consistency(task="consistency", pool=4), Cost(task="cost", pool=4)):
        task = task_of(entry)
        assert isinstance(task, EncoderTask)
        with pytest.raises(ConfigError, match="there are vectors only"):
            task.run(next(source_of(entry).load()), {})


def test_costs_count_rows_tokens_and_samples_and_are_no_quality() -> None:
    entry = Cost(task="cost", pool=20, repeats=1, alone=3)
    result = measured(entry, FakeEncoder(64))
    (data,) = source_of(entry).load()
    rate = result.metrics["signal_rows_per_second"]
    samples = sum(item.samples for item in data.parts["signal"].items)
    assert result.metrics["signal_samples_per_second"] == pytest.approx(rate * samples / 20)
    assert result.metrics["text_latency_p95_ms"] >= result.metrics["text_latency_p50_ms"] > 0
    assert "signal_tokens_per_second" not in result.metrics
    assert not task_of(entry).headlines
    assert lower_is_better("synthetic-20/cost/text_latency_p50_ms")
