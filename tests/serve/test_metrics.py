"""What is measured of requests, and that labels have few values whatever clients send."""

import ast
import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic_core.core_schema import ErrorType
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from lakebed.platform.config.serve import Limits
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.serve import metrics as catalogue
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.models import ServedModel, ServedModels
from lakebed.serve.scheduler import Scheduler
from lakebed.serve.service import Service

ROOT = Path(__file__).parents[2]
ROUTE = "/v1/embeddings"
SERIES = [[0.5] * 32]

ClientFactory = Callable[..., TestClient]


def embed(client: TestClient, value: Any, **fields: Any) -> int:
    return client.post(ROUTE, json={"model": "fake", "input": value, **fields}).status_code


def test_requests_are_counted_by_route_status_and_configured_name(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(metrics=metrics)
    for model in ("fake", "org/fake", "fake@unversioned", "never heard of"):
        client.post(ROUTE, json={"model": model, "input": "x"})
    client.get("/v1/models/org/fake")
    assert {key: n for key, n in metrics.counts.items() if key[0] == "lakebed_requests_total"} == {
        ("lakebed_requests_total", ROUTE, "200", "fake"): 2,
        ("lakebed_requests_total", ROUTE, "200", "org/fake"): 1,
        ("lakebed_requests_total", ROUTE, "404", "none"): 1,
        ("lakebed_requests_total", "/v1/models/{name:path}", "200", "none"): 1,
    }


def test_items_and_tokens_are_those_of_the_usage(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(metrics=metrics)
    assert embed(client, ["three short words", {"text": "one", "time_series": SERIES}]) == 200
    assert metrics.counts["lakebed_items_total", "fake"] == 2
    assert metrics.counts["lakebed_tokens_total", "fake", "text"] == 4
    assert metrics.counts["lakebed_tokens_total", "fake", "signal"] == 2
    assert metrics.counts["lakebed_truncated_tokens_total", "fake"] == 0


def test_stages_are_timed_for_answers_and_not_for_refusals(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(metrics=metrics)
    assert (embed(client, "x"), embed(client, "y"), embed(client, [])) == (200, 200, 400)
    stages = {key[1]: len(values) for key, values in metrics.values.items() if key[0] == "lakebed_stage_seconds"}
    assert stages == {"prepare": 2, "queue": 2, "forward": 2, "write": 2}
    assert len(metrics.values["lakebed_request_seconds", ROUTE, "fake"]) == 2


def test_refusals_are_counted_by_code_and_pydantic_s_codes_as_one(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(Limits(max_inputs=1), metrics=metrics)
    for value, fields in [([], {}), (["a", "b"], {}), ("x", {"dimensions": 0}), ("x", {"encoding_format": 5})]:
        assert embed(client, value, **fields) == 400
    client.get("/nowhere")
    refused = {key[1]: n for key, n in metrics.counts.items() if key[0] == "lakebed_refused_total"}
    assert refused == {"empty_input": 1, "too_many_inputs": 1, "invalid_field": 2, "not_found": 1}


def test_no_label_says_what_a_client_sent(client_of: ClientFactory, metrics: Any) -> None:
    client = client_of(metrics=metrics)
    marker = "zyzzyva"
    client.request(marker.upper(), f"/{marker}", headers={"x-request-id": marker})
    client.post(f"/v1/models/{marker}?{marker}=1")
    client.get(f"/v1/models/{marker}")
    for body in ({"model": marker, "input": "x"}, {"model": "fake", "input": marker, marker: 1}, [marker]):
        client.post(ROUTE, json=body, headers={"authorization": marker})
    client.post(ROUTE, json={"model": f"fake@{marker}", "input": "x"})
    labels = {label for key in metrics.series() for label in key}
    assert not [label for label in labels if marker in label.lower()]


def test_a_batch_is_measured_by_rows_tokens_and_padding(metrics: Any) -> None:
    catalogue.record_batch(metrics, "fake", np.array([8, 8, 4]))
    assert metrics.values["lakebed_batch_rows", "fake"] == [3]
    assert metrics.values["lakebed_batch_tokens", "fake"] == [20]
    assert metrics.values["lakebed_batch_padding_ratio", "fake"] == [pytest.approx(4 / 24)]


class Gate:
    """A forward that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def forward(self, work: Prepared) -> VectorArray:
        assert self.open.wait(30)
        return FakeEncoder(8).forward(work)


def test_gauges_tell_what_is_inside_and_a_client_that_left_is_counted(metrics: Any) -> None:
    gate = Gate()

    async def story(service: Service) -> None:
        app = create_api(service)
        asked = asyncio.create_task(ask(app, b'{"model": "gated", "input": "three short words"}'))
        await until(lambda: inside() == (1, 3))
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert inside() == (0, 0)

    def inside() -> tuple[float, float]:
        return metrics.reads["lakebed_queued_requests",](), metrics.reads["lakebed_queued_tokens",]()

    with ThreadPoolExecutor(1) as thread:
        scheduler = Scheduler(gate.forward, thread, Budget(100, 10))
        models = ServedModels({"gated": ServedModel(FakeEncoder(8), scheduler, "7", 0)})
        asyncio.run(story(Service(models, NoKeys(), Limits(), metrics=metrics)))
        gate.open.set()
    digest = FakeEncoder(8).info.digest
    assert metrics.reads["lakebed_model_info", "gated", "7", digest]() == 1
    assert metrics.counts["lakebed_cancelled_total",] == 1
    assert metrics.counts["lakebed_requests_total", ROUTE, "499", "gated"] == 1


async def ask(app: ASGIApp, body: bytes) -> None:
    """A request straight to the application, so that its task can be cancelled as Serve does it."""
    scope = {"type": "http", "method": "POST", "path": ROUTE, "raw_path": ROUTE.encode(), "query_string": b""}
    scope |= {"headers": [], "http_version": "1.1", "scheme": "http", "server": ("x", 1), "client": ("x", 2)}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_message: Any) -> None:
        """Nobody reads the answer."""

    await app(scope, receive, send)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0)


def test_names_follow_prometheus() -> None:
    names = [metric.name for metric in catalogue.CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in catalogue.CATALOGUE:
        assert re.fullmatch(r"lakebed_[a-z_]+", metric.name)
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == isinstance(metric, catalogue.Counter)
        assert all(re.fullmatch("[a-z]+", label) for label in metric.labels)
        if isinstance(metric, catalogue.Histogram):
            assert list(metric.buckets) == sorted(set(metric.buckets))
            assert metric.buckets[0] > 0


def test_every_metric_of_the_module_is_in_the_catalogue() -> None:
    kinds = (catalogue.Counter, catalogue.Gauge, catalogue.Histogram)
    assert {value for value in vars(catalogue).values() if isinstance(value, kinds)} == set(catalogue.CATALOGUE)


def test_codes_are_written_out_in_the_source_so_there_are_few() -> None:
    """Passed on as they are, or a literal: never made from what a client sent."""
    passed_on = {"code", "error.code", "faults[0]['type']", "m.code_label(record.code or 'unknown')"}
    for path in [*(ROOT / "serve").rglob("*.py"), ROOT / "platform" / "items.py", ROOT / "platform" / "series.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for keyword in node.keywords if isinstance(node, ast.Call) else []:
                if keyword.arg == "code":
                    assert isinstance(keyword.value, ast.Constant) or ast.unparse(keyword.value) in passed_on, path


def test_pydantic_s_codes_share_a_label() -> None:
    assert {catalogue.code_label(code) for code in get_args(ErrorType)} == {catalogue.FAULTY_FIELD}
    assert catalogue.code_label("model_not_found") == "model_not_found"
